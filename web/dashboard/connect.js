// The panel that says how a program gets what this page shows, and lets a row be sent to try it.

import { make } from './cells.js';
import { copyText } from './copy.js';
import { WAYS, written } from './snippets.js';
import { TestEvent } from './test-event.js';
import { token } from './token.js';

export class Connect {
  #way = WAYS[0];
  #shown = null;

  /** `current()` gives `{feed, filters, newest}`: what the page shows. */
  constructor(dialog, current) {
    const find = (name) => dialog.querySelector(`#connect-${name}`);
    Object.assign(this, { dialog, current, tabs: find('ways'), panel: find('way'), note: find('note'), code: find('code'), copy: find('copy'), where: find('where'), secret: find('secret') });
    this.test = new TestEvent({ section: find('test'), text: find('row'), button: find('send'), result: find('result') });
    this.tabs.append(...WAYS.map((way) => this.#tab(way)));
    this.tabs.addEventListener('keydown', (event) => this.#key(event));
    this.copy.addEventListener('click', async () => {
      this.copy.textContent = await copyText(this.code.textContent);
    });
    find('close').addEventListener('click', () => dialog.close());
    dialog.addEventListener('click', (event) => event.target === dialog && dialog.close());
  }

  open({ test = false } = {}) {
    const { feed, filters, newest } = this.current();
    this.#shown = { feed, filters, secured: token() !== '' };
    const only = filters.map(([name, value]) => `${name} = ${value}`).join(', ');
    const rows = only === '' ? 'All rows' : `Rows with ${only}`;
    this.where.textContent = feed.kind === 'changes' ? `${rows} of the table, then its changes; by curl and tail the newest ten changes.` : `${rows}${only === '' ? ' of the feed' : ''}, the newest ten first.`;
    this.secret.hidden = !this.#shown.secured;
    this.test.show(feed, newest);
    this.#choose(this.#way);
    if (!this.dialog.open) this.dialog.showModal();
    if (test && !this.test.section.hidden) this.test.button.focus();
  }

  #tab(way) {
    const tab = make('button', 'way', way.name);
    tab.type = 'button';
    tab.id = `way-${way.id}`;
    tab.setAttribute('role', 'tab');
    tab.setAttribute('aria-controls', this.panel.id);
    tab.addEventListener('click', () => this.#choose(way));
    return tab;
  }

  #choose(way) {
    this.#way = way;
    for (const tab of this.tabs.children) {
      const chosen = tab.id === `way-${way.id}`;
      tab.setAttribute('aria-selected', chosen);
      tab.tabIndex = chosen ? 0 : -1;
    }
    this.panel.setAttribute('aria-labelledby', `way-${way.id}`);
    this.note.textContent = way.note;
    this.code.textContent = written(way, this.#shown);
    this.copy.textContent = 'Copy';
  }

  #key(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    this.#choose(WAYS[(WAYS.indexOf(this.#way) + step + WAYS.length) % WAYS.length]);
    this.tabs.querySelector('[aria-selected=true]').focus();
  }
}
