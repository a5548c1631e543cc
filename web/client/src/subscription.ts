// A subscription from its start to its end: connects, falls back to the history, comes back.
import { Backoff } from "./backoff.js";
import { catchUp } from "./catch-up.js";
import type { Attempt, ConnectionEnd, ReceivedFrame } from "./connection.js";
import { Delivery } from "./delivery.js";
import { closeError, EXPIRED, FeedError, isRefusal } from "./errors.js";
import { noFeedNamed } from "./history.js";
import { belowAll, compareIds } from "./ids.js";
import { resolveTarget, type FeedState, type FeedStatus, type Position, type SubscribeOptions, type Target, type Transport } from "./options.js";
import { MalformedFrame, type Row } from "./protocol.js";
import { sharedConnection } from "./page-connections.js";
import type { Member, SharedConnection } from "./shared-connection.js";
import { TabSession } from "./tab-session.js";
import { connect } from "./transports.js";

/** A running subscription. Iterating it takes the rows one at a time; leaving the loop closes it. */
export interface Subscription<R extends object = Row> extends AsyncIterable<R> {
  /** Ends it: no callback comes after the last status, `closed`. */
  close(): void;
  readonly status: FeedStatus;
  /** Where the application stands, to be kept and given back as `since` and `epoch`; null before anything is known. */
  readonly position: Position | null;
}

/**
 * Subscribes to a feed: `ws://host/ws/<feed>`, the same with `http:`, or a path of the page's own server.
 * Every row that matches arrives once and in order, over restarts, dead links and outages. Throws a TypeError for options that can't work.
 */
export function subscribe<R extends object = Row>(url: string | URL, options: SubscribeOptions<R> = {}): Subscription<R> {
  return new FeedSubscription(resolveTarget(url, options), options);
}

/** The same for what has a use for changes only. */
export function subscribeToChanges<R extends object>(url: string | URL, options: SubscribeOptions<R>): Subscription<R> {
  return new FeedSubscription(resolveTarget(url, options), options, true);
}

/** How an attempt to connect, or the connection it led to, came to its end. */
interface Ending {
  readonly error: FeedError | null;
  readonly greeted: boolean;
  /** After how long the server asked to come back, in milliseconds. */
  readonly announcedMs: number | undefined;
  /** Whether this side ended it, because its buffer is full or there is a better way. */
  readonly letGo: boolean;
  /** Whether the server called the token expired. */
  readonly expired: boolean;
}

class FeedSubscription<R extends object> implements Subscription<R> {
  #status: FeedStatus = { state: "connecting", transport: null, message: "Connecting." };
  readonly #target: Target;
  readonly #options: SubscribeOptions<R>;
  readonly #changesOnly: boolean;
  readonly #delivery: Delivery<R>;
  readonly #backoff: Backoff;
  readonly #life = new AbortController();
  readonly #open: Attempt;
  readonly #member: Member;
  /** Held here, for only its users keep it. */
  #shared: SharedConnection | null = null;
  #transport: Transport | null = null;
  #feed: string | null;
  /** Whether a snapshot is on its way: there is no position in it from which the history could be read. */
  #inSnapshot = false;
  /** When the history is due to be read, by the monotonic clock. */
  #pollAt = 0;
  /** Where a malformed frame was met last: the position is tried twice. */
  #malformedAt: Position | null = null;
  #reported: string | null = null;
  #cutWaitShort: () => void = () => {};

