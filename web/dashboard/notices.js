// One line for each thing that is wrong or worth knowing, gone when it is over.

import { make } from './cells.js';

const PASSING_MS = 12_000;

export class Notices {
  #shown = new Map();

  constructor(container) {
    this.container = container;
  }

  /** Shows `{title, text}` under this name in place of what was there; null takes it away. */
  set(name, content, kind = 'warn') {
    const old = this.#shown.get(name);
    if (!content) {
      old?.element.remove();
      this.#shown.delete(name);
      return;
    }
    if (old?.title === content.title && old?.text === content.text) return;
    const element = make('p', `notice ${kind}`);
    element.append(make('strong', '', content.title), ' ', make('span', '', content.text));
    if (old) old.element.replaceWith(element);
    else this.container.append(element);
    this.#shown.set(name, { ...content, element });
  }

  /** Shows it for some seconds. */
  pass(name, content) {
    this.set(name, content, 'info');
    const { element } = this.#shown.get(name);
    setTimeout(() => this.#shown.get(name)?.element === element && this.set(name, null), PASSING_MS);
  }
}
