// One row in full, in a dialog: every column with its whole value, the rows beside it, a copy of it all.

import { make, opNode, statusNode } from './cells.js';
import { copyText } from './copy.js';
import { isChanged } from './rows.js';
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

/** Lines of a text, of which those that the other text lacks are marked. */
function markedLines(lines, others, tag) {
  const text = make('pre');
  text.append(...lines.flatMap((line) => [others.has(line) ? line : make(tag, tag === 'del' ? 'was' : 'is', line), '\n']));
  text.lastChild.remove();
  return text;
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
      this.copy.textContent = await copyText(JSON.stringify(this.#entry.sent ?? this.#entry.row, null, 2));
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
    const { feed, columns } = this.profile;
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
      value.append(...(isChanged(entry, name) ? this.#beside(name, entry) : this.#value(name, entry.row[name])));
      if (entry.truncated.includes(name)) value.append(make('p', 'note', 'Cut: the row was too large to send whole.'));
      return [term, value];
    }));
    this.fields.scrollTop = 0;
    this.copy.textContent = 'Copy JSON';
    this.link.textContent = 'Copy link';
    this.onShow(entry);
    this.refresh();
  }

  /** What a value was beside what it is. */
  #beside(name, { before, row }) {
    const pair = make('div', 'beside');
    const texts = [before[name], row[name]].map((value) => textOf(value) === null ? null : readable(textOf(value)).split('\n'));
    for (const [i, [label, tag]] of [['Before', 'del'], ['After', 'ins']].entries()) {
      const side = make('div');
      side.append(make('p', 'note', label));
      const lines = texts[i];
      if (lines?.length > 1) side.append(markedLines(lines, new Set(texts[1 - i] ?? []), tag));
      else {
        const marked = make(tag, tag === 'del' ? 'was' : 'is');
        marked.append(...this.#value(name, [before, row][i][name]));
        side.append(marked);
      }
      pair.append(side);
    }
    return [pair];
  }

  #value(name, value) {
    const { status, time, own } = this.profile;
    if (own && name === status) return [opNode(value)];
    if (own && value === undefined) return [make('span', 'null', 'not known')];
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