  constructor(target: Target, options: SubscribeOptions<R>, changesOnly = false) {
    this.#changesOnly = changesOnly;
    this.#target = target;
    this.#options = options;
    this.#feed = target.feed;
    this.#delivery = new Delivery(target.position, options, (error) => this.#report(error));
    this.#backoff = new Backoff(target.timing);
    this.#open = async (query, hooks, signal) => {
      const token = await target.credentials.obtain();
      signal.throwIfAborted();
      return connect(target, token, query, hooks, signal);
    };
    this.#member = {
      position: () => this.#delivery.position,
      query: () => this.#query(),
      open: target.share === "tabs" ? (query, hooks, signal) => this.#openWithTabs(query, hooks, signal) : this.#open,
      openApart: this.#open,
      onFrame: (frame, text, transport) => this.#receive(frame, text.length, transport),
      onMalformed: (error) => this.#skips(error),
    };
    // Later, so that a callback can use the handle.
    queueMicrotask(() => void this.#run());
  }

  get status(): FeedStatus {
    return this.#status;
  }

  get position(): Position | null {
    return this.#delivery.taken;
  }

  close(): void {
    this.#finish(null);
  }

  [Symbol.asyncIterator](): AsyncIterator<R, undefined> {
    this.#delivery.iterated = true;
    return {
      next: async () => {
        const { done, value } = await this.#delivery.buffer.next();
        return done ? { done, value: undefined } : { done: false, value: value.row };
      },
      return: async () => {
        this.close();
        return { done: true, value: undefined };
      },
    };
  }

  get #over(): boolean {
    return this.#life.signal.aborted;
  }

  async #run(): Promise<void> {
    const { signal } = this.#options;
    if (signal?.aborted) this.close();
    if (this.#over) return;
    signal?.addEventListener("abort", () => this.close(), { signal: this.#life.signal });
    this.#listenForReturn();
    this.#notify();
    while (!this.#over) {
      const startedAt = performance.now();
      const end = await this.#connect();
      if (this.#over) return;
      if (end.error?.fatal) return this.#finish(end.error);
      if (!end.letGo) await this.#recover(end, end.greeted ? performance.now() - startedAt : 0);
      if (this.#delivery.isFull) await this.#pause();
    }
  }

  async #connect(): Promise<Ending> {
    try {
      if (this.#target.namesNoFeed) throw await noFeedNamed(this.#target, this.#life.signal);
      const { credentials } = this.#target;
      const { signal } = this.#life;
      this.#shared = this.#target.share ? sharedConnection(this.#target) : null;
      const end = await (this.#shared ? this.#shared.join(this.#member, signal) : this.#open(this.#query(), this.#member, signal));
      const expired = end.code === EXPIRED;
      // After a hello it may only stand for something else now, and be good for that.
      if (expired && !end.greeted) credentials.refusedAsExpired(end.token);
      return { error: endError(end, this.#target), greeted: end.greeted, announcedMs: end.reconnectAfterMs, letGo: end.cause === "stopped" || end.cause === "better_transport", expired };
    } catch (cause) {
      const error = cause instanceof FeedError ? cause : forbidden(cause);
      return { error, greeted: false, announcedMs: undefined, letGo: false, expired: false };
    }
  }

  /** Connects for all of this page: over the one connection of all tabs that ask for the same with the same token. */
  async #openWithTabs(...[query, hooks, signal]: Parameters<Attempt>): Promise<ConnectionEnd> {
    const shared = this.#shared;
    if (!shared) throw new Error("a connection for several without those");
    const target = this.#target;
    const token = await target.credentials.obtain();
    signal.throwIfAborted();
    const session = await TabSession.begin({ target, token, shared, hooks, signal });
    return session.run(query);
  }

  /** Always of the resumable form: from the position where there is one, else from the start that was asked for. */
  #query(): URLSearchParams {
    const query = new URLSearchParams(this.#target.filters.map(([column, value]) => [column, value]));
    const { position } = this.#delivery;
    const { start } = this.#target;
    if (position !== null) {
      query.set("since", String(position.id));
      if (position.epoch !== null) query.set("epoch", position.epoch);
    } else if (start === "now") query.set("since", "now");
    else query.set("last", String(start.last));
    return query;
  }

  #receive(frame: ReceivedFrame, size: number, transport: Transport): boolean {
    this.#transport = transport;
    const delivery = this.#delivery;
    if (frame.kind === "hello" || frame.kind === "reset") this.#inSnapshot = frame.snapshot === true;
    else if (frame.kind === "live" || (frame.kind === "row" && frame.id !== null)) this.#inSnapshot = false;
    switch (frame.kind) {
      case "hello":
        this.#greet(frame);
        break;
      case "live":
        delivery.advance(null, frame.id);
        delivery.caughtUp();
        this.#reported = null;
        this.#setStatus("live", "Live.");
        break;
      case "reset":
        delivery.reset({ reason: frame.reason, epoch: frame.epoch, head: frame.head, earliest: frame.earliest }, belowAll(frame.earliest));
        this.#setStatus("replaying", "The history changed; reading the new one.");
        break;
      case "waiting":
        this.#setStatus("waiting", sentence(frame.message));
        break;
      case "row":
        delivery.accept({ ...frame, via: transport === "sse" ? "sse" : "socket", size });
    }
    return !this.#over && !delivery.isFull;
  }

  #greet(hello: Extract<ReceivedFrame, { kind: "hello" }>): void {
    const delivery = this.#delivery;
    const { position } = delivery;
    const { epoch, head, earliest } = hello;
    if (this.#changesOnly && !hello.changes) {
      return this.#finish(new FeedError("not_a_change_feed", `${hello.feed} is no feed of changes: \`capture\` in the server's configuration makes it one; subscribe() follows its rows.`, { fatal: true }));
    }
    this.#feed = hello.feed;
    delivery.key = hello.key;
    const other = position !== null && position.epoch !== null && position.epoch !== epoch;
    if (!hello.recovered || other) {
      const aboveHead = position !== null && compareIds(position.id, head) > 0;
      delivery.reset({ reason: other ? "epoch_changed" : aboveHead ? "above_head" : "pruned", epoch, head, earliest }, compareIds(hello.since, 0) === 0 ? belowAll(earliest) : hello.since);
    } else if (hello.snapshot && delivery.given) {
      delivery.reset({ reason: "snapshot_interrupted", epoch, head, earliest }, hello.since);
    } else if (position !== null && position.epoch === null && compareIds(position.id, 0) === 0) {
      // The whole table was asked for, and only now is it known where that begins.
      delivery.position = { epoch, id: belowAll(earliest) };
    } else {
      delivery.advance(epoch, position?.id ?? hello.since);
    }
    this.#setStatus("replaying", "Connected; reading what was missed.");
  }

  /** Whether to go on after a malformed frame. It may have been a row, so it is first asked for again. */
  #skips(error: MalformedFrame): boolean {
    const { position } = this.#delivery;
    if (position === null || position.epoch !== this.#malformedAt?.epoch || position.id !== this.#malformedAt.id) {
      this.#malformedAt = position;
      return false;
    }
    this.#report(new FeedError("malformed_frame", `A frame after row ${position.id} is malformed a second time and was skipped: ${error.message}.`));
    return true;
  }

  async #pause(): Promise<void> {
    this.#setStatus("paused", "Waiting for rows to be taken.");
    await this.#delivery.buffer.drained();
  }

  /** Everything between the end of one connection and the next attempt. */
  async #recover(ending: Ending, lifetimeMs: number): Promise<void> {
    const { error, greeted, announcedMs } = ending;
    const { timing } = this.#target;
    const historyUrl = this.#inSnapshot ? null : this.#target.historyUrl;
    const now = performance.now();
    // What the server asked for is waited out; what is only our own caution is cut short by a sign that it is over.
    let askedAt = now + Math.max(announcedMs ?? 0, error?.code === "at_capacity" ? this.#backoff.atCapacity() : 0);
    let retryAt = Math.max(askedAt, now + this.#backoff.next(lifetimeMs));
    if (announcedMs !== undefined) this.#pollAt = Math.max(this.#pollAt, retryAt);
    else if (greeted) this.#pollAt = now;
    // A connection that never came about has no words of its own: the history's answer gives them.
    if (!historyUrl || !isWordless(ending)) this.#explain(ending, null, false);

    for (let time = now; time < retryAt && !this.#over; time = performance.now()) {
      if (historyUrl && time >= this.#pollAt) {
        const failure = await this.#poll();
        if (failure?.fatal) return this.#finish(failure);
        if (this.#over || this.#delivery.isFull) return;
        this.#pollAt = performance.now() + timing.pollIntervalMs;
        this.#explain(ending, failure, failure === null);
        askedAt = Math.max(askedAt, performance.now() + (failure?.retryAfterMs ?? 0));
        retryAt = Math.max(retryAt, askedAt);
      } else if (await this.#wait((historyUrl ? Math.min(retryAt, this.#pollAt) : retryAt) - time)) {
        retryAt = askedAt;
      }
    }
  }

  async #poll(): Promise<FeedError | null> {
    try {
      await catchUp(this.#target, this.#delivery, this.#feed, this.#life.signal);
      return null;
    } catch (error) {
      if (error instanceof FeedError) return error;
      throw error;
    }
  }

  /** Says why there is no connection, in the most exact words that are known: the history's answer may know better. */
  #explain(ending: Ending, failure: FeedError | null, historyAnswers: boolean): void {
    const { host } = this.#target.socketUrl;
    const error = failure ?? ending.error;
    const vague = failure === null && isWordless(ending);
    const refused = historyAnswers ? `${host} answers, but opens no WebSocket; trying again.` : `No connection to ${host}; trying again.`;
    const cause = vague ? new FeedError("socket_refused", refused) : error;
    if (cause) this.#report(cause);
    const message = cause?.message ?? (ending.expired ? "The token has expired; coming back with a fresh one." : "The server restarts; reconnecting.");
    const state = isRefusal(cause) && !historyAnswers ? "refused" : "polling";
    this.#setStatus(state, historyAnswers ? `${message} Reading the history meanwhile.` : message);
  }

  /** Resolves to whether a sign that the cause is over cut the wait short. */
  #wait(ms: number): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms, false);
      this.#cutWaitShort = () => {
        clearTimeout(timer);
        resolve(true);
      };
    });
  }

  /** The network is back, or the user is: reasons to try now, for timers of hidden pages may be a minute late. */
  #listenForReturn(): void {
    const { signal } = this.#life;
    signal.addEventListener("abort", () => this.#cutWaitShort());
    globalThis.addEventListener?.("online", () => this.#cutWaitShort(), { signal });
    globalThis.document?.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.#cutWaitShort();
    }, { signal });
  }

  #report(error: FeedError): void {
    // The same cause again, while it lasts, is no news; each cut row and each failed callback is.
    const same = `${error.code} ${error.message}`;
    if (this.#over && !error.fatal) return;
    if (this.#reported === same && error.code !== "callback_failed") return;
    this.#reported = same;
    try {
      this.#options.onError?.(error);
    } catch (thrown) {
      console.error("walcast-client: onError threw", thrown);
    }
  }

  #setStatus(state: FeedState, message: string): void {
    const transport = this.#transportIn(state);
    if (this.#status.state === state && this.#status.message === message && this.#status.transport === transport) return;
    this.#status = { state, transport, message };
    this.#notify();
  }

  #transportIn(state: FeedState): Transport | null {
    if (state === "replaying" || state === "live" || state === "waiting") return this.#transport;
    return state === "polling" && this.#target.historyUrl ? "polling" : null;
  }

  #notify(): void {
    const { onStatus } = this.#options;
    if (onStatus) this.#delivery.call("onStatus", () => onStatus(this.#status));
  }

  #finish(error: FeedError | null): void {
    if (this.#over) return;
    this.#life.abort();
    this.#delivery.end(error);
    if (error) this.#report(error);
    this.#setStatus("closed", error?.message ?? "Closed.");
  }
}

/** Whether it says nothing of why: a connection that never came about. */
function isWordless({ greeted, error, expired }: Ending): boolean {
  return !greeted && !expired && (error === null || error.code === "connection_lost");
}

// The browser refuses to try, e.g. ws: from a page of https:.
function forbidden(cause: unknown): FeedError {
  return new FeedError("socket_refused", `No WebSocket can be opened: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
}

// The server's words begin in lower case, as a part of a log line does.
function sentence(words: string): string {
  return `${words.charAt(0).toUpperCase()}${words.slice(1)}${words.endsWith(".") ? "" : "."}`;
}

function endError(end: ConnectionEnd, target: Target): FeedError | null {
  const { host } = target.socketUrl;
  if (end.cause instanceof MalformedFrame) {
    return new FeedError("malformed_frame", `${host} sent a malformed frame (${end.cause.message}); asking for it again.`, { cause: end.cause });
  }
  if (end.cause === "dead_link") return new FeedError("dead_link", `${host} no longer answers on the open connection; reconnecting.`);
  if (end.cause === "connect_timeout") return new FeedError("unreachable", `${host} did not answer in time; trying again.`);
  return closeError(end.code, end.reason);
}
