import { subscribe } from "walcast-client";

/**
 * The newest rows of a feed, newest first, and how the subscription fares. It ends with the component that uses it.
 * `options` are those of `subscribe`; `limit` is how many rows are kept.
 */
export function useFeed(url, { limit = 50, ...options } = {}) {
  let rows = $state.raw([]);
  let status = $state.raw({ state: "connecting", message: "Connecting." });
  $effect(() => {
    const feed = subscribe(url, {
      last: limit,
      ...options,
      onStatus: (now) => (status = now),
      onReset: () => (rows = []),
      onEvent: (row) => (rows = [row, ...rows].slice(0, limit)),
    });
    return () => feed.close();
  });
  return {
    get rows() {
      return rows;
    },
    get status() {
      return status;
    },
  };
}
