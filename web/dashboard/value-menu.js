// What can be done with one value of a row: filter by it, add it to the filter, take the filter away, copy it.

import { make } from './cells.js';
import { copyText } from './copy.js';
import { openBeside } from './popover.js';
import { RESERVED, canFilter } from './profile.js';
import { textOf } from './values.js';

/** A longer text may be one that the daemon cut (500 code points for the stock feed), and a cut one equals nothing. */
const CHARS_MAX = 499;
const SHOWN_CHARS = 40;
/** The hover button's width with a little room, and how far from it the pointer has to be. */
const BUTTON_PX = 26;
const NEAR_PX = 6;

/** Why this value can't be filtered by; null where it can. */
export function whyNot(feed, column, value, truncated) {
  if (RESERVED.includes(column)) return `“${column}” is a word the address keeps for itself.`;
  if (feed.kind === 'changes' && !canFilter(feed, column)) return `Changes can’t be filtered by “${column}”, only by ${feed.filters.join(', ')}.`;
  if (value === null || value === undefined) return 'NULL can’t be filtered by.';
  if (typeof value === 'object' || (feed.types?.[column] ?? '').includes('BLOB')) return 'Only texts and numbers can be filtered by.';
  if (truncated.includes(column) || textOf(value).length > CHARS_MAX) return 'Too long to be filtered by.';
  return null;
}

export class ValueMenu {
  /** `current()` gives `{feed, filters}`; `onFilter(filters)` when others are chosen. */
  constructor(popover, { current, onFilter }) {
    Object.assign(this, { popover, current, onFilter });
  }

  /** Opens beside the element for the value of this column. */
  open(anchor, entry, column) {
    const { feed, filters } = this.current();
    const value = entry.row[column];
    const reason = whyNot(feed, column, value, entry.truncated);
    const items = reason === null ? this.#filterItems(filters, column, textOf(value)) : [make('p', 'hint', reason)];
    if (reason !== null && filters.some(([name]) => name === column)) items.push(this.#clear(filters, column));
    if (textOf(value) !== null) items.push(this.#item('Copy', async (button) => { button.textContent = await copyText(textOf(value)); }, false));
    this.popover.setAttribute('aria-label', `${column} of this row`);
    this.popover.replaceChildren(...items);
    openBeside(this.popover, anchor);
    this.popover.querySelector('button')?.focus();
  }

  #filterItems(filters, column, text) {
    const shown = text === '' ? '(empty)' : text.length > SHOWN_CHARS ? `${text.slice(0, SHOWN_CHARS)}…` : text;
    const others = filters.filter(([name]) => name !== column);
    const chosen = filters.filter(([name]) => name === column).map(([, value]) => value);
    const set = (values) => () => this.onFilter([...others, ...values.map((value) => [column, value])]);
    const items = [];
    if (chosen.length !== 1 || chosen[0] !== text) items.push(this.#item(`Only ${column} = ${shown}`, set([text])));
    if (chosen.length > 0 && !chosen.includes(text)) items.push(this.#item(`Or ${shown}, too`, set([...chosen, text])));
    if (chosen.length > 1 && chosen.includes(text)) items.push(this.#item(`Without ${shown}`, set(chosen.filter((value) => value !== text))));
    if (chosen.length > 0) items.push(this.#clear(filters, column));
    return items;
  }

  #clear(filters, column) {
    return this.#item(`Any ${column}`, () => this.onFilter(filters.filter(([name]) => name !== column)));
  }

  #item(label, act, closes = true) {
    const button = make('button', 'item', label);
    button.type = 'button';
    button.addEventListener('click', () => {
      if (closes) this.popover.hidePopover();
      act(button);
    });
    return button;
  }
}

/** Offers the menu on the value under the pointer, as a button at the edge of its cell. */
export class HoverButton {
  #at = null;

  /** `list` is the frame of the rows; `entryOf(id)` gives an entry of the table. */
  constructor({ button, list, body, entryOf, menu }) {
    Object.assign(this, { button, list, body });
    body.addEventListener('pointerover', (event) => event.pointerType === 'mouse' && this.#over(event.target.closest('.row > .cell'), event.clientX));
    list.addEventListener('pointerleave', () => this.#hide());
    body.addEventListener('pointerleave', (event) => event.relatedTarget !== button && this.#hide());
    addEventListener('scroll', () => this.#hide(), { capture: true, passive: true });
    button.addEventListener('click', () => {
      const entry = this.#at && entryOf(this.#at.id);
      if (entry) menu.open(button, entry, this.#at.column);
    });
  }

  #over(cell, x) {
    if (!cell) return this.#hide();
    if (!this.button.hidden && this.#at?.cell === cell) return;
    const [box, row, frame] = [cell, cell.parentElement, this.list].map((one) => one.getBoundingClientRect());
    this.#at = { cell, id: cell.parentElement.dataset.id, column: cell.dataset.column };
    this.button.hidden = false;
    const right = Math.min(box.right, frame.right - 4) - BUTTON_PX;
    // Never under the pointer, where a click is meant for the row.
    const left = x > right - NEAR_PX && x < right + BUTTON_PX + NEAR_PX ? Math.max(box.left, frame.left) : right;
    this.button.style.left = `${left - frame.left}px`;
    this.button.style.top = `${row.top - frame.top + (row.height - this.button.offsetHeight) / 2}px`;
  }

  #hide() {
    if (this.button.getAttribute('aria-expanded') !== 'true') this.button.hidden = true;
  }
}
