// Rows on their way to the application: each once, in order, whether they came by the socket or from the history.
import { compareIds, type Id } from "./ids.js";
import { FeedError } from "./errors.js";
import type { EventMeta, Position, Reset, SubscribeOptions } from "./options.js";
import type { Row } from "./protocol.js";
import { RowBuffer } from "./row-buffer.js";

export interface Arrival {
  /** Null for a row of a snapshot. */
  readonly id: Id | null;
  readonly row: Row;
  readonly truncated: readonly string[];
  readonly via: EventMeta["via"];
  /** Length of the row's JSON, at least roughly. */
  readonly size: number;
}

interface Buffered<R> {
  readonly row: R;
  /** Where the consumer stands until it takes this row. */
  readonly before: Position | null;
}

export class Delivery<R extends object> {
  /** Up to where rows were accepted; null before anything is known. */
  position: Position | null;
  /** The cursor column, null before a hello or the list of feeds told it. */
  key: string | null = null;
  /** Whether rows are taken by the iterator; without `onEvent` from the first row on. */
  iterated: boolean;
  readonly buffer = new RowBuffer<Buffered<R>>();
  /** Whether rows were delivered that another snapshot makes void. */
  given = false;
  #replay = true;
  #ended = false;
  readonly #options: SubscribeOptions<R>;
  readonly #report: (error: FeedError) => void;

  constructor(position: Position | null, options: SubscribeOptions<R>, report: (error: FeedError) => void) {
    this.position = position;
    this.#options = options;
    this.#report = report;
    this.iterated = options.onEvent === undefined;
  }

  /** Where the application stands: rows that wait in the buffer have not reached it. */
  get taken(): Position | null {
    const next = this.buffer.first;
    return next ? next.before : this.position;
  }

  get isFull(): boolean {
    return this.iterated && this.buffer.isFull;
  }

  /** Hands a row on, or drops it where it was delivered before. */
  accept({ id, row, truncated, via, size }: Arrival): void {
    const before = this.position;
    if (this.#ended) return;
    if (id !== null && before !== null && compareIds(id, before.id) <= 0) return;
    const epoch = before?.epoch ?? null;
    this.given = true;
    if (id !== null) this.position = { epoch, id };
    const { onEvent } = this.#options;
    // The application vouches for its row type R by naming it.
    const typed = row as R;
    if (this.iterated) this.buffer.push({ row: typed, before }, size);
    if (onEvent) this.call("onEvent", () => onEvent(typed, { id: id ?? 0, epoch, via, replay: this.#replay, truncated }));
    if (truncated.length > 0) {
      this.#report(new FeedError("row_truncated", `Row ${id ?? JSON.stringify(row.key)} was too large for one message: ${truncated.join(", ")} arrived cut.`));
    }
  }

  /** Another history begins: nothing of the old one is delivered any more, `from` is where the new one is read from. */
  reset(reset: Reset, from: Id): void {
    this.position = { epoch: reset.epoch, id: from };
    this.#replay = true;
    this.buffer.clear();
    const { onReset } = this.#options;
    if (onReset) this.call("onReset", () => onReset(reset));
  }

  /** Every row up to `id` was delivered or does not match the filters. */
  advance(epoch: string | null, id: Id): void {
    const known = this.position;
    this.position = { epoch: epoch ?? known?.epoch ?? null, id: known && compareIds(known.id, id) > 0 ? known.id : id };
  }

  /** The rows asked for at the start are through: what comes now is new. */
  caughtUp(): void {
    this.#replay = false;
  }

  /** Nothing is delivered any more; what waits in the buffer can still be taken. */
  end(error: FeedError | null): void {
    this.#ended = true;
    this.buffer.end(error);
  }

  /** Runs a callback of the application's; one that throws must cost neither the row nor the subscription. */
  call(name: string, callback: () => void): void {
    try {
      callback();
    } catch (cause) {
      const message = cause instanceof Error ? cause.message : String(cause);
      this.#report(new FeedError("callback_failed", `${name} threw: ${message}`, { cause }));
    }
  }
}
