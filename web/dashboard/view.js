// One feed with one set of filters on the screen: loads its rows, follows it, draws it.
// A change of feed, filters or history ends a view and starts another.

import { explain, history } from './api.js';
import { Arrangement } from './arrange.js';
import { Counts } from './counts.js';
import { NewestChanges, RowLog, changeEntry, entryOf } from './rows.js';
import { Stream } from './stream.js';
import { count } from './values.js';

const FIRST_PAGE = 100;
/** Rows fetched without being asked, so that the chart and the filters have something to say. */
const HEAD_START = 1_000;
const PAGE_MAX = 500;
/** A page of history should stay about this large, however large the rows are. */
const PAGE_BYTES = 4 * 1024 * 1024;
const RETRY_MS = 3_000;
const DRAW_MS = 400;

export class FeedView {
  log = new RowLog();
  live = false;
  paused = false;
  /** Rows that came while the list was held or scrolled away from the top. */
  unseen = 0;
  arrived = 0;
  hasMore = false;
  stream = null;
  loading = true;
  /** Why there is nothing to show, as `{title, text}`. */
  problem = null;

  #abort = new AbortController();
  #pending = [];
  #flushing = false;
  #older = null;
  #held = null;
  #drawTimer = 0;
  #opened = Date.now();
  #newest = new NewestChanges();
  /** Totals on their way to replace `counts`. */
  #recounted = null;

  /** What is searched for and sorted by, among the rows that are loaded. */
  arrangement = new Arrangement();
  /** How many of the rows on the screen's list are in it. */
  listed = 0;
  #arrangeTimer = 0;

  /** `on`: `status(view)`, `change(view)`, `columns()`, `restart(reason)`, `denied(error)`; `layout`, `table` and `chart` are the page's. */
  constructor({ feed, filters, profile, layout, table, chart, on }) {
    Object.assign(this, { feed, filters, profile, layout, table, chart, on });
    this.counts = new Counts(profile);
  }

  /** The entries on the screen: those of the moment the list was paused, or all. */
  get shown() {
    return this.#held ?? this.log.entries;
  }

  async open() {
    const signal = this.#abort.signal;
    this.table.setProfile(this.profile, this.layout);
    this.table.show([], { keepPlace: false });
    this.table.toTop();
    const page = await this.#firstPage(signal);
    if (!page) return;
    this.loading = false;
    this.problem = null;
    this.#takePage(page);
    this.hasMore = page.items.length === FIRST_PAGE;
    this.counts.start(page);
    this.#follow(page.epoch);
    this.#draw();
    this.on.change(this);
    await this.#catchUpTotals(signal);
  }

  async #firstPage(signal) {
    for (;;) {
      try {
        // Which values there are to filter by can't be seen from rows that are filtered already.
        const all = this.filters.length > 0 ? await history(this.feed, [['limit', PAGE_MAX]], signal) : null;
        const page = await history(this.feed, [['limit', FIRST_PAGE], ...this.filters], signal);
        if (all) this.profile.learn(all.items.map((row) => this.#entry(row, [], 0)).filter(Boolean));
        return page;
      } catch (error) {
        if (signal.aborted) return null;
        this.problem = explain(error);
        if (error.status === 401) return this.on.denied(error);
        this.on.change(this);
        await new Promise((resolve) => setTimeout(resolve, error.retryAfter ?? RETRY_MS));
        if (signal.aborted) return null;
      }
    }
  }

  #follow(epoch) {
    this.stream = new Stream({ feed: this.feed, filters: this.filters, position: this.log.newest, epoch }, {
      rows: (rows) => this.#take(rows),
      reset: (reason) => this.on.restart(reason),
      malformed: () => this.on.status(this),
      unlisted: () => this.on.columns(),
      denied: (error) => this.on.denied(error),
      status: ({ live, problem }) => {
        this.live = live;
        this.problem = problem;
        this.on.status(this);
      },
    });
    this.stream.start();
  }

