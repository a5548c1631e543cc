// Row ids. SQLite's are 64-bit, so an id may be one that a JavaScript number can't hold.

/** A row's id as it arrives: a number within ±(2^53−1), a string of digits beyond. */
export type Id = number | string;

const DIGITS = /^-?\d{1,19}$/;

/** Whether `value` is a whole number in one of the two forms an id arrives in. */
export function isId(value: unknown): value is Id {
  return typeof value === "number" ? Number.isSafeInteger(value) : typeof value === "string" && DIGITS.test(value);
}

/** Orders two ids exactly, whichever form each has: negative, zero or positive, as `Array.sort` wants it. */
export function compareIds(a: Id, b: Id): number {
  if (typeof a === "number" && typeof b === "number") return a - b;
  const [left, right] = [BigInt(a), BigInt(b)];
  return left < right ? -1 : left > right ? 1 : 0;
}

/** The position from which a whole table is read: below its lowest id, which may be negative. */
export function belowAll(earliest: Id | null | undefined): Id {
  return earliest != null && compareIds(earliest, 0) <= 0 ? String(BigInt(earliest) - 1n) : 0;
}
