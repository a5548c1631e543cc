// One row in full, in a dialog: every column with its whole value, the rows beside it, a copy of it all.

import { make, statusNode } from './cells.js';
import { copyText } from './copy.js';
import { clock, parseTime, textOf } from './values.js';

/** Text that is a JSON object or array, laid out to be read; anything else as it is. */
function readable(text) {
  if (!/^\s*[[{]/.test(text)) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

export class Detail {
  #entry = null;

  /**
   * `table` gives the neighbours and follows along; `onShow(entry)` with every row that is shown, null when the dialog closes;
   * `menu` is the ValueMenu.
   */
  constructor(dialog, { table, menu, onShow }) {
    Object.assign(this, { dialog, table, menu, onShow });
    this.title = dialog.querySelector('#detail-title');
    this.fields = dialog.querySelector('#detail-fields');
    this.newer = dialog.querySelector('#detail-newer');
    this.older = dialog.querySelector('#detail-older');
    this.copy = dialog.querySelector('#detail-copy');
    this.newer.addEventListener('click', () => this.#step(-1));
    this.older.addEventListener('click', () => this.#step(1));
    this.link = dialog.querySelector('#detail-link');
    this.copy.addEventListener('click', async () => {
      this.copy.textContent = await copyText(JSON.stringify(this.#entry.row, null, 2));
    });
    this.link.addEventListener('click', async () => {
      this.link.textContent = await copyText(location.href);
    });
    dialog.addEventListener('close', () => onShow(null));
    this.fields.addEventListener('click', ({ target }) => {
      const button = target.closest('button');
      if (button) menu.open(button, this.#entry, button.dataset.column);
    });
    dialog.querySelector('#detail-close').addEventListener('click', () => dialog.close());
    dialog.addEventListener('click', (event) => event.target === dialog && dialog.close());
    dialog.addEventListener('keydown', (event) => this.#key(event));
  }

  get entry() {
    return this.dialog.open ? this.#entry : null;
  }

  open(entry, profile) {
    this.profile = profile;
    this.#show(entry);
    if (!this.dialog.open) this.dialog.showModal();
  }

  /** Rows may come or go while the dialog is open: the ways onward are then others. */
  refresh() {
    if (!this.dialog.open) return;
    // A disabled button loses the focus to nowhere: hand it on first.
    const away = { newer: !this.table.neighbour(this.#entry, -1), older: !this.table.neighbour(this.#entry, 1) };
    for (const name of ['newer', 'older']) {
      if (away[name] && document.activeElement === this[name]) this.dialog.querySelector('#detail-close').focus();
      this[name].disabled = away[name];
    }
  }

  #show(entry) {
    this.#entry = entry;
    const { feed, columns, status, time } = this.profile;
    this.title.textContent = `${feed.table} · ${feed.key} ${entry.id}`;
    const names = [...new Set([...columns, ...Object.keys(entry.row)])];
    this.fields.replaceChildren(...names.flatMap((name) => {
      const term = make('dt', '', name);
      const more = make('button', 'more', '⋯');
      more.type = 'button';
      more.dataset.column = name;
      more.setAttribute('aria-label', `Filter or copy ${name}`);
      more.setAttribute('aria-haspopup', 'true');
      term.append(more);
      const value = make('dd');
      value.dir = 'auto';
      value.append(...this.#value(name, entry.row[name], { status, time }));
      if (entry.truncated.includes(name)) value.append(make('p', 'note', 'Cut: the row was too large to send whole.'));
      return [term, value];
    }));
    this.fields.scrollTop = 0;
    this.copy.textContent = 'Copy JSON';
    this.link.textContent = 'Copy link';
    this.onShow(entry);
    this.refresh();
  }

  #value(name, value, { status, time }) {
    const text = textOf(value);
    if (text === null) return [make('span', 'null', 'NULL')];
    if (text === '') return [make('span', 'null', 'empty text')];
    if (name === status && text.length < 60) return [statusNode(value)];
    const at = name === time ? parseTime(value) : null;
    if (at?.zoned) {
      const local = clock(at.ms);
      return [make('span', '', text), make('p', 'note', `${local.day} ${local.time} your time`.trim())];
    }
    const shown = readable(text);
    return [make(shown.includes('\n') ? 'pre' : 'span', '', shown)];
  }

  #step(by) {
    const next = this.#entry && this.table.neighbour(this.#entry, by);
    if (!next) return;
    this.table.select(next);
    this.#show(next);
  }

  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const step = { ArrowLeft: -1, k: -1, ArrowRight: 1, j: 1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    this.#step(step);
  }
}
