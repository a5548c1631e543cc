// Of the rows the page holds, those that contain a text, in the order of a column. Says nothing of rows it does not hold.

import { compareIds, parseTime, textOf } from './values.js';

/** NULL, numbers, texts, in SQLite's order of types. */
function rank(value) {
  if (value === null || value === undefined) return 0;
  return typeof value === 'number' ? 1 : 2;
}

const collator = new Intl.Collator(undefined, { numeric: true });

/** Orders two values of a column; moments by when they are, however they are written. */
export function compareValues(a, b) {
  const order = rank(a) - rank(b);
  if (order !== 0 || a === null || a === undefined) return order;
  if (typeof a === 'number') return a - b;
  const [x, y] = [textOf(a), textOf(b)];
  return x === y ? 0 : collator.compare(x, y);
}

export class Arrangement {
  text = '';
  /** A column's name, or null for the order in which rows came. */
  column = null;
  descending = true;
  #wanted = '';

  get active() {
    return this.#wanted !== '' || this.column !== null;
  }

  search(text) {
    this.text = text;
    this.#wanted = text.trim().toLowerCase();
  }

  get searches() {
    return this.#wanted !== '';
  }

  sort(column, descending) {
    this.column = column;
    this.descending = descending;
  }

  /** Entries in the order of the log (what is shown first is last), with the time column's name if there is one. */
  apply(entries, { key, time }) {
    const found = this.searches ? entries.filter((entry) => this.#contains(entry)) : entries;
    if (this.column === null) return found;
    if (this.column === key) return this.descending ? found : found.toReversed();
    const sortKey = ({ row }) => (this.column === time ? parseTime(row[time])?.ms ?? row[time] : row[this.column]);
    const sign = this.descending ? 1 : -1;
    // Of equal values the newest is shown first.
    return found
      .map((entry) => ({ entry, value: sortKey(entry) }))
      .sort((a, b) => sign * compareValues(a.value, b.value) || compareIds(a.entry.id, b.entry.id))
      .map(({ entry }) => entry);
  }

  /** Whether any value contains the text; remembered with the entry, for the same rows are asked again and again. */
  #contains(entry) {
    if (entry.found?.text !== this.#wanted) {
      const holds = Object.values(entry.row).some((value) => textOf(value)?.toLowerCase().includes(this.#wanted));
      entry.found = { text: this.#wanted, holds };
    }
    return entry.found.holds;
  }
}
