// The list of rows: only what can be seen is in the document, so 10,000 rows scroll like ten.
// Works in its own scroll area (wide) and in the page's (phone), with the mouse and with the keyboard.

import { make } from './cells.js';
import { GridHead } from './grid-head.js';
import { cardOf, cellClass, cellsOf } from './row-element.js';
import { compareIds } from './values.js';

/** A new row stays marked for this long; the style sheet's animation has the same length. */
export const MARK_MS = 2_000;
const ROW_PX = 34;
const CARD_PX = 66;
const OVERSCAN = 6;
/** What a cell's padding takes of its column, in `ch`. */
const GAP_CH = 2;

export class Table {
  #entries = [];
  #profile = null;
  #columns = [];
  #template = '';
  #look = '';
  #sort = { column: null, descending: true };
  /** Id → place in `#entries`, where they are in another order than that of their ids. */
  #places = null;
  #head;
  #active = null;
  #elements = new Map();
  #scheduled = false;
  #compact = matchMedia('(max-width: 640px)');

  /** `onOpen(entry)` for a click or Enter; `onEnd()` whenever the last rows come into sight; `onTop(atTop)` with every drawing; `onSort` and `onResize` are those of GridHead. */
  constructor({ grid, head, body, onOpen, onEnd, onTop, onSort, onResize }) {
    Object.assign(this, { grid, head, body, onOpen, onEnd, onTop });
    this.#head = new GridHead(head, { onSort, onResize });
    addEventListener('scroll', () => this.schedule(), { capture: true, passive: true });
    addEventListener('resize', () => this.schedule());
    this.#compact.addEventListener('change', () => this.#rebuild());
    grid.addEventListener('keydown', (event) => this.#key(event));
    grid.addEventListener('focus', () => this.#active === null && this.#activate(0, false));
    body.addEventListener('click', (event) => this.#click(event));
  }

  get #rowPx() {
    return this.#compact.matches ? CARD_PX : ROW_PX;
  }

  /** True while the newest row is in sight: new rows may then push the others down. */
  get atTop() {
    return this.#offset() <= this.#rowPx / 2;
  }

  /** Takes what is known of the columns, and how the person at the screen wants them. */
  setProfile(profile, layout) {
    const columns = layout.visible(profile.columns);
    const roomiest = columns.includes(profile.roomiest?.name) && layout.width(profile.roomiest.name) === null ? profile.roomiest : null;
    const least = (name) => layout.width(name) ?? profile.least(name) + GAP_CH;
    const most = (name) => layout.width(name) ?? (name === roomiest?.name ? roomiest.most : profile.width(name)) + GAP_CH;
    const widths = columns.map((name) => ({ least: Math.min(least(name), most(name)), most: most(name) }));
    const template = widths.map(({ least: from, most: to }) => (from < to ? `minmax(${from}ch, ${to}ch)` : `${to}ch`)).join(' ');
    const look = JSON.stringify([columns.map((name) => [name, profile.numeric(name)]), profile.time, profile.status]);
    this.#profile = profile;
    this.#columns = columns;
    if (template !== this.#template) {
      this.#template = template;
      this.grid.style.setProperty('--columns', template);
      // Rows are positioned absolutely and give their parent no width: it is told.
      this.grid.style.setProperty('--width', `${widths.reduce((sum, { least: ch }) => sum + ch, 0)}ch`);
    }
    if (look === this.#look) return;
    this.#look = look;
    this.#head.draw(columns.map((name) => ({ name, className: cellClass(name, profile) })), this.#sort);
    this.#rebuild();
  }

  /** Says in the header by which column the entries are sorted, `{column: null}` for none. */
  markSort(sort) {
    this.#sort = sort;
    this.#head.mark(sort);
  }

  /** Shows these entries (what is shown first is last, as the log keeps them; `sorted`: not by id); what is being read stays where it is. */
  show(entries, { keepPlace = true, sorted = false } = {}) {
    const anchor = keepPlace && !this.atTop ? this.#anchor() : null;
    this.#entries = entries;
    this.#places = sorted ? new Map(entries.map(({ id }, i) => [String(id), i])) : null;
    if (this.#active !== null && this.#find(this.#active) < 0) this.#active = null;
    this.#resize();
    if (anchor) this.#restore(anchor);
    this.render();
  }

  toTop() {
    this.grid.scrollTop = 0;
    const above = this.body.getBoundingClientRect().top - this.#clipTop();
    if (above < 0) scrollBy(0, above);
    this.render();
  }

  schedule() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => {
      this.#scheduled = false;
      this.render();
    });
  }

  render() {
    if (!this.#profile) return;
    // Measured before anything changes: each look after a change costs a layout.
    const { first, last, atTop } = this.#range();
    const wanted = new Map();
    for (let i = first; i < last; i += 1) wanted.set(String(this.#at(i).id), i);
    for (const [id, element] of this.#elements) {
      if (wanted.has(id)) continue;
      element.remove();
      this.#elements.delete(id);
    }
    let next = this.body.firstChild;
    for (const [id, index] of wanted) {
      const element = this.#elements.get(id) ?? this.#create(this.#at(index));
      this.#place(element, index);
      if (element === next) next = next.nextSibling;
      else this.body.insertBefore(element, next);
    }
    this.#point();
    if (this.#entries.length > 0 && last >= this.#entries.length - 20) this.onEnd();
    this.onTop(atTop);
  }

  /** Newest first: index 0 is the last entry of the log. */
  #at(index) {
    return this.#entries[this.#entries.length - 1 - index];
  }

  #find(id) {
    if (this.#places) return this.#places.has(String(id)) ? this.#entries.length - 1 - this.#places.get(String(id)) : -1;
    let low = 0;
    let high = this.#entries.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const order = compareIds(this.#entries[middle].id, id);
      if (order === 0) return this.#entries.length - 1 - middle;
      if (order < 0) low = middle + 1;
      else high = middle - 1;
    }
    return -1;
  }

  /** The lower edge of what covers the top of the rows: the grid's own frame and its header. */
  #clipTop() {
    return Math.max(0, this.grid.getBoundingClientRect().top) + this.head.offsetHeight;
  }

  /** How far the rows are scrolled under that edge, in px. */
  #offset() {
    return this.#clipTop() - this.body.getBoundingClientRect().top;
  }

  #range() {
    const bottom = Math.min(innerHeight, this.grid.getBoundingClientRect().bottom);
    const clip = this.#clipTop();
    const top = clip - this.body.getBoundingClientRect().top;
    const height = Math.max(0, bottom - clip);
    const first = Math.max(0, Math.floor(top / this.#rowPx) - OVERSCAN);
    const last = Math.ceil((top + height) / this.#rowPx) + OVERSCAN;
    return { first, last: Math.max(first, Math.min(this.#entries.length, last)), atTop: top <= this.#rowPx / 2 };
  }

  #anchor() {
    const index = Math.max(0, Math.floor(this.#offset() / this.#rowPx));
    const entry = this.#at(Math.min(index, this.#entries.length - 1));
    return entry && { id: entry.id, shift: this.#offset() - index * this.#rowPx };
  }

  #restore({ id, shift }) {
    const index = this.#find(id);
    if (index < 0) return;
    const delta = index * this.#rowPx + shift - this.#offset();
    if (this.grid.scrollHeight > this.grid.clientHeight) this.grid.scrollTop += delta;
    else scrollBy(0, delta);
  }

  #resize() {
    this.body.style.height = `${this.#entries.length * this.#rowPx}px`;
    this.grid.setAttribute('aria-rowcount', this.#entries.length + 1);
  }

  #rebuild() {
    this.body.replaceChildren();
    this.#elements.clear();
    this.#resize();
    this.schedule();
  }

  #create(entry) {
    const element = make('div', 'row');
    element.setAttribute('role', 'row');
    element.classList.toggle('gone', entry.op === 'deleted' || entry.op === 'left');
    element.id = `row-${entry.id}`;
    element.dataset.id = String(entry.id);
    if (this.#compact.matches) element.append(cardOf(entry, this.#columns, this.#profile));
    else element.append(...cellsOf(entry, this.#columns, this.#profile));
    const age = Date.now() - entry.arrived;
    if (age < MARK_MS) {
      element.classList.add('new');
      // Rows that scroll back into sight go on with their mark where it was, and do not fade in again.
      element.style.animationDelay = `${-Math.min(age, MARK_MS)}ms`;
      setTimeout(() => element.classList.remove('new'), MARK_MS - age);
    }
    this.#elements.set(element.dataset.id, element);
    return element;
  }

  #place(element, index) {
    element.style.transform = `translateY(${index * this.#rowPx}px)`;
    element.setAttribute('aria-rowindex', index + 2);
    element.classList.toggle('active', element.dataset.id === String(this.#active));
    element.setAttribute('aria-selected', element.dataset.id === String(this.#active));
  }

  #point() {
    const element = this.#active === null ? null : this.#elements.get(String(this.#active));
    if (element) this.grid.setAttribute('aria-activedescendant', element.id);
    else this.grid.removeAttribute('aria-activedescendant');
  }

  #click(event) {
    const id = event.target.closest('.row')?.dataset.id;
    if (id === undefined) return;
    const entry = this.#at(this.#find(id));
    this.#active = entry.id;
    this.render();
    // A drag over the text selects it; only a plain click opens the row.
    if (getSelection().isCollapsed) this.onOpen(entry);
  }

  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target !== this.grid) return;
    const page = Math.max(1, Math.floor(this.grid.clientHeight / this.#rowPx) - 2);
    const now = this.#active === null ? -1 : this.#find(this.#active);
    const last = this.#entries.length - 1;
    const steps = { ArrowDown: now + 1, ArrowUp: now - 1, PageDown: now + page, PageUp: now - page, Home: 0, End: last };
    if (event.key in steps) {
      event.preventDefault();
      this.#activate(Math.max(0, Math.min(last, steps[event.key])), true);
    } else if ((event.key === 'Enter' || event.key === ' ') && now >= 0) {
      event.preventDefault();
      this.onOpen(this.#at(now));
    }
  }

  #activate(index, reveal) {
    const entry = this.#at(index);
    if (!entry) return;
    this.#active = entry.id;
    if (reveal) this.#reveal(index);
    this.render();
  }

  #reveal(index) {
    const top = this.body.getBoundingClientRect().top + index * this.#rowPx;
    const bottom = Math.min(innerHeight, this.grid.getBoundingClientRect().bottom);
    const delta = Math.min(0, top - this.#clipTop()) || Math.max(0, top + this.#rowPx - bottom);
    if (this.grid.scrollHeight > this.grid.clientHeight) this.grid.scrollTop += delta;
    else scrollBy(0, delta);
  }

  /** Moves the highlight by so many rows and brings it into sight. */
  step(by) {
    const now = this.#active === null ? -1 : this.#find(this.#active);
    this.grid.focus({ preventScroll: true });
    this.#activate(Math.max(0, Math.min(this.#entries.length - 1, now + by)), true);
  }

  /** The entry of this id that is shown, or null. */
  entry(id) {
    const index = this.#find(id);
    return index < 0 ? null : this.#at(index);
  }

  /** The entry `step` rows below (older) the given one, or null at the end. */
  neighbour(entry, step) {
    const index = this.#find(entry.id) + step;
    return this.#find(entry.id) >= 0 && index >= 0 && index < this.#entries.length ? this.#at(index) : null;
  }

  /** Moves the highlight along with the detail view. */
  select(entry) {
    const index = this.#find(entry.id);
    if (index >= 0) this.#activate(index, true);
  }
}
