import { onScopeDispose, shallowReadonly, shallowRef } from "vue";
import { subscribe } from "walcast-client";

/**
 * The newest rows of a feed, newest first, and how the subscription fares. It ends with the component that uses it.
 * `options` are those of `subscribe`; `limit` is how many rows are kept.
 */
export function useFeed(url, { limit = 50, ...options } = {}) {
  const rows = shallowRef([]);
  const status = shallowRef({ state: "connecting", message: "Connecting." });
  const feed = subscribe(url, {
    last: limit,
    ...options,
    onStatus: (now) => (status.value = now),
    onReset: () => (rows.value = []),
    onEvent: (row) => (rows.value = [row, ...rows.value].slice(0, limit)),
  });
  onScopeDispose(() => feed.close());
  return { rows: shallowReadonly(rows), status: shallowReadonly(status) };
}
