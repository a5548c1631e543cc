// The list of rows: only what can be seen is in the document, so 10,000 rows scroll like ten.
// Works in its own scroll area (wide) and in the page's (phone), with the mouse and with the keyboard.

import { make, statusNode, timeNode, valueNode } from './cells.js';
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
  #active = null;
  #elements = new Map();
  #scheduled = false;
  #compact = matchMedia('(max-width: 640px)');

  /** `onOpen(entry)` for a click or Enter; `onEnd()` whenever the last rows come into sight; `onTop(atTop)` with every drawing. */
  constructor({ grid, head, body, onOpen, onEnd, onTop }) {
    Object.assign(this, { grid, head, body, onOpen, onEnd, onTop });
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

  setProfile(profile) {
    const { roomiest } = profile;
    const widths = profile.columns.map((name) => (name === roomiest?.name ? roomiest.least : profile.width(name)) + GAP_CH);
    const template = widths.map((ch, i) => (profile.columns[i] === roomiest?.name ? `minmax(${ch}ch, ${roomiest.most + GAP_CH}ch)` : `${ch}ch`)).join(' ');
    const shape = JSON.stringify([template, profile.columns.map((name) => [name, profile.numeric(name)]), profile.time, profile.status]);
    this.#profile = profile;
    if (shape === this.shape) return;
    this.shape = shape;
    this.grid.style.setProperty('--columns', template);
    // Rows are positioned absolutely and give their parent no width: it is told.
    this.grid.style.setProperty('--width', `${widths.reduce((sum, ch) => sum + ch, 0)}ch`);
    this.head.replaceChildren(
      ...profile.columns.map((name, i) => {
        const cell = make('div', this.#cellClass(name), name);
        cell.setAttribute('role', 'columnheader');
        cell.setAttribute('aria-colindex', i + 1);
        return cell;
      }),
    );
    this.#rebuild();
  }

  /** Shows these entries (oldest first, as the log keeps them); what is being read stays where it is. */
  show(entries, { keepPlace = true } = {}) {
    const anchor = keepPlace && !this.atTop ? this.#anchor() : null;
    this.#entries = entries;
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
    element.id = `row-${entry.id}`;
    element.dataset.id = String(entry.id);
    if (this.#compact.matches) this.#fillCard(element, entry);
    else this.#fillRow(element, entry);
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

  #fillRow(element, entry) {
    this.#profile.columns.forEach((name, i) => {
      const cell = make('div', this.#cellClass(name));
      cell.setAttribute('role', 'gridcell');
      cell.setAttribute('aria-colindex', i + 1);
      cell.append(this.#node(name, entry.row[name]));
      element.append(cell);
    });
  }

  #node(name, value) {
    if (name === this.#profile.status) return statusNode(value);
    return name === this.#profile.time ? timeNode(value) : valueNode(value);
  }

  /** On a phone a row is a card: headline, status and time, and the rest in one muted line. */
  #fillCard(element, { row }) {
    const { columns, status, time, title, feed } = this.#profile;
    const cell = make('div', 'card');
    cell.setAttribute('role', 'gridcell');
    const top = make('div', 'card-top');
    const headline = make('div', 'card-title');
    headline.append(valueNode(row[title]));
    top.append(headline);
    if (status) top.append(statusNode(row[status]));
    const rest = make('div', 'card-rest');
    const when = make('div', 'card-time');
    when.append(time ? timeNode(row[time]) : valueNode(row[feed.key]));
    const line = make('div', 'card-line');
    for (const name of columns) {
      if ([feed.key, status, time, title].includes(name) || row[name] === null || row[name] === '') continue;
      if (line.childNodes.length > 0) line.append(make('span', 'sep', '·'));
      line.append(valueNode(row[name]));
    }
    rest.append(line, when);
    cell.append(top, rest);
    element.append(cell);
  }

  #cellClass(name) {
    const { feed, time, title } = this.#profile;
    if (name === feed.key) return 'cell key';
    if (name === time) return 'cell time';
    if (this.#profile.numeric(name)) return 'cell number';
    return name === title ? 'cell title' : 'cell';
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

  /** The entry `step` rows below (older) the given one, or null at the end. */
  neighbour(entry, step) {
    const index = this.#find(entry.id) + step;
    return index >= 0 && index < this.#entries.length ? this.#at(index) : null;
  }

  /** Moves the highlight along with the detail view. */
  select(entry) {
    const index = this.#find(entry.id);
    if (index >= 0) this.#activate(index, true);
  }
}
