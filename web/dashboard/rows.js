// The rows the page holds: in id order, each once, bounded in number and bytes.
// An entry is {id, row, truncated, bytes, arrived}; `arrived` is 0 for rows that were there before the page.

import { compareIds, isId } from './values.js';

/** The table stays quick with this many, and a browser tab stays small. */
export const MAX_ROWS = 10_000;
/** Rows may be 1 MiB each: the count alone would not bound the tab's memory. */
export const MAX_BYTES = 64 * 1024 * 1024;

/** Rough weight of a row in UTF-16 units; only texts can be large. */
function weigh(row) {
  let units = 32;
  for (const value of Object.values(row)) {
    if (typeof value === 'string') units += value.length;
    else units += value !== null && typeof value === 'object' ? JSON.stringify(value).length : 8;
  }
  return units;
}

/** An entry for a row as it came, or null where it has no usable id. */
export function entryOf(row, key, truncated, arrived) {
  if (row === null || typeof row !== 'object' || Array.isArray(row) || !isId(row[key])) return null;
  return { id: row[key], row, truncated: truncated ?? [], bytes: 2 * weigh(row), arrived };
}

export class RowLog {
  /** Oldest first: live rows are a push, and the newest is the last. */
  entries = [];
  bytes = 0;
  #ids = new Set();

  get newest() {
    return this.entries.at(-1)?.id ?? null;
  }

  get oldest() {
    return this.entries[0]?.id ?? null;
  }

  get full() {
    return this.entries.length >= MAX_ROWS || this.bytes >= MAX_BYTES;
  }

  /** Takes in entries in any order; returns those that were new, oldest first. */
  merge(batch) {
    const added = [];
    for (const entry of batch) {
      const id = String(entry.id);
      if (this.#ids.has(id)) continue;
      this.#ids.add(id);
      this.bytes += entry.bytes;
      added.push(entry);
    }
    if (added.length === 0) return added;
    added.sort((a, b) => compareIds(a.id, b.id));
    this.#insert(added);
    return added;
  }

  #insert(added) {
    if (this.entries.length === 0 || compareIds(added[0].id, this.newest) > 0) {
      this.entries.push(...added);
    } else if (compareIds(added.at(-1).id, this.oldest) < 0) {
      this.entries = added.concat(this.entries);
    } else {
      this.entries = this.entries.concat(added).sort((a, b) => compareIds(a.id, b.id));
    }
  }

  /** Drops the oldest rows beyond the bounds, but never the newest; returns whether any went. */
  trim() {
    let drop = Math.max(0, this.entries.length - MAX_ROWS);
    let bytes = this.bytes;
    for (let i = 0; i < drop; i += 1) bytes -= this.entries[i].bytes;
    while (bytes > MAX_BYTES && drop < this.entries.length - 1) {
      bytes -= this.entries[drop].bytes;
      drop += 1;
    }
    for (const entry of this.entries.splice(0, drop)) this.#ids.delete(String(entry.id));
    this.bytes = bytes;
    return drop > 0;
  }
}
