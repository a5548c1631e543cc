// Which columns of a feed are shown, and how wide, as the person at the screen left them: kept in this browser, feed by feed.

// Two daemons behind one host, under different prefixes, have feeds of the same names.
const PREFIX = `walcast.columns ${new URL('.', document.baseURI).pathname} `;
export const WIDTH_MIN = 4;
export const WIDTH_MAX = 200;

const isWidth = (value) => Number.isFinite(value) && value >= WIDTH_MIN && value <= WIDTH_MAX;

function stored(feedName) {
  try {
    const { hidden, widths } = JSON.parse(localStorage.getItem(PREFIX + feedName) ?? '{}');
    return {
      hidden: new Set(Array.isArray(hidden) ? hidden.filter((name) => typeof name === 'string') : []),
      widths: new Map(Object.entries(widths ?? {}).filter(([, width]) => isWidth(width))),
    };
  } catch {
    // Storage is off, or holds what another version wrote.
    return { hidden: new Set(), widths: new Map() };
  }
}

export class ColumnLayout {
  constructor(feedName) {
    this.feedName = feedName;
    Object.assign(this, stored(feedName));
  }

  get changed() {
    return this.hidden.size > 0 || this.widths.size > 0;
  }

  /** Of these columns the shown ones; all, where none would be left. */
  visible(columns) {
    const shown = columns.filter((name) => !this.hidden.has(name));
    return shown.length > 0 ? shown : columns;
  }

  /** The width that was dragged, in `ch`, or null. */
  width(name) {
    return this.widths.get(name) ?? null;
  }

  show(name, shown) {
    if (shown) this.hidden.delete(name);
    else this.hidden.add(name);
    this.#keep();
  }

  /** Sets a width in `ch`, null for the column's own; kept once it is `done`. */
  resize(name, ch, done) {
    if (ch === null) this.widths.delete(name);
    else this.widths.set(name, Math.round(Math.min(WIDTH_MAX, Math.max(WIDTH_MIN, ch)) * 10) / 10);
    if (done) this.#keep();
  }

  reset() {
    this.hidden.clear();
    this.widths.clear();
    this.#keep();
  }

  #keep() {
    try {
      if (!this.changed) localStorage.removeItem(PREFIX + this.feedName);
      else localStorage.setItem(PREFIX + this.feedName, JSON.stringify({ hidden: [...this.hidden], widths: Object.fromEntries(this.widths) }));
    } catch {
      // Storage is off or full: the choice holds until the page is closed.
    }
  }
}
