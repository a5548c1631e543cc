// One feed, followed without a gap: the WebSocket while it can be had, the history while it can't.
// Keeps the position (cursor and epoch) and hands on rows and events; holds no rows and no DOM.

import { ApiError, explain, history, openSocket, refusal } from './api.js';
import { idDistance, isId, maxId } from './values.js';
import { MAX_ROWS } from './rows.js';

const POLL_MS = 3_000;
const PAGE = 500;
const BACKOFF_FIRST_MS = 500;
const BACKOFF_MAX_MS = 15_000;
/** The daemon sends a heartbeat after 25 s without another frame: beyond this it is asked… */
const QUIET_MS = 35_000;
/** …and beyond this the link is dead, whatever the browser believes. */
const DEAD_MS = 45_000;

const NO_SOCKET = {
  title: 'No live connection',
  text:
    'The daemon answers over HTTP but not over WebSocket: it is full, or it or a proxy in between refuses ' +
    `the connection from ${location.origin}. New rows are fetched every few seconds meanwhile.`,
};

/**
 * `handlers`: `rows([{row, truncated}])`, `reset(reason)` after which the stream is over and the caller
 * starts anew, `status({live, problem})`, `malformed()`, `unlisted()` when rows come from a table that was not
 * there when the feeds were listed, `denied(error)` when a token is missing or no longer valid.
 */
export class Stream {
  live = false;
  /** Connected, but the daemon has no table to read. */
  waiting = false;
  /** The highest id known to exist, wherever it was heard of. */
  head = null;
  /** The highest id known to be covered: rows, handovers and heartbeats; for display, not to resume from. */
  reached = null;
  /** When the last frame or answer came, in ms since the epoch; 0 for never. */
  lastHeard = 0;
  malformed = 0;

  #socket = null;
  #stopped = new AbortController();
  #greeted = false;
  #failures = 0;
  #retryTimer = 0;
  #pollTimer = 0;
  #watchTimer = 0;
  #polling = false;
  #reconnectAfter = null;
  /** What a close code said; stands until a socket is greeted again. */
  #problem = null;
  #reported = null;

  constructor({ feed, filters, position, epoch }, handlers) {
    this.feed = feed;
    this.filters = filters;
    this.position = position;
    this.reached = position;
    this.epoch = epoch || null;
    this.handlers = handlers;
  }

  start() {
    this.#watchTimer = setInterval(() => this.#watch(), 5_000);
    this.#connect();
  }

  stop() {
    this.#stopped.abort();
    clearInterval(this.#watchTimer);
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#pollTimer);
    this.#drop();
  }

  /** Tries the socket now instead of when the backoff is over: the tab or the network came back. */
  hurry() {
    if (this.live || this.#socket || this.#stopped.signal.aborted) return;
    clearTimeout(this.#retryTimer);
    this.#connect();
  }

  #connect() {
    const pairs = [['since', this.#since]];
    if (this.epoch !== null) pairs.push(['epoch', this.epoch]);
    const socket = openSocket(this.feed.ws[0], pairs.concat(this.filters));
    this.#socket = socket;
    socket.onmessage = (event) => socket === this.#socket && this.#receive(event.data);
    socket.onclose = (event) => socket === this.#socket && this.#closed(event);
  }

  /** From the beginning a feed of changes would send the whole table, which is no change: the page asks the history for those. */
  get #since() {
    if (this.#unbegun) return 'now';
    return this.position === null ? 'earliest' : String(this.position);
  }

  /** Whether no change is known yet to go on from. */
  get #unbegun() {
    return this.feed.kind === 'changes' && (this.position === null || String(this.position) === '0');
  }

  /** Lets go of the socket without hearing from it again. */
  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #receive(data) {
    this.lastHeard = Date.now();
    if (data === 'pong') return;
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return this.#unreadable();
    }
    const { type, body } = this.feed.message;
    if (message?.type === type && this.feed.key === null) return this.handlers.unlisted();
    if (message?.type === type && isId(message[body]?.[this.feed.key])) {
      const row = message[body];
      this.#advance(row[this.feed.key]);
      this.handlers.rows([{ row, truncated: message.truncated }]);
    } else if (typeof message?.type !== 'string' || message.type === type) {
      this.#unreadable();
    } else {
      this.#control(message);
    }
  }

  #control(message) {
    if (isId(message.head)) this.head = maxId(this.head, message.head);
    switch (message.type) {
      case 'hello':
        return this.#hello(message);
      case 'live':
        this.#failures = 0;
        return isId(message.id) ? this.#advance(message.id) : this.#unreadable();
      case 'reset':
        return this.#over(message.reason === 'database_replaced' ? 'replaced' : 'changed');
      case 'goodbye':
        this.#reconnectAfter = Number(message.reconnect_after_ms) || 0;
        break;
      case 'waiting':
        return this.#waits();
      case 'heartbeat':
        this.reached = maxId(this.reached, this.head);
        break;
      default: // Kinds of frames a newer daemon may send.
    }
  }

