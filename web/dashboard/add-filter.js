// A filter on any column, also on one whose values make no list to choose from.

import { openBeside } from './popover.js';
import { canFilter } from './profile.js';

export class AddFilter {
  /** `current()` gives `{feed, filters, profile}`; `onFilter(filters)` with the new one among them. */
  constructor({ button, popover, form, column, value, known }, { current, onFilter }) {
    Object.assign(this, { popover, column, value, known, current });
    button.addEventListener('click', () => this.#open(button));
    column.addEventListener('change', () => this.#offer());
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      const { filters } = current();
      const added = [column.value, value.value];
      popover.hidePopover();
      if (!filters.some(([name, chosen]) => name === added[0] && chosen === added[1])) onFilter([...filters, added]);
    });
  }

  #open(button) {
    const { profile } = this.current();
    const columns = profile.columns.filter((name) => canFilter(profile.feed, name));
    const chosen = this.column.value;
    this.column.replaceChildren(...columns.map((name) => new Option(name, name)));
    this.column.value = columns.includes(chosen) ? chosen : columns.find((name) => !profile.facets.includes(name)) ?? columns[0];
    this.value.value = '';
    this.#offer();
    openBeside(this.popover, button);
    this.value.focus();
  }

  /** Values that were seen in the column, where they are few. */
  #offer() {
    this.known.replaceChildren(...this.current().profile.valuesOf(this.column.value).map((value) => new Option(value, value)));
  }
}
