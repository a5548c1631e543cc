// The filters in force, and lists of values to choose others from.

import { make } from './cells.js';

const wordOf = (value) => (value === '' ? '(empty)' : value);

export class FilterBar {
  #view = null;
  #shown = '';

  /** `onChange(filters)` when another choice is made. */
  constructor({ container, clear, onChange }) {
    Object.assign(this, { container, clear, onChange });
    clear.addEventListener('click', () => {
      onChange([]);
      container.querySelector('select')?.focus();
    });
  }

  render(view) {
    this.#view = view;
    const { profile, filters } = view;
    const columns = [...new Set([...profile.facets, ...filters.map(([name]) => name)])];
    const shape = JSON.stringify([view.feed.name, filters, columns.map((name) => [name, profile.valuesOf(name)])]);
    this.clear.hidden = filters.length === 0;
    // Rebuilding closes an open list under the pointer: only when something changed, and not while one is in use.
    if (shape === this.#shown || (this.container.contains(document.activeElement) && this.#shown !== '' && view.arrived > 0)) return;
    this.#shown = shape;
    const focused = document.activeElement?.dataset?.column;
    this.container.replaceChildren(...columns.map((name) => this.#control(name)), this.clear);
    if (focused !== undefined) [...this.container.querySelectorAll('select')].find((one) => one.dataset.column === focused)?.focus();
  }

  #control(name) {
    const { filters, profile } = this.#view;
    const chosen = filters.filter(([column]) => column === name).map(([, value]) => value);
    const label = make('label', chosen.length > 0 ? 'filter on' : 'filter');
    const select = make('select');
    select.dataset.column = name;
    select.append(new Option('All', 'all'));
    // Values travel behind a prefix: a value may itself be "all".
    for (const value of new Set([...profile.valuesOf(name), ...chosen])) select.append(new Option(wordOf(value), `=${value}`));
    // The address may ask for several values: they are shown as what they are, and stay until another choice is made.
    if (chosen.length > 1) select.prepend(new Option(chosen.map(wordOf).join(' or '), 'several'));
    select.value = chosen.length > 1 ? 'several' : chosen.length === 1 ? `=${chosen[0]}` : 'all';
    select.addEventListener('change', () => {
      const others = this.#view.filters.filter(([column]) => column !== name);
      this.onChange(select.value === 'all' ? others : [...others, [name, select.value.slice(1)]]);
    });
    label.append(make('span', '', name), select);
    return label;
  }
}
