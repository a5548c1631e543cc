// The names over the columns: a click sorts what is loaded, the edge can be dragged.

import { make } from './cells.js';
import { chPx } from './measure.js';

const STEP_CH = 2;

export class GridHead {
  /** `onSort(column)`; `onResize(column, ch, done)` while an edge is dragged, `ch` null for the column's own width. */
  constructor(head, { onSort, onResize }) {
    Object.assign(this, { head, onSort, onResize });
    head.addEventListener('pointerdown', (event) => this.#drag(event));
    head.addEventListener('dblclick', (event) => event.target.matches('.edge') && this.onResize(event.target.parentElement.dataset.column, null, true));
    head.addEventListener('click', (event) => {
      const button = event.target.closest('button');
      if (button) this.onSort(button.parentElement.dataset.column);
    });
    head.addEventListener('keydown', (event) => this.#key(event));
  }

  /** `columns`: `[{name, className}]` from left to right. */
  draw(columns, sort) {
    const focused = document.activeElement?.closest('#grid-head .cell')?.dataset.column;
    this.head.replaceChildren(...columns.map(({ name, className }, i) => {
      const cell = make('div', className);
      cell.setAttribute('role', 'columnheader');
      cell.setAttribute('aria-colindex', i + 1);
      cell.dataset.column = name;
      const button = make('button', 'sort');
      button.type = 'button';
      button.title = `Sort the loaded rows by ${name}`;
      button.append(make('span', 'sort-name', name), make('span', 'sort-arrow'));
      const edge = make('span', 'edge');
      edge.title = 'Drag to set the width, double-click for its own';
      cell.append(button, edge);
      return cell;
    }));
    this.mark(sort);
    if (focused !== undefined) this.#cell(focused)?.querySelector('button').focus({ preventScroll: true });
  }

  mark({ column, descending }) {
    for (const cell of this.head.children) {
      const sorted = cell.dataset.column === column;
      if (sorted) cell.setAttribute('aria-sort', descending ? 'descending' : 'ascending');
      else cell.removeAttribute('aria-sort');
      cell.querySelector('.sort-arrow').textContent = sorted ? (descending ? '↓' : '↑') : '';
    }
  }

  #cell(name) {
    return [...this.head.children].find((cell) => cell.dataset.column === name);
  }

  #drag(event) {
    if (!event.target.matches('.edge') || event.button !== 0) return;
    event.preventDefault();
    const edge = event.target;
    const { column } = edge.parentElement.dataset;
    const grip = { x: event.clientX, width: edge.parentElement.offsetWidth };
    const widthAt = ({ clientX }) => (grip.width + clientX - grip.x) / chPx();
    // The cell may be drawn anew under the pointer: the window hears of every move.
    const move = (moved) => this.onResize(column, widthAt(moved), false);
    const end = (last) => {
      removeEventListener('pointermove', move);
      removeEventListener('pointerup', end);
      removeEventListener('pointercancel', end);
      if (last.clientX !== grip.x) this.onResize(column, widthAt(last), true);
    };
    addEventListener('pointermove', move);
    addEventListener('pointerup', end);
    addEventListener('pointercancel', end);
  }

  #key(event) {
    const step = { ArrowLeft: -STEP_CH, ArrowRight: STEP_CH }[event.key];
    const cell = event.target.closest('.cell');
    if (step === undefined || !event.shiftKey || !cell) return;
    event.preventDefault();
    this.onResize(cell.dataset.column, cell.offsetWidth / chPx() + step, true);
  }
}
