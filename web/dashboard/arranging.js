// The search box, the order and the columns of the rows on the screen, and the line that says what of the loaded rows they are.

import { ColumnLayout } from './layout.js';
import { ViewMenu } from './view-menu.js';
import { count } from './values.js';

/** Typing goes on while this long passes between keys: each search looks at every row that is loaded. */
const TYPING_MS = 150;

export class Arranging {
  /** Feed name → its ColumnLayout. */
  #layouts = new Map();
  #timer = 0;

  /** `current()` gives the view or null; `changed(view)` after its rows are arranged anew. */
  constructor({ search, note, text, more, undo, viewMenu }, { table, current, changed }) {
    Object.assign(this, { search, note, text, more, undo, table, current, changed });
    search.addEventListener('input', () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#searched(), TYPING_MS);
    });
    search.addEventListener('keydown', (event) => this.#key(event));
    more.addEventListener('click', () => this.#loadMore());
    undo.addEventListener('click', () => this.#undo());
    this.menu = new ViewMenu(viewMenu, {
      current: () => ({ profile: current().profile, layout: current().layout, arrangement: current().arrangement }),
      onSort: (column, descending) => this.#sort(column, descending),
      onLayout: () => this.#laidOut(),
    });
  }

  layoutOf(feedName) {
    if (!this.#layouts.has(feedName)) this.#layouts.set(feedName, new ColumnLayout(feedName));
    return this.#layouts.get(feedName);
  }

  /** A new view takes over what is searched for where only filters changed; another feed begins anew. */
  hand(old, view) {
    if (old?.feed.name === view.feed.name) {
      view.arrangement.search(old.arrangement.text);
      if (view.profile.columns.includes(old.arrangement.column)) view.arrangement.sort(old.arrangement.column, old.arrangement.descending);
    }
    this.search.value = view.arrangement.text;
    this.table.markSort(view.arrangement);
  }

  /** A click on a column's name: downwards, upwards, and as they came. */
  sortBy(column) {
    const { arrangement } = this.current();
    if (arrangement.column !== column) this.#sort(column, true);
    else if (arrangement.descending) this.#sort(column, false);
    else this.#sort(null, true);
  }

  /** A dragged edge; `done` once the pointer lets go. */
  resize(column, ch, done) {
    const view = this.current();
    view.layout.resize(column, ch, done);
    this.table.setProfile(view.profile, view.layout);
  }

  /** Says what of the rows there are is on the screen. */
  render(view) {
    const { arrangement, shown, listed } = view;
    this.note.hidden = !arrangement.active || shown.length === 0;
    if (this.note.hidden) return;
    const loaded = `${count(shown.length)} loaded rows`;
    const parts = arrangement.searches ? [`${count(listed)} of ${loaded} contain “${arrangement.text.trim()}”`] : [loaded];
    if (arrangement.column !== null) parts.push(`sorted by ${arrangement.column}${arrangement.descending ? ', highest first' : ', lowest first'}`);
    if (view.hasMore) parts.push('older ones are not loaded');
    const text = `${parts.join(', ')}.`;
    if (this.text.textContent !== text) this.text.textContent = text;
    this.more.hidden = !view.hasMore || view.log.full;
  }

  focusSearch() {
    this.search.focus();
    this.search.select();
  }

  #searched() {
    clearTimeout(this.#timer);
    const view = this.current();
    if (!view || view.arrangement.text === this.search.value) return;
    view.arrangement.search(this.search.value);
    this.#arranged(view);
  }

  #key(event) {
    if (event.key === 'Escape') {
      // Esc with something typed clears it; with nothing it goes back to the rows.
      if (this.search.value === '') this.table.grid.focus();
      this.search.value = '';
    } else if (event.key !== 'Enter' && event.key !== 'ArrowDown') return;
    event.preventDefault();
    this.#searched();
    if (event.key !== 'Escape') this.table.step(1);
  }

  #sort(column, descending) {
    const view = this.current();
    view.arrangement.sort(column, descending);
    this.table.markSort(view.arrangement);
    this.#arranged(view);
  }

  #undo() {
    this.search.value = '';
    const view = this.current();
    view.arrangement.search('');
    this.#sort(null, true);
    this.search.focus();
  }

  #arranged(view) {
    view.arrange({ keepPlace: false });
    this.table.toTop();
    this.changed(view);
  }

  #laidOut() {
    const view = this.current();
    this.table.setProfile(view.profile, view.layout);
  }

  async #loadMore() {
    const view = this.current();
    this.more.disabled = true;
    try {
      // Two pages of the history: a thousand rows where they are of the usual size.
      await view.loadOlder();
      await view.loadOlder();
    } catch {
      // The stream says what is wrong; another click asks again.
    } finally {
      this.more.disabled = false;
    }
  }
}
