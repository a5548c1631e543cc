// What stands where the rows would be while there are none, and what can be done about it.

import { count } from './values.js';

export class EmptyState {
  constructor({ panel, grid, box, title, text, clear, connect, test }) {
    Object.assign(this, { panel, grid, box, title, text, clear, connect, test });
  }

  /** `bare`: nothing can be counted, filtered or exported; `clear` and `connect` offer these ways on, `test` a row to send. */
  show({ title, text }, { bare = false, clear = false, connect = false, test = false } = {}) {
    this.panel.classList.toggle('bare', bare);
    this.grid.hidden = true;
    this.box.hidden = false;
    this.title.textContent = title;
    this.text.textContent = text;
    this.clear.hidden = !clear;
    this.connect.hidden = !connect;
    this.test.hidden = !test;
  }

  #rows() {
    this.panel.classList.remove('bare');
    this.grid.hidden = false;
    this.box.hidden = true;
  }

  #nothingFound(view) {
    const text = `None of the ${count(view.shown.length)} loaded rows contains “${view.arrangement.text.trim()}”.`;
    this.show({ title: 'Nothing found', text: view.hasMore ? `${text} Older rows are not loaded: a filter asks for all.` : text });
  }

  /** `state`: what the daemon says of the table, null where it is there. */
  render(view, state) {
    if (view.listed > 0) return this.#rows();
    if (view.shown.length > 0) return this.#nothingFound(view);
    const bare = view.feed.status === 'error';
    if (view.problem?.unreachable) return this.show(view.problem, { bare });
    if (state) return this.show(state, { bare });
    if (view.problem && view.loading) return this.show(view.problem, { bare });
    if (view.loading) return this.show({ title: 'Loading', text: '' }, { bare });
    if (view.filters.length > 0) return this.show({ title: 'No row matches these filters', text: 'Matching rows appear here when they are committed.' }, { clear: true });
    if (view.profile.own) return this.show({ title: 'No changes yet', text: `The first change of ${view.feed.table} appears here by itself.` }, { connect: true });
    this.show(
      { title: 'No rows yet', text: `The first row committed to ${view.feed.table} appears here by itself.` },
      { connect: true, test: view.feed.ingest },
    );
  }
}
