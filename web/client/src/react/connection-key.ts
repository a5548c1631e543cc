// When options given anew on each render mean another subscription.
import { following } from "../credentials.js";
import type { FeedState, SubscribeOptions } from "../options.js";

/** Equal for options that lead to the same subscription. Callbacks and a `token` function are not part of it: their latest is used. */
export function connectionKey(url: string, options: SubscribeOptions<never>): string {
  const { since, epoch, last, filters, token, historyUrl, sseUrl, headers, timing, share, multiplex } = options;
  const parts = [url, since, epoch, last, filters, typeof token === "string" ? token : null, historyUrl, sseUrl, headers, timing, share, multiplex];
  return JSON.stringify(parts, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value));
}

export function isOpen(state: FeedState): boolean {
  return state === "replaying" || state === "live";
}

/** As an option: the function that `latest` holds whenever a token is needed; nothing where the token is none. */
export function latestToken(latest: { readonly current: Pick<SubscribeOptions<never>, "token"> }): Pick<SubscribeOptions<never>, "token"> {
  const first = latest.current.token;
  if (typeof first !== "function") return {};
  return { token: following(() => (typeof latest.current.token === "function" ? latest.current.token : first)) };
}
