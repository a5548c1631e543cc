// A row to try a feed with, where rows may be sent: what its columns take, after the newest row where there is one.

import { send } from './api.js';
import { STATUS_NAME, TIME_NAME } from './profile.js';
import { count } from './values.js';

/** SQLite's rules, in their order: what a declared type makes of a value. */
function kindOf(declared) {
  if (declared.includes('INT')) return 'integer';
  if (/CHAR|CLOB|TEXT/.test(declared)) return 'text';
  if (declared === '' || declared.includes('BLOB')) return 'blob';
  return /REAL|FLOA|DOUB/.test(declared) ? 'real' : 'any';
}

function sample(name, kind) {
  if (TIME_NAME.test(name)) return kind === 'integer' ? Math.floor(Date.now() / 1000) : new Date().toISOString();
  if (kind === 'integer') return 1;
  if (kind === 'real') return 1.5;
  // Base64 of "test": what a BLOB is sent as, and a text all the same where no type is declared.
  if (kind === 'blob') return 'dGVzdA==';
  return STATUS_NAME.test(name) ? 'success' : 'test';
}

/** The row to begin with. Without `types`, of a daemon that does not tell them, all columns are taken for texts. */
export function testRow(feed, newest) {
  const row = {};
  for (const name of feed.columns) {
    if (name === feed.key) continue;
    const like = newest?.[name];
    const old = like === undefined || TIME_NAME.test(name) ? sample(name, kindOf(feed.types?.[name] ?? 'TEXT')) : like;
    row[name] = old !== null && typeof old === 'object' ? JSON.stringify(old) : old;
  }
  return row;
}

export class TestEvent {
  #feed = null;
  #sending = false;

  constructor({ section, text, button, result }) {
    Object.assign(this, { section, text, button, result });
    button.addEventListener('click', () => this.#send());
  }

  /** Shows a row for this feed, or nothing where it takes none. */
  show(feed, newest) {
    this.section.hidden = !feed.ingest || feed.status !== 'open';
    if (this.section.hidden) return;
    this.#feed = feed;
    this.text.value = JSON.stringify(testRow(feed, newest), null, 2);
    this.#tell('', '');
  }

  async #send() {
    if (this.#sending) return;
    this.#sending = true;
    try {
      JSON.parse(this.text.value);
      this.#tell('', 'Sending…');
      const { ids } = await send(this.#feed.events, this.text.value);
      this.#tell('good', ids.length === 1 ? `Committed as ${this.#feed.key} ${ids[0]}.` : `${count(ids.length)} rows committed.`);
    } catch (error) {
      this.#tell('bad', error instanceof SyntaxError ? `This is not JSON: ${error.message}` : `Nothing was written: ${error.message}`);
    } finally {
      this.#sending = false;
    }
  }

  #tell(tone, text) {
    this.result.className = `result ${tone}`;
    this.result.textContent = text;
  }
}
