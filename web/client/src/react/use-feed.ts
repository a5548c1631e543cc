"use client";
// A feed as React state: the newest rows, the connection's status, how many rows there are.
import { useEffect, useMemo, useReducer, useRef } from "react";
import { FeedError } from "../errors.js";
import { countRows, type Count } from "../history.js";
import { compareIds, type Id } from "../ids.js";
import { LAST_MAX, resolveTarget, type FeedStatus, type SubscribeOptions } from "../options.js";
import type { Row } from "../protocol.js";
import { subscribe } from "../subscription.js";
import { connectionKey, latestToken } from "./connection-key.js";

export interface UseFeedOptions<R extends object = Row> extends Omit<SubscribeOptions<R>, "signal"> {
  /** How many of the newest rows are kept in `events`. Default 100; so many are also asked for at the start, unless `since` or `last` says otherwise. */
  limit?: number;
}

export interface Feed<R extends object = Row> {
  /** Newest first, at most `limit`. No row is skipped, however many arrive between two renders. */
  readonly events: readonly R[];
  readonly status: FeedStatus;
  /** Rows of the table that match the filters; null while it is not known. Counted whenever the feed goes live, and with each row since. */
  readonly total: number | null;
  /** True where there are more than `total`, which the server counts up to 10,000. */
  readonly totalIsCapped: boolean;
  /** What is wrong now, null for nothing. */
  readonly error: Error | null;
}

const LIMIT = 100;
// A count takes far less time than so many rows take to arrive.
const UNCOUNTED_MAX = 1_000;

export function useFeed<R extends object = Row>(url: string, options: UseFeedOptions<R> = {}): Feed<R> {
  const [state, dispatch] = useReducer(reduce<R>, INITIAL);
  const latest = useRef(options);
  useEffect(() => {
    latest.current = options;
  });
  const limit = options.limit ?? LIMIT;
  const key = connectionKey(url, options);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key stands for the address and for the options of a connection
  useEffect(() => {
    dispatch({ type: "started" });
    try {
      return follow(url, latest, limit, dispatch);
    } catch (error) {
      dispatch({ type: "rejected", error: error as Error });
      return undefined;
    }
  }, [key, limit]);
  const { events, status, count, error } = state;
  return useMemo(
    () => ({ events, status, total: count?.total ?? null, totalIsCapped: count?.totalIsCapped ?? false, error }),
    [events, status, count, error],
  );
}

/** Subscribes and counts for as long as the returned function is not called. */
function follow<R extends object>(url: string, latest: { current: UseFeedOptions<R> }, limit: number, dispatch: (action: Action<R>) => void): () => void {
  const { limit: _, ...options } = latest.current;
  const wanted = { ...withStart(url, options, limit), ...latestToken(latest) };
  const target = resolveTarget(url, wanted);
  let counting: AbortController | null = null;
  let counted = false;

  function count(): void {
    if (!target.historyUrl) return;
    counting?.abort();
    counting = new AbortController();
    const { signal } = counting;
    counted = true;
    dispatch({ type: "counting" });
    countRows(target, signal).then(
      (count) => !signal.aborted && dispatch({ type: "counted", count }),
      () => (counted = false),
    );
  }

  const subscription = subscribe<R>(url, {
    ...wanted,
    onEvent: (row, meta) => {
      dispatch({ type: "event", row, id: meta.id, truncated: meta.truncated.length > 0, limit });
      latest.current.onEvent?.(row, meta);
    },
    onStatus: (status) => {
      dispatch({ type: "status", status });
      if (status.state === "live" || (status.state === "polling" && !counted)) count();
      latest.current.onStatus?.(status);
    },
    onReset: (reset) => {
      counting?.abort();
      dispatch({ type: "reset" });
      latest.current.onReset?.(reset);
    },
    onError: (error) => {
      dispatch({ type: "failed", error });
      latest.current.onError?.(error);
    },
  });
  return () => {
    counting?.abort();
    subscription.close();
  };
}

function withStart<R extends object>(url: string, options: SubscribeOptions<R>, limit: number): SubscribeOptions<R> {
  const given = options.since !== undefined || options.last !== undefined || /[?&](since|last)=/.test(url);
  return given ? options : { ...options, last: Math.min(limit, LAST_MAX) };
}

interface State<R> {
  readonly events: readonly R[];
  readonly status: FeedStatus;
  readonly error: Error | null;
  readonly count: Count | null;
  /** Ids that arrived while a count is on its way, null while none is: those it does not include are added to it. */
  readonly uncounted: readonly Id[] | null;
}

type Action<R> =
  | { type: "started" }
  | { type: "event"; row: R; id: Id; truncated: boolean; limit: number }
  | { type: "status"; status: FeedStatus }
  | { type: "counting" }
  | { type: "counted"; count: Count }
  | { type: "reset" }
  | { type: "failed"; error: FeedError }
  | { type: "rejected"; error: Error };

const INITIAL: State<never> = { events: [], status: { state: "connecting", transport: null, message: "Connecting." }, error: null, count: null, uncounted: null };

// A reducer, because React runs every action that was dispatched between two renders: nothing is lost to batching.
function reduce<R>(state: State<R>, action: Action<R>): State<R> {
  switch (action.type) {
    case "started":
      return INITIAL;
    case "event":
      return {
        ...state,
        events: [action.row, ...state.events].slice(0, action.limit),
        count: state.count && including(state.count, [action.id]),
        uncounted: state.uncounted && [...state.uncounted, action.id].slice(-UNCOUNTED_MAX),
        error: isAboutOneRow(state.error) ? null : state.error,
      };
    case "status":
      return { ...state, status: action.status, error: action.status.state === "live" && !isAboutOneRow(state.error) ? null : state.error };
    case "counting":
      return { ...state, uncounted: [] };
    case "counted":
      return { ...state, count: including(action.count, state.uncounted ?? []), uncounted: null };
    case "reset":
      return { ...state, events: [], count: null, uncounted: null };
    case "failed":
      return { ...state, error: action.error };
    case "rejected":
      return { ...state, error: action.error, status: { state: "closed", transport: null, message: action.error.message } };
  }
}

function including(count: Count, arrived: readonly Id[]): Count {
  const { newest } = count;
  const added = arrived.filter((id) => newest === null || compareIds(id, newest) > 0).length;
  return count.totalIsCapped || added === 0 ? count : { ...count, total: count.total + added };
}

// Such an error is over with the next row that is whole.
function isAboutOneRow(error: Error | null): boolean {
  return error instanceof FeedError && (error.code === "row_truncated" || error.code === "malformed_frame");
}
