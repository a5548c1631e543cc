// What a value of a row means to the page: its order as an id, its text, its moment in time.
// Knows nothing of the DOM, of feeds or of the network.

const DECIMAL = /^-?\d{1,19}$/;

/** Ids are JSON numbers within ±(2^53−1) and decimal strings beyond. */
export function isId(value) {
  return Number.isSafeInteger(value) || (typeof value === 'string' && DECIMAL.test(value));
}

export function compareIds(a, b) {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  const x = BigInt(a);
  const y = BigInt(b);
  return x < y ? -1 : x > y ? 1 : 0;
}

/** The higher of two ids, either of which may be null for "none". */
export function maxId(a, b) {
  if (a === null || a === undefined) return b ?? null;
  if (b === null || b === undefined) return a;
  return compareIds(a, b) < 0 ? b : a;
}

/** `a − b` as a BigInt, exact for every id. */
export function idDistance(a, b) {
  return BigInt(a) - BigInt(b);
}

/** The text of a value; null stays null so that the caller can tell NULL from the text "NULL". */
export function textOf(value) {
  if (value === null || value === undefined) return null;
  if (typeof value === 'string') return value;
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

// Writers add a "Z" to an offset that is already there ("+00:00Z"): accepted, the offset counts.
const ISO = /^(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?\s*(Z|[+-]\d\d(?::?\d\d)?)?Z?$/i;

/**
 * The moment a value names, or null: `{ms, zoned}`. Text without a zone is read as UTC, which is what
 * SQLite's CURRENT_TIMESTAMP writes; numbers are Unix seconds or milliseconds by their size.
 */
export function parseTime(value) {
  if (typeof value === 'number') {
    if (value > 1e8 && value < 1e11) return { ms: value * 1000, zoned: true };
    if (value >= 1e11 && value < 1e14) return { ms: value, zoned: true };
    return null;
  }
  if (typeof value !== 'string' || value.length > 40) return null;
  const m = ISO.exec(value);
  if (!m) return null;
  const fraction = m[7] ? Number(`0.${m[7]}`) * 1000 : 0;
  let ms = Date.UTC(+m[1], m[2] - 1, +m[3], +m[4], +m[5], +(m[6] ?? 0)) + fraction;
  const zone = m[8];
  if (zone && !/^z$/i.test(zone)) {
    const minutes = Number(zone.slice(1, 3)) * 60 + Number(zone.slice(-2)) * (zone.length > 3 ? 1 : 0);
    ms -= (zone[0] === '-' ? -minutes : minutes) * 60_000;
  }
  return Number.isFinite(ms) ? { ms, zoned: Boolean(zone) || /z$/i.test(value) } : null;
}

const two = (n) => String(n).padStart(2, '0');

/** Clock time in the viewer's zone, and the day where it is not today's (empty where it is). */
export function clock(ms, now = Date.now()) {
  const at = new Date(ms);
  const today = new Date(now);
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  if (at.toDateString() === today.toDateString()) return { day: '', time };
  const day = `${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return { day: at.getFullYear() === today.getFullYear() ? day : `${at.getFullYear()}-${day}`, time };
}

/** "now", "12 s", "4 min", "3 h", "2 d". */
export function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 1) return 'now';
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.round(s / 60)} min`;
  return s < 86_400 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86_400)} d`;
}

const grouped = new Intl.NumberFormat('en-US');

/** A count or an id with thousands separators; decimal strings beyond 2^53 included. */
export function count(n) {
  return grouped.format(typeof n === 'string' ? BigInt(n) : n);
}

/** A reason as the daemon words it, made a sentence of its own; empty for none. The name of a file or table at its start stays as it is. */
export function sentence(text) {
  const trimmed = String(text ?? '').trim();
  if (trimmed === '') return '';
  const word = /^[a-z]+(?:['’][a-z]+)?(?=[\s,;:]|[.!?…]?$)/.test(trimmed);
  return `${word ? trimmed[0].toUpperCase() : trimmed[0]}${trimmed.slice(1)}${/[.!?…]$/.test(trimmed) ? '' : '.'}`;
}
