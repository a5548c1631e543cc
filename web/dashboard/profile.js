// What the columns of any table are good for, judged by their names and by the rows seen:
// which one is the time, which the status, which make filters, how wide each wants to be.

import { widthOf } from './measure.js';
import { isChanged } from './rows.js';
import { clock, parseTime, textOf } from './values.js';

export const TIME_NAME = /^(ts|time|timestamp|date|datetime|at|when|(created|updated|inserted|occurred|logged|event)(_?(at|on|time|ts))?|.*_(at|ts|time|timestamp))$/i;
export const STATUS_NAME = /^(status|state|result|outcome)$/i;
/** Words a query keeps for itself: a column of such a name can't be filtered on. */
export const RESERVED = ['since', 'last', 'epoch', 'limit', 'before', 'after', 'token'];
/** Always offered where the table has them, however many values were seen so far. */
const FACET_NAME = /^(tenant|status)$/i;
const FACET_MAX_VALUES = 24;
const FACET_MAX_LENGTH = 40;
/** A list to choose from is no longer one beyond this; the address takes any value. */
const LIST_MAX = 500;
/** Texts longer than this get less room than they need anyway: they are counted, not measured. */
const MEASURED_CHARS = 100;
/** A column narrower than this, in `ch`, never grows to fill a wide window: numbers and short words would stand far apart. */
const STRETCH_FROM = 24;
/** The widest, in `ch`, that a column is without being the one that fills the window. */
const COLUMN_MAX = 44;

/** The narrowest, in `ch`, that a text of many words gets. */
const TEXT_MIN = 16;

/** A column whose every second value is new is data, not a category. */
const FACET_MIN_REPEAT = 2;

/** The daemon takes 100 values in one filter; the view's other filters need some of them. */
const SPELLINGS_MAX = 60;

const WORDS = {
  good: ['success', 'successful', 'succeeded', 'ok', 'done', 'complete', 'completed', 'resolved', 'passed', 'fixed', 'remediated'],
  bad: ['failed', 'failure', 'fail', 'error', 'errored', 'timeout', 'timed_out', 'rejected', 'aborted', 'crashed', 'unsuccessful'],
  busy: ['pending', 'running', 'started', 'in_progress', 'queued', 'waiting', 'retrying', 'warning', 'skipped', 'partial', 'degraded', 'dry_run'],
};
const TONES = new Map(Object.entries(WORDS).flatMap(([tone, words]) => words.map((word) => [word, tone])));

/** What a value needs beside its own width, in `ch`: the frame of a status, the gap after a number, a hair for rounding. */
const ROOM = { status: 3, op: 6, title: 1, number: 2, text: 0 };
/** The frame of a value that an update changed, in `ch`. */
const CHANGED_ROOM = 2;
/** A headline is set in a heavier weight, which is wider by an eighth in the widest of the usual fonts. */
const HEAVY = 1.14;

/** "good", "bad", "busy" or "plain". */
export function toneOf(value) {
  if (typeof value !== 'string' || value.length > 20) return 'plain';
  const known = TONES.get(value);
  if (known) return known;
  return TONES.get(value.trim().toLowerCase().replace(/[ -]/g, '_')) ?? 'plain';
}

/** A name that no column of the table has. */
const freeName = (name, columns) => (columns.includes(name) ? freeName(`change ${name}`, columns) : name);

/** Whether the daemon can be asked for rows by this column: of changes only by those whose values before and after are recorded. */
export function canFilter(feed, column) {
  const columns = feed.kind === 'changes' ? feed.filters ?? [] : [feed.key, ...feed.columns];
  return columns.includes(column) && !RESERVED.includes(column);
}

export class Profile {
  /** Column → Map of value → rows seen with it; columns with too many values map to null. */
  #seen = new Map();
  #rows = 0;
  #lengths = new Map();
  #timeHits = new Map();
  /** Column → the earliest moment seen in it: one of another day is shown with its day, of another year with its year. */
  #earliest = new Map();

  constructor(feed) {
    this.feed = feed;
    /** Of a feed of changes the names of the columns that say when and what happened: `{seq, at, op}`; else null. */
    this.own = null;
    if (feed.kind === 'changes') {
      const taken = [...feed.key_columns, ...feed.columns];
      this.own = { seq: freeName('seq', taken), at: freeName('at', taken), op: freeName('op', taken) };
    }
    /** The column of the position in the feed. */
    this.key = this.own?.seq ?? feed.key;
    // Of a table that is not there yet neither the key nor the columns are known.
    const first = this.own ? [this.own.seq, this.own.at, this.own.op, ...feed.key_columns] : [feed.key];
    this.columns = [...first, ...feed.columns].filter((name, i, all) => name !== null && all.indexOf(name) === i);
    this.status = this.own?.op ?? this.columns.find((name) => STATUS_NAME.test(name)) ?? null;
  }

  learn(entries) {
    this.#rows += entries.length;
    for (const entry of entries) for (const name of this.columns) this.#learnEntry(entry, name);
  }

