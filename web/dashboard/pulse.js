// What goes on in a feed that is not being looked at, told by its head alone: how fast ids are given, and how many were given
// since it was last on the screen.

import { count, idDistance, isId } from './values.js';

/** The rate is that of so much time… */
const WINDOW_MS = 15_000;
/** …and ids that leap further than this between two answers are not running numbers: they count nothing. */
const LEAP = 1_000_000n;
const MANY = 9_999n;

export class Pulse {
  /** Oldest first: `{at, head}`. */
  #samples = [];
  #epoch = null;
  #seen = null;
  #leaps = false;

  /** Takes a feed as the daemon lists it, at a moment in ms. */
  take({ epoch, head }, at) {
    if (!isId(head)) return;
    const last = this.#samples.at(-1)?.head;
    if (epoch !== this.#epoch || (last !== undefined && idDistance(head, last) < 0n)) this.#begin(epoch, head);
    else if (last !== undefined && idDistance(head, last) > LEAP) this.#leaps = true;
    this.#samples.push({ at, head });
    while (this.#samples.length > 2 && this.#samples[1].at <= at - WINDOW_MS) this.#samples.shift();
  }

  #begin(epoch, head) {
    this.#samples = [];
    this.#leaps = false;
    // Of a history that took another one's place every row is new; of the first that was heard of none.
    this.#seen = this.#epoch === null ? head : 0;
    this.#epoch = epoch;
  }

  /** Everything up to now is on the screen. */
  see() {
    this.#seen = this.#samples.at(-1)?.head ?? this.#seen;
  }

  /** "12/s" or "0.3/s"; empty where nothing comes, or where it can't be told. */
  get rate() {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (this.#leaps || !first || first === last) return '';
    const perSecond = Number(idDistance(last.head, first.head)) / ((last.at - first.at) / 1000);
    if (perSecond < 0.05) return '';
    return `${perSecond < 10 ? perSecond.toFixed(1) : count(Math.round(perSecond))}/s`;
  }

  /** "7", "9,999+" or, where ids count nothing, "new"; empty for none. */
  get unread() {
    const head = this.#samples.at(-1)?.head;
    if (head === undefined || this.#seen === null) return '';
    const n = idDistance(head, this.#seen);
    if (n <= 0n) return '';
    if (this.#leaps) return 'new';
    return n > MANY ? `${count(String(MANY))}+` : count(String(n));
  }
}
