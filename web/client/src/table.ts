// A copy of a table, kept current by what a feed of changes tells.
import { FeedError } from "./errors.js";
import type { FeedStatus, SubscribeOptions } from "./options.js";
import { isObject, type Row } from "./protocol.js";
import { subscribeToChanges } from "./subscription.js";

/** A row's key: the value of its one column, or the JSON array of the values of several, e.g. `["eu",1]`. */
export type TableKey = string | number | null;

/** What happened to the copy, when it has happened to `rows`. */
export interface TableChange<R extends object = Row> {
  /**
   * - `whole`: the copy is there, or another one is in its place, after changes were missed.
   * - `c`: the row is new. `u`: it is another now. `d`: it is gone, or does not match the filters any more.
   */
  readonly op: "whole" | "c" | "u" | "d";
  /** Null for `whole`. */
  readonly key: TableKey;
  /** The row as it is now, null for `whole` and `d`. */
  readonly row: R | null;
  /** The row as the copy had it, under the key it had; null where it had none. */
  readonly before: R | null;
}

export interface TableOptions<R extends object = Row> extends Pick<SubscribeOptions<R>, "filters" | "token" | "onStatus" | "onError" | "sseUrl" | "signal" | "WebSocket" | "timing"> {
  /** Called after each change of `rows`. */
  onChange?: (change: TableChange<R>) => void;
}

/** A running copy of a table. */
export interface TableSubscription<R extends object = Row> {
  /** The rows by their keys. Another map from each `whole` on; null before the first. */
  readonly rows: ReadonlyMap<TableKey, R> | null;
  readonly status: FeedStatus;
  /** Ends it; the rows stay as they are. */
  close(): void;
}

/**
 * Holds a copy of a captured table, or of its rows that match `filters`, and keeps it current, over restarts, dead links and outages.
 * `url` is that of a feed of changes, as for `subscribe`. Throws a TypeError for options that can't work.
 */
export function subscribeTable<R extends object = Row>(url: string | URL, options: TableOptions<R> = {}): TableSubscription<R> {
  const { onChange, onStatus, ...rest } = options;
  const copy = new Copy<R>();
  const changes = subscribeToChanges<Row>(url, {
    ...(rest as SubscribeOptions<never>),
    since: "earliest",
    // The history has no snapshot, and neither have the rows that are kept for sharing.
    historyUrl: false,
    share: false,
    onEvent: (told) => {
      const change = copy.apply(told);
      if (change) onChange?.(change);
    },
    onReset: () => copy.begin(),
    onStatus: (status) => {
      if (status.state === "live" && copy.finish()) onChange?.({ op: "whole", key: null, row: null, before: null });
      onStatus?.(status);
    },
  });
  return {
    get rows() {
      return copy.rows;
    },
    get status() {
      return changes.status;
    },
    close: () => changes.close(),
  };
}

/** Rows by their keys. What a snapshot tells is put together beside them, so that nobody sees half a table. */
class Copy<R extends object> {
  rows: Map<TableKey, R> | null = null;
  /** The copy that follows, until it is whole. */
  #next: Map<TableKey, R> | null = new Map();

  /** A snapshot follows: what came before counts no more. */
  begin(): void {
    this.#next = new Map();
  }

  /** Puts what came since `begin` in the place of the rows; returns whether there was anything to put. */
  finish(): boolean {
    if (!this.#next) return false;
    this.rows = this.#next;
    this.#next = null;
    return true;
  }

  /** Takes in a change; returns it where the rows have it already. */
  apply(told: Row): TableChange<R> | null {
    const rows = this.#next ?? this.rows;
    if (!rows || !isObject(told.key)) throw new FeedError("malformed_frame", "A change without a key came.");
    const key = tableKey(told.key);
    const before = (isObject(told.old_key) ? taken(rows, tableKey(told.old_key)) : undefined) ?? rows.get(key);
    const gone = told.op === "d";
    if (gone) rows.delete(key);
    else rows.set(key, told.after as R);
    if (this.#next || (gone && before === undefined)) return null;
    return { op: gone ? "d" : before === undefined ? "c" : "u", key, row: gone ? null : (told.after as R), before: before ?? null };
  }
}

function taken<R>(rows: Map<TableKey, R>, key: TableKey): R | undefined {
  const row = rows.get(key);
  rows.delete(key);
  return row;
}

function tableKey(columns: Row): TableKey {
  const values = Object.values(columns);
  return values.length === 1 ? (values[0] as TableKey) : JSON.stringify(values);
}