  #hello(message) {
    if (message.recovered === false) return this.#over('changed');
    if (this.epoch !== null && message.epoch !== this.epoch) return this.#over('changed');
    if (this.#far(message.head)) return this.#over('behind');
    this.#greeted = true;
    this.epoch = message.epoch;
    clearTimeout(this.#pollTimer);
    this.waiting = false;
    if (this.#unbegun) this.#fill(this.position);
    this.#report(true, null);
  }

  /** There is nothing to read for now; what is missing, the list of feeds says. */
  #waits() {
    this.#failures = 0;
    clearTimeout(this.#pollTimer);
    this.#problem = null;
    this.waiting = true;
    this.#report(false, null);
  }

  /**
   * True where a replay would bring more rows than the page can hold: the newest are then taken instead.
   * Only on a return: at first the distance to the head is rows that were deleted or do not match.
   */
  #far(head) {
    if (!this.#greeted || this.filters.length > 0 || this.position === null || !isId(head)) return false;
    return idDistance(head, this.position) > BigInt(MAX_ROWS);
  }

  #advance(id) {
    this.position = maxId(this.position, id);
    this.reached = maxId(this.reached, id);
    this.head = maxId(this.head, id);
  }

  /** The row in a frame that can't be read is fetched from the history, so nothing is missed. */
  #unreadable() {
    this.malformed += 1;
    this.handlers.malformed();
    this.#fill(this.position);
  }

  /** Fetches what came since a position from the history, beside the socket. */
  #fill(from) {
    this.#fetchNewer(from).catch(() => {
      if (this.#stopped.signal.aborted) return;
      // Frames since then have moved the position past the gap: go back before it.
      this.position = from;
      this.#drop();
      this.#closed({ code: 1006, reason: '' });
    });
  }

  #over(reason) {
    this.stop();
    this.live = false;
    this.handlers.reset(reason);
  }

  #closed({ code, reason }) {
    this.#socket = null;
    this.waiting = false;
    clearTimeout(this.#retryTimer);
    const wasLive = this.live;
    this.#failures += 1;
    if (code === 4501) return this.handlers.denied(new ApiError(401, 'token_revoked', reason || 'The token is no longer valid.'));
    if (code === 1013) this.#problem = { title: 'The daemon is full', text: 'It has no room for a live connection now. The page tries again by itself.' };
    else if (code === 4504) this.#problem = { title: 'This feed is gone', text: 'The daemon no longer serves it, or not to this page’s token.' };
    // What was wrong still is until something answers: the notice must not blink with every attempt.
    this.#report(false, wasLive ? this.#problem : this.#problem ?? this.#reported);
    // 4500 and above: the daemon asks not to come back. The history and the list of feeds tell when it is over.
    if (code < 4500) this.#retryTimer = setTimeout(() => this.#connect(), this.#delay());
    if (!this.#polling) this.#poll();
  }

  #delay() {
    const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(this.#failures - 1, 10));
    // Jitter over half of it: many pages that lost one daemon must not all return at once.
    const backoff = ceiling / 2 + (Math.random() * ceiling) / 2;
    const asked = this.#reconnectAfter;
    this.#reconnectAfter = null;
    return asked === null ? backoff : asked;
  }

  async #poll() {
    this.#polling = true;
    let problem;
    try {
      await this.#fetchNewer(this.position);
      problem = this.#failures > 1 ? await this.#diagnose() : this.#problem;
    } catch (error) {
      problem = explain(error);
      if (error.status === 401 && !this.#stopped.signal.aborted) return this.handlers.denied(error);
    } finally {
      this.#polling = false;
    }
    // The socket may have come back while the answer was on its way: then there is nothing to tell.
    if (this.live || this.waiting || this.#stopped.signal.aborted) return;
    this.#report(false, problem);
    clearTimeout(this.#pollTimer);
    this.#pollTimer = setTimeout(() => this.live || this.waiting || this.#polling || this.#poll(), POLL_MS);
  }

  async #diagnose() {
    if (this.#problem) return this.#problem;
    const error = await refusal(this.feed.ws[0], this.#stopped.signal);
    // Any other answer is to the POST and says nothing of the upgrade.
    return [403, 503].includes(error?.status) ? explain(error) : NO_SOCKET;
  }

  async #fetchNewer(from) {
    const signal = this.#stopped.signal;
    // Like `since`, 0 stands for the whole table.
    let after = from ?? 0;
    for (let fetched = 0; ; fetched += PAGE) {
      if (fetched > MAX_ROWS) return this.#over('behind');
      const page = await history(this.feed, [['limit', PAGE], ['after', String(after)], ...this.filters], signal);
      if (signal.aborted) return;
      this.lastHeard = Date.now();
      if (this.epoch !== null && page.epoch && page.epoch !== this.epoch) return this.#over('changed');
      this.epoch ??= page.epoch || null;
      if (isId(page.head)) this.head = maxId(this.head, page.head);
      if (page.items.length > 0 && this.feed.key === null) return this.handlers.unlisted();
      const rows = page.items.filter((row) => isId(row?.[this.feed.key])).reverse();
      for (const row of rows) this.#advance(row[this.feed.key]);
      if (rows.length > 0) {
        this.handlers.rows(rows.map((row) => ({ row, truncated: page.truncated?.[String(row[this.feed.key])] })));
      }
      if (rows.length < PAGE) {
        this.reached = maxId(this.reached, this.head);
        return;
      }
      after = rows.at(-1)[this.feed.key];
    }
  }

  #watch() {
    if (!this.#socket || this.#socket.readyState !== WebSocket.OPEN) return;
    const quiet = Date.now() - this.lastHeard;
    if (quiet > DEAD_MS) {
      this.#drop();
      this.#closed({ code: 1006, reason: '' });
    } else if (quiet > QUIET_MS) {
      this.#socket.send('ping');
    }
  }

  #report(live, problem) {
    this.live = live;
    if (live) this.#problem = null;
    this.#reported = problem;
    this.handlers.status({ live, problem });
  }
}