  #learnEntry(entry, name) {
    const value = entry.row[name];
    // What an update changed is shown beside what it was.
    const beside = isChanged(entry, name) ? `${textOf(entry.before[name]) ?? 'NULL'} ` : '';
    this.#learnValue(name, value, beside);
  }

  #learnValue(name, value, beside) {
    const text = textOf(value);
    if (text === null) return;
    const lengths = this.#lengths.get(name) ?? { sum: 0, n: 0, max: 0, numbers: 0 };
    const shown = beside + text;
    const plain = shown.length > MEASURED_CHARS ? Math.min(shown.length, 400) : widthOf(shown);
    const width = beside ? plain * HEAVY + CHANGED_ROOM : plain;
    lengths.sum += width;
    lengths.n += 1;
    lengths.numbers += typeof value === 'number' ? 1 : 0;
    lengths.max = Math.max(lengths.max, width);
    this.#lengths.set(name, lengths);
    const at = parseTime(value);
    if (at) {
      this.#timeHits.set(name, (this.#timeHits.get(name) ?? 0) + 1);
      this.#earliest.set(name, Math.min(at.ms, this.#earliest.get(name) ?? at.ms));
    }
    if (typeof value !== 'string' || this.#seen.get(name) === null) return;
    const values = this.#seen.get(name) ?? new Map();
    if (values.has(text) || (text.length <= 200 && values.size < LIST_MAX)) values.set(text, (values.get(text) ?? 0) + 1);
    const tooMany = values.size > FACET_MAX_VALUES || text.length > FACET_MAX_LENGTH;
    this.#seen.set(name, tooMany && !FACET_NAME.test(name) ? null : values);
  }

  /** The column that says when a row happened, or null. */
  get time() {
    const hits = (name) => this.#timeHits.get(name) ?? 0;
    if (this.own) return hits(this.own.at) > 0 ? this.own.at : null;
    const others = this.columns.filter((name) => name !== this.key);
    // A telling name needs one value to confirm it; any other column must be times nearly throughout.
    return others.find((name) => TIME_NAME.test(name) && hits(name) > 0) ??
      others.find((name) => this.#seen.has(name) && hits(name) > 0.8 * this.#lengths.get(name).n) ?? null;
  }

  /** The column that names a row best: the headline where there is room for one only. */
  get title() {
    const { key, time, status } = this;
    return this.columns.find((name) => ![key, time, status].includes(name)) ?? key;
  }

  /** Columns worth a filter, the usual ones first. */
  get facets() {
    return this.columns
      .filter((name) => name !== this.key && name !== this.time && this.#isFacet(name))
      .sort((a, b) => FACET_NAME.test(b) - FACET_NAME.test(a));
  }

  #isFacet(name) {
    if (!canFilter(this.feed, name)) return false;
    if (FACET_NAME.test(name)) return true;
    const values = this.#seen.get(name);
    return Boolean(values) && values.size > 1 && this.#rows >= FACET_MIN_REPEAT * values.size;
  }

  /** The values seen in a column, in alphabetical order. */
  valuesOf(name) {
    return [...(this.#seen.get(name)?.keys() ?? [])].sort((a, b) => a.localeCompare(b));
  }

  /** True where this feed's status says success or failure, so that a rate means something. */
  get rated() {
    if (!this.status || this.own) return false;
    return this.feed.name === 'remediation' || this.valuesOf(this.status).some((v) => ['good', 'bad'].includes(toneOf(v)));
  }

  /** Every spelling to ask the daemon for when it counts "good" or "bad" rows. */
  spellings(tone) {
    const seen = this.valuesOf(this.status).filter((value) => toneOf(value) === tone);
    return [...new Set([...WORDS[tone], ...seen])].slice(0, SPELLINGS_MAX);
  }

  /** Preferred width of a column in characters: what most values need, within reason. */
  width(name) {
    // "12:34:56", and the day before it: "11-26 " or "2019-11-26 ".
    if (name === this.time) return Math.max(10 + clock(this.#earliest.get(name)).day.length, Math.ceil(widthOf(name)) + 1);
    const { sum = 0, n = 0, max = 0 } = this.#lengths.get(name) ?? {};
    // A category is shown whole; other texts get what most of them need.
    const whole = this.#seen.get(name) || max <= 16;
    const typical = n === 0 ? 8 : whole ? max : Math.min(max, (sum / n) * 1.35);
    return Math.min(COLUMN_MAX, this.#withRoom(name, Math.max(typical, widthOf(name) + 1, 5)));
  }

  /** What a column makes do with in `ch` where the window is narrow: texts of many words are cut before a column leaves the screen. */
  least(name) {
    const width = this.width(name);
    const whole = [this.key, this.time, this.status].includes(name) || this.numeric(name) || this.#seen.get(name);
    return whole ? width : Math.min(width, TEXT_MIN);
  }

  #withRoom(name, width) {
    const role = this.#role(name);
    return Math.ceil((role === 'title' ? width * HEAVY : width) + ROOM[role]);
  }

  /** True for a column of numbers, which are read by their right edge. */
  numeric(name) {
    const { n = 0, numbers = 0 } = this.#lengths.get(name) ?? {};
    return name !== this.key && n > 0 && numbers === n;
  }

  #role(name) {
    if (name === this.status) return this.own ? 'op' : 'status';
    if (this.numeric(name)) return 'number';
    return name === this.title ? 'title' : 'text';
  }

  /**
   * The column that takes what room is left, as `{name, least, most}` in `ch`: the one with the longest texts, up to what
   * they need. Null where no column has long texts; the room is then left empty at the end of the row.
   */
  get roomiest() {
    const { key } = this;
    const max = (name) => this.#lengths.get(name)?.max ?? 0;
    const texts = this.columns.filter((name) => ![key, this.time, this.status].includes(name) && !this.numeric(name));
    const name = texts.reduce((best, one) => (best === null || max(one) > max(best) ? one : best), null);
    if (name === null || max(name) <= STRETCH_FROM) return null;
    return { name, least: TEXT_MIN, most: this.#withRoom(name, max(name)) };
  }
}
