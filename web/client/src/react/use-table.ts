"use client";
// A captured table as React state: the rows as they are now.
import { useEffect, useMemo, useReducer, useRef } from "react";
import type { FeedStatus } from "../options.js";
import type { Row } from "../protocol.js";
import { subscribeTable, type TableKey, type TableOptions } from "../table.js";
import { connectionKey, latestToken } from "./connection-key.js";

export type UseTableOptions<R extends object = Row> = Omit<TableOptions<R>, "signal">;

export interface Table<R extends object = Row> {
  /** The rows, in the order of the key at first, later ones at the end. Null until the copy is whole. */
  readonly rows: readonly R[] | null;
  /** The same by their keys: the value of the key's column, or the JSON array of the values of several. */
  readonly byKey: ReadonlyMap<TableKey, R> | null;
  readonly status: FeedStatus;
  /** What is wrong now, null for nothing. */
  readonly error: Error | null;
}

/** Holds a copy of the table behind a feed of changes for as long as the component is there. */
export function useTable<R extends object = Row>(url: string, options: UseTableOptions<R> = {}): Table<R> {
  const [state, dispatch] = useReducer(reduce<R>, INITIAL);
  const latest = useRef(options);
  useEffect(() => {
    latest.current = options;
  });
  const key = connectionKey(url, options);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key stands for the address and for the options of a connection
  useEffect(() => {
    dispatch({ type: "started" });
    try {
      return follow(url, latest, dispatch);
    } catch (error) {
      dispatch({ type: "rejected", error: error as Error });
      return undefined;
    }
  }, [key]);
  const { held, version, status, error } = state;
  // biome-ignore lint/correctness/useExhaustiveDependencies: the map that is held changes in place, and its version with it
  return useMemo(() => ({ rows: held && [...held.values()], byKey: held && new Map(held), status, error }), [held, version, status, error]);
}

/** Keeps the copy for as long as the returned function is not called. */
function follow<R extends object>(url: string, latest: { current: UseTableOptions<R> }, dispatch: (action: Action<R>) => void): () => void {
  const table = subscribeTable<R>(url, {
    ...latest.current,
    ...latestToken(latest),
    onChange: (change) => {
      dispatch({ type: "changed", held: table.rows });
      latest.current.onChange?.(change);
    },
    onStatus: (status) => {
      dispatch({ type: "status", status });
      latest.current.onStatus?.(status);
    },
    onError: (error) => {
      dispatch({ type: "failed", error });
      latest.current.onError?.(error);
    },
  });
  return () => table.close();
}

interface State<R> {
  readonly held: ReadonlyMap<TableKey, R> | null;
  readonly version: number;
  readonly status: FeedStatus;
  readonly error: Error | null;
}

type Action<R> =
  | { type: "started" }
  | { type: "changed"; held: ReadonlyMap<TableKey, R> | null }
  | { type: "status"; status: FeedStatus }
  | { type: "failed"; error: Error }
  | { type: "rejected"; error: Error };

const INITIAL: State<never> = { held: null, version: 0, status: { state: "connecting", transport: null, message: "Connecting." }, error: null };

function reduce<R>(state: State<R>, action: Action<R>): State<R> {
  switch (action.type) {
    case "started":
      return INITIAL;
    case "changed":
      return { ...state, held: action.held, version: state.version + 1 };
    case "status":
      return { ...state, status: action.status, error: action.status.state === "live" ? null : state.error };
    case "failed":
      return { ...state, error: action.error };
    case "rejected":
      return { ...state, error: action.error, status: { state: "closed", transport: null, message: action.error.message } };
  }
}
