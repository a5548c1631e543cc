// How many rows there are, and how many of them went well: asked of the daemon once, carried on
// with every row that comes. Exact up to the 10,000 the history counts to, and says so beyond.

import { history } from './api.js';
import { toneOf } from './profile.js';
import { compareIds, isId, maxId } from './values.js';

export class Counts {
  /** Name → {n, capped, head}; a tally counts live rows above its head, the rest the daemon counted. */
  #tallies = new Map();
  /** Rows that came while an answer was under way, for the tally it will settle; null once nothing is. */
  #late = [];
  #profile;

  constructor(profile) {
    this.#profile = profile;
  }

  /** `{n, capped}` for "all", "good" or "bad", or null where it is not known. */
  of(name) {
    return this.#tallies.get(name) ?? null;
  }

  /** Takes the number of all rows from the view's first page of history. */
  start(page) {
    this.#settle('all', page);
  }

  /** Asks for the two totals that make the rate, where there is one; `filters` are the view's own. */
  async loadRated(feed, filters, signal) {
    try {
      if (!this.#profile.rated) return;
      await Promise.all(
        ['good', 'bad'].map(async (tone) => this.#settle(tone, await this.#ask(feed, filters, tone, signal))),
      );
    } finally {
      this.#late = null;
    }
  }

  #ask(feed, filters, tone, signal) {
    const { status } = this.#profile;
    const chosen = filters.filter(([name]) => name === status).map(([, value]) => value);
    const spellings = chosen.length > 0 ? chosen.filter((v) => toneOf(v) === tone) : this.#profile.spellings(tone);
    if (spellings.length === 0) return { total: 0, head: null };
    const others = filters.filter(([name]) => name !== status);
    return history(feed, [['limit', 1], ...others, ...spellings.map((v) => [status, v])], signal);
  }

  #settle(name, page) {
    // The count may have seen a row that the feed had not taken in yet: what the page shows is counted, too.
    const newest = page.items?.[0]?.[this.#profile.feed.key];
    const head = maxId(isId(page.head) ? page.head : null, isId(newest) ? newest : null);
    const tally = { n: page.total, capped: page.total_is_capped === true, head };
    this.#tallies.set(name, tally);
    for (const entry of this.#late ?? []) this.#count(name, tally, entry);
  }

  /** Every row that comes, each once. */
  add(entry) {
    this.#late?.push(entry);
    for (const [name, tally] of this.#tallies) this.#count(name, tally, entry);
  }

  #count(name, tally, { id, row }) {
    // Above the cap the number is "at least": one more row changes nothing of it.
    if (tally.capped || (tally.head !== null && compareIds(id, tally.head) <= 0)) return;
    if (name === 'all' || toneOf(row[this.#profile.status]) === name) tally.n += 1;
  }
}