  async #catchUpTotals(signal) {
    try {
      await this.counts.loadRated(this.feed, this.filters, signal);
      this.on.change(this);
      while (this.hasMore && this.log.entries.length < HEAD_START && !signal.aborted) await this.loadOlder();
    } catch {
      // The rows are there; tiles without an answer show a dash, and scrolling asks again.
    }
  }

  close() {
    this.#abort.abort();
    this.stream?.stop();
    clearTimeout(this.#drawTimer);
    clearTimeout(this.#arrangeTimer);
  }

  /** Holds the list as it is, or lets it go on with everything that came meanwhile. */
  setPaused(paused) {
    this.paused = paused;
    this.#held = paused ? this.log.entries.slice() : null;
    // The log grows in place: the table must let go of it, too.
    this.arrange();
    if (!paused) {
      this.unseen = 0;
      this.table.toTop();
    }
    this.on.change(this);
  }

  /** Fetches the next older page; resolves when it is in, at once where there is none. */
  loadOlder() {
    if (!this.hasMore || this.log.full || this.#abort.signal.aborted) return Promise.resolve();
    this.#older ??= this.#fetchOlder().finally(() => {
      this.#older = null;
    });
    return this.#older;
  }

  async #fetchOlder() {
    const average = this.log.bytes / Math.max(1, this.log.entries.length);
    const limit = Math.max(1, Math.min(PAGE_MAX, Math.floor(PAGE_BYTES / Math.max(1, average))));
    const pairs = [['limit', limit], ['before', String(this.log.oldest)], ...this.filters];
    const page = await history(this.feed, pairs, this.#abort.signal);
    // Another history answers: the stream is about to say so, and its rows must not mix with these.
    if (page.epoch && this.stream.epoch && page.epoch !== this.stream.epoch) return;
    this.hasMore = page.items.length === limit;
    const added = this.#takePage(page);
    if (this.#held) this.#held = added.concat(this.#held);
    this.#draw();
    this.on.change(this);
  }

  /** Loads what matches up to the bound of the log, then gives the entries, newest first. */
  async entriesForExport() {
    while (this.hasMore && !this.log.full) await this.loadOlder();
    return this.shown.toReversed();
  }

  /** `arrived` is 0 for what the history tells: a page of it may know later values than the changes after it had. */
  #entry(row, truncated, arrived) {
    if (!this.profile.own) return entryOf(row, this.feed.key, truncated, arrived);
    const known = arrived > 0 && row ? this.#newest.before(row) : null;
    return changeEntry(row, this.profile.own, { truncated, arrived, known });
  }

  #takePage(page) {
    const entries = page.items.map((row) => this.#entry(row, page.truncated?.[String(row?.[this.feed.key])], 0));
    const added = this.log.merge(entries.filter(Boolean));
    if (this.profile.own) for (const entry of added) this.#newest.add(entry);
    this.profile.learn(added);
    this.table.setProfile(this.profile, this.layout);
    return added;
  }

  #take(rows) {
    const now = Date.now();
    const entries = [];
    for (const { row, truncated } of rows) {
      const entry = this.#entry(row, truncated, now);
      if (entry === null) continue;
      if (this.profile.own) this.#newest.add(entry);
      entries.push(entry);
    }
    this.#pending.push(...entries);
    // The table was made or got a column since the feeds were listed.
    if (entries.some(({ row }) => Object.keys(row).length > this.profile.columns.length)) this.on.columns();
    if (this.#flushing) return;
    this.#flushing = true;
    // A hidden tab gets no animation frames, but must not hoard what arrives.
    if (document.hidden) setTimeout(() => this.#flush(), 250);
    else requestAnimationFrame(() => this.#flush());
  }

  #flush() {
    this.#flushing = false;
    if (this.#abort.signal.aborted) return;
    const atTop = this.table.atTop;
    const added = this.log.merge(this.#pending);
    this.#pending = [];
    if (added.length === 0) return;
    for (const entry of added) {
      this.counts.add(entry);
      this.#recounted?.add(entry);
    }
    this.arrived += added.length;
    this.profile.learn(added);
    // Early rows still teach the columns their widths; later the columns keep still.
    if (this.log.entries.length < FIRST_PAGE) this.table.setProfile(this.profile, this.layout);
    const dropped = this.log.trim();
    if (dropped.length > 0) this.hasMore = true;
    if (this.profile.own) this.#newest.remove(dropped);
    if (this.paused || !atTop) this.unseen += added.length;
    this.#drawSoon();
    if (!this.paused) this.#arrangeSoon();
    this.on.change(this);
  }

  #draw() {
    this.arrange();
    this.#drawChart();
  }

  /** Lists the rows on the screen as they are searched and sorted. */
  arrange({ keepPlace = true } = {}) {
    clearTimeout(this.#arrangeTimer);
    this.#arrangeTimer = 0;
    const entries = this.arrangement.apply(this.shown, { key: this.profile.key, time: this.profile.time });
    this.listed = entries.length;
    this.table.show(entries, { keepPlace, sorted: this.arrangement.column !== null });
  }

  /** In the order they came rows are shown at once; to search and to sort all again takes longer, and is done a few times a second. */
  #arrangeSoon() {
    if (!this.arrangement.active) return this.arrange();
    this.#arrangeTimer ||= setTimeout(() => {
      this.arrange();
      this.on.change(this);
    }, DRAW_MS);
  }

  /** The row of this id, from the log or from the daemon; null where there is none that matches the filters. */
  async row(id) {
    const held = this.log.entries.find((entry) => String(entry.id) === String(id));
    if (held) return held;
    const around = [['limit', 1], ['after', String(BigInt(id) - 1n)], ['before', String(BigInt(id) + 1n)]];
    const page = await history(this.feed, [...around, ...this.filters], this.#abort.signal);
    const row = page.items[0];
    // Another history answers: the stream is about to say so.
    if (page.epoch && this.stream.epoch && page.epoch !== this.stream.epoch) return null;
    return row === undefined ? null : this.#entry(row, page.truncated?.[String(row[this.feed.key])], 0);
  }

  #drawChart() {
    this.chart.draw({ entries: this.log.entries, profile: this.profile, complete: !this.hasMore, opened: this.#opened });
  }

  /** The chart follows a flood of rows a few times a second, not with every frame. */
  #drawSoon() {
    this.#drawTimer ||= setTimeout(() => {
      this.#drawTimer = 0;
      this.#drawChart();
    }, DRAW_MS);
  }

  /** Time passes on the chart without rows, too. */
  redrawChart() {
    if (!this.loading) this.#drawSoon();
  }

  /** Asks for the totals anew, where they are few enough to be exact and cheap. */
  async recount() {
    const all = this.counts.of('all');
    if (this.loading || this.#recounted || !all || all.capped) return;
    const counts = new Counts(this.profile);
    this.#recounted = counts;
    try {
      counts.start(await history(this.feed, [['limit', 1], ...this.filters], this.#abort.signal));
      await counts.loadRated(this.feed, this.filters, this.#abort.signal);
      this.counts = counts;
      this.on.change(this);
    } catch {
      // The totals there are stay; the stream says what is wrong.
    } finally {
      this.#recounted = null;
    }
  }

  /** "1,000 of 10,000+ rows", or what of it is known. */
  get loadedText() {
    const total = this.counts.of('all');
    const held = this.log.entries.length;
    if (!total) return '–';
    const all = total.capped ? `${count(total.n)}+` : count(Math.max(total.n, held));
    return `${count(held)} of ${all}`;
  }
}
