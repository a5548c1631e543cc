// The rows the page holds: in id order, each once, bounded in number and bytes.
// An entry is {id, row, truncated, bytes, arrived}; `arrived` is 0 for rows that were there before the page.
// Of a feed of changes it is a change, and also has {sent, op, before}.

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

const WORDS = { c: 'inserted', u: 'updated', d: 'deleted' };

/**
 * An entry for a change, or null where it is none. `row` is what the list shows: the row as the change left it, of a deletion
 * what is known of it, and under the names in `own` when and what happened. `sent` is the change as it came, `op` a word,
 * `before` the row before it; `known` is what the page knows of that, for a change that does not say. Null for nothing.
 */
export function changeEntry(change, own, { truncated, arrived, known }) {
  const { seq, op, at, key, old_key: oldKey, after, left } = change ?? {};
  if (!isId(seq) || !(op in WORDS) || key === null || typeof key !== 'object') return null;
  const last = op === 'c' ? null : change.before ?? known ?? oldKey ?? null;
  const before = last && { ...last, ...(oldKey ?? (op === 'd' ? key : {})) };
  const word = left ? 'left' : WORDS[op];
  const row = { [own.seq]: seq, [own.at]: at, [own.op]: word, ...(op === 'd' ? before : null), ...key, ...after };
  const bytes = 2 * (weigh(row) + (before ? weigh(before) : 0));
  return { id: seq, row, sent: change, op: word, before, truncated: truncated ?? [], bytes, arrived };
}

/** Whether an update is known to have given this column another value. */
export function isChanged({ op, before, row }, name) {
  return op === 'updated' && before !== null && name in before && name in row && JSON.stringify(before[name]) !== JSON.stringify(row[name]);
}

/** Of each key the newest change that the page holds: it tells what the row was before the next one. */
export class NewestChanges {
  #byKey = new Map();

  /** The row before this change, null where that is not known. */
  before({ seq, key, old_key: oldKey }) {
    const held = this.#byKey.get(JSON.stringify(oldKey ?? key));
    return held && compareIds(held.id, seq) < 0 ? held.sent.after ?? null : null;
  }

  add(entry) {
    const key = JSON.stringify(entry.sent.key);
    const held = this.#byKey.get(key);
    if (!held || compareIds(held.id, entry.id) < 0) this.#byKey.set(key, entry);
  }

  remove(entries) {
    for (const entry of entries) {
      const key = JSON.stringify(entry.sent.key);
      if (this.#byKey.get(key) === entry) this.#byKey.delete(key);
    }
  }
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

  /** Drops the oldest rows beyond the bounds, but never the newest; returns those that went. */
  trim() {
    let drop = Math.max(0, this.entries.length - MAX_ROWS);
    let bytes = this.bytes;
    for (let i = 0; i < drop; i += 1) bytes -= this.entries[i].bytes;
    while (bytes > MAX_BYTES && drop < this.entries.length - 1) {
      bytes -= this.entries[drop].bytes;
      drop += 1;
    }
    const dropped = this.entries.splice(0, drop);
    for (const entry of dropped) this.#ids.delete(String(entry.id));
    this.bytes = bytes;
    return dropped;
  }
}
