// All feeds at a glance: beside the rows where there is room, else in a sheet that a button opens.

import { make } from './cells.js';
import { addressOf } from './place.js';
import { Pulse } from './pulse.js';

/** So many feeds are seen at once: more can be searched. */
const FIND_FROM = 9;
const HEALTH = { open: 'served', waiting: 'waiting for its table', error: 'can’t be read' };

export class FeedList {
  /** Feed name → its Pulse; in the order of the list. */
  #pulses = new Map();
  #items = new Map();
  #current = null;
  #narrow = matchMedia('(max-width: 1000px)');

  constructor({ aside, nav, list, find, none, button, name, sheet }) {
    Object.assign(this, { aside, nav, list, find, none, button, name, sheet });
    this.#narrow.addEventListener('change', () => this.#settle());
    button.addEventListener('click', () => this.#openSheet());
    sheet.addEventListener('click', (event) => (event.target === sheet || event.target.closest('a, .icon')) && sheet.close());
    find.addEventListener('input', () => this.#filter());
    find.addEventListener('keydown', (event) => event.key === 'Enter' && this.#take());
    this.#settle();
  }

  /** Takes the daemon's list; `visible` says whether somebody is looking at the page. */
  update(feeds, visible) {
    const names = feeds.map(({ name }) => name);
    if (names.join('\n') !== [...this.#items.keys()].join('\n')) this.#rebuild(feeds);
    const now = performance.now();
    for (const feed of feeds) {
      const pulse = this.#pulses.get(feed.name);
      pulse.take(feed, now);
      if (feed.name === this.#current && visible) pulse.see();
      this.#draw(feed, pulse);
    }
    const others = [...this.#pulses].some(([name, pulse]) => name !== this.#current && pulse.unread !== '');
    this.button.classList.toggle('news', others);
  }

  /** Marks the feed that is shown. */
  select(name) {
    this.#current = name;
    this.name.textContent = name;
    this.name.hidden = false;
    document.getElementById('feeds-button-name').textContent = name;
    for (const [one, { link, badge }] of this.#items) {
      if (one !== name) link.removeAttribute('aria-current');
      else {
        link.setAttribute('aria-current', 'page');
        this.#pulses.get(one).see();
        badge.textContent = '';
      }
    }
    this.#filter();
    this.#reveal();
  }

  /** The name of the feed `step` places further. */
  neighbour(step) {
    const names = [...this.#items.keys()];
    return names[(names.indexOf(this.#current) + step + names.length) % names.length];
  }

  #rebuild(feeds) {
    const names = feeds.map(({ name }) => name);
    const focused = document.activeElement?.closest('#feed-list a')?.dataset.feed;
    this.#pulses = new Map(names.map((name) => [name, this.#pulses.get(name) ?? new Pulse()]));
    this.#items = new Map(feeds.map((feed) => [feed.name, this.#item(feed)]));
    this.list.replaceChildren(...[...this.#items.values()].map(({ item }) => item));
    this.find.parentElement.hidden = names.length < FIND_FROM;
    const alone = names.length < 2;
    this.aside.classList.toggle('alone', alone);
    this.button.hidden = alone;
    this.name.classList.toggle('alone', alone);
    if (this.#current !== null) this.select(this.#current);
    this.#items.get(focused)?.link.focus();
  }

  #item({ name, table = name }) {
    const item = make('li');
    const link = make('a', 'feed');
    link.href = addressOf(name);
    link.dataset.feed = name;
    const health = make('span', 'health-dot');
    const words = make('span', 'unseen');
    const rate = make('span', 'rate');
    const badge = make('span', 'badge');
    const label = make('span', 'feed-name', name);
    // Of such a table's name the feed's has underscores alone.
    if (/[^\x20-\x7e]/.test(table)) label.replaceChildren(table, ' ', make('span', 'feed-own', name));
    link.append(health, label, words, rate, badge);
    item.append(link);
    return { item, link, health, words, rate, badge, known: `${name}\n${table}`.toLowerCase() };
  }

  #draw({ name, table, status, reason }, pulse) {
    const { link, health, words, rate, badge } = this.#items.get(name);
    health.className = `health-dot ${status}`;
    const named = table === undefined || table === name ? name : `${name}, the table ${table}`;
    link.title = status === 'open' ? named : `${named}: ${reason ?? HEALTH[status] ?? status}`;
    const unread = name === this.#current && !document.hidden ? '' : pulse.unread;
    put(words, status === 'open' ? '' : `, ${HEALTH[status] ?? status}`);
    put(rate, pulse.rate);
    put(badge, unread);
    badge.title = unread === '' ? '' : `${unread} since it was last shown, by ids`;
  }

  /** The selected feed stays, whatever is searched for. */
  #filter() {
    const wanted = this.find.value.trim().toLowerCase();
    let found = 0;
    for (const [name, { item, known }] of this.#items) {
      const fits = known.includes(wanted);
      found += fits ? 1 : 0;
      item.hidden = !fits && name !== this.#current;
    }
    put(this.none, found === 0 && this.#items.size > 0 ? 'No feed has that in its name or its table’s.' : '');
  }

  #take() {
    const wanted = this.find.value.trim().toLowerCase();
    const found = [...this.#items.values()].find(({ known }) => known.includes(wanted));
    if (wanted === '' || found === undefined) return;
    this.find.value = '';
    found.link.click();
  }

  /** Scrolls the list only: the page stays where it is. */
  #reveal() {
    const item = this.#items.get(this.#current)?.item;
    if (!item || this.list.clientHeight === 0) return;
    const [box, frame] = [item.getBoundingClientRect(), this.list.getBoundingClientRect()];
    this.list.scrollTop += Math.min(0, box.top - frame.top) || Math.max(0, box.bottom - frame.bottom);
  }

  #openSheet() {
    this.sheet.showModal();
    this.#reveal();
  }

  #settle() {
    if (this.#narrow.matches) this.sheet.append(this.nav);
    else {
      this.sheet.close();
      this.aside.append(this.nav);
    }
    this.#reveal();
  }
}

/** Text is written only where it changes: screen readers and layout are left in peace. */
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
