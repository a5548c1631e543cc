// How the loaded rows are shown: their order, and which columns. On a phone they are exported from here, too.

import { make } from './cells.js';
import { openBeside } from './popover.js';

/** The width is that of the phone in style.css: there is no room for the exports beside the rest. */
const PHONE = matchMedia('(max-width: 640px)');

export class ViewMenu {
  /** `current()` gives `{profile, layout, arrangement}`; `onSort(column, descending)`; `onLayout()` after the columns changed. */
  constructor({ button, popover, order, columns, reset, exports, actions, within }, { current, onSort, onLayout }) {
    Object.assign(this, { popover, order, columns, reset, current, onLayout });
    button.addEventListener('click', () => {
      this.draw();
      openBeside(popover, button);
    });
    const settle = () => (PHONE.matches ? within : actions).append(...exports);
    PHONE.addEventListener('change', settle);
    settle();
    order.addEventListener('change', () => {
      const [direction, ...name] = order.value.split(' ');
      onSort(direction === '' ? null : name.join(' '), direction !== 'up');
    });
    reset.addEventListener('click', () => {
      current().layout.reset();
      onLayout();
      this.draw();
    });
  }

  draw() {
    const { profile, layout, arrangement } = this.current();
    const shown = layout.visible(profile.columns);
    this.order.replaceChildren(
      new Option('As they came, newest first', ''),
      ...profile.columns.flatMap((name) => [new Option(`${name} ↓`, `down ${name}`), new Option(`${name} ↑`, `up ${name}`)]),
    );
    this.order.value = arrangement.column === null ? '' : `${arrangement.descending ? 'down' : 'up'} ${arrangement.column}`;
    this.columns.replaceChildren(...profile.columns.map((name) => {
      const label = make('label', 'choice');
      const box = make('input');
      box.type = 'checkbox';
      box.checked = shown.includes(name);
      box.addEventListener('change', () => {
        layout.show(name, box.checked);
        this.onLayout();
        this.reset.disabled = !layout.changed;
      });
      label.append(box, make('span', '', name));
      return label;
    }));
    this.reset.disabled = !layout.changed;
  }
}
