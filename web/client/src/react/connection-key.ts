// When options given anew on each render mean another subscription.
import type { FeedState, SubscribeOptions } from "../options.js";

/** Equal for options that lead to the same subscription. Callbacks and a `token` function are not part of it: their latest is used. */
export function connectionKey(url: string, options: SubscribeOptions<never>): string {
  const { since, epoch, last, filters, token, historyUrl, headers, timing } = options;
  const parts = [url, since, epoch, last, filters, typeof token === "string" ? token : null, historyUrl, headers, timing];
  return JSON.stringify(parts, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value));
}

export function isOpen(state: FeedState): boolean {
  return state === "replaying" || state === "live";
}
