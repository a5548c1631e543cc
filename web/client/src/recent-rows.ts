// The newest rows of a shared connection, as they came: whoever joins and stands among them is served from here.
import { belowAll, compareIds, type Id } from "./ids.js";

/** A row's frame. */
export interface RecentRow {
  readonly id: Id;
  readonly text: string;
}

// As many as one subscription's buffer holds, and half its size: this is held beside those buffers, once for all of them.
const MAX_ROWS = 1_000;
const MAX_SIZE = 4 * 1024 * 1024;

/** SQLite's highest. */
const MAX_ID = "9223372036854775807";

/** A gapless piece of one history: every matching row above `floor`, up to `top`. */
export class RecentRows {
  readonly epoch: string;
  /** The lowest id of the table when this began, null for none. */
  readonly earliest: Id | null;
  /** Up to where rows have come. */
  top: Id;
  /** Whether every matching row of the table is here. */
  isWhole: boolean;
  #floor: Id | null;
  #rows: RecentRow[] = [];
  #size = 0;
  #dropped = false;

  /** Begins after `from`; with `newestOnly` somewhere above it, as the first row shows. */
  constructor(epoch: string, from: Id, earliest: Id | null, newestOnly = false) {
    this.epoch = epoch;
    this.earliest = earliest;
    this.top = from;
    this.#floor = newestOnly ? null : from;
    this.isWhole = !newestOnly && (earliest === null || compareIds(from, earliest) < 0);
  }

  /** Above it no row is missing here. */
  get floor(): Id {
    return this.#floor ?? MAX_ID;
  }

  get count(): number {
    return this.#rows.length;
  }

  /** Takes a row that has come; false where it had come before. */
  push(row: RecentRow): boolean {
    if (compareIds(row.id, this.top) <= 0) return false;
    this.#floor ??= String(BigInt(row.id) - 1n);
    this.#rows.push(row);
    this.#size += row.text.length;
    this.top = row.id;
    while (this.#rows.length > MAX_ROWS || this.#size > MAX_SIZE) {
      const dropped = this.#rows.shift();
      if (!dropped) return true;
      this.#size -= dropped.text.length;
      this.#floor = dropped.id;
      this.#dropped = true;
      this.isWhole = false;
    }
    return true;
  }

  /** No matching row up to `id` is still to come. */
  advance(id: Id): void {
    if (compareIds(id, this.top) > 0) this.top = id;
    this.#floor ??= this.top;
  }

  /** The newest `asked` rows are through: where they are fewer there are no others. */
  newestAreHere(asked: number): void {
    if (!this.#dropped && this.#rows.length < asked) this.isWhole = true;
  }

  /** The rows above `id`, which is not below the floor. */
  above(id: Id): RecentRow[] {
    return this.#rows.slice(this.#rows.findLastIndex((row) => compareIds(row.id, id) <= 0) + 1);
  }

  /** The position before the newest `count` rows; null where that is further back than this reaches. */
  before(count: number): Id | null {
    const before = this.#rows.at(-count - 1);
    if (before) return before.id;
    if (this.#rows.length === count) return this.floor;
    return this.isWhole ? this.wholeFrom : null;
  }

  /** The position below the whole table. */
  get wholeFrom(): Id {
    return compareIds(this.floor, 0) < 0 ? this.floor : belowAll(this.earliest);
  }
}
