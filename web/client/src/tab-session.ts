// One attempt of a page to connect together with the other tabs: over the connection of the one that has the lease, over its own
// where that can't serve it yet, and as the one that serves the others when the lease comes to it.
import type { ConnectionEnd, ConnectionHooks, ReceivedFrame } from "./connection.js";
import { STOPPED } from "./frame-reader.js";
import type { Target, Transport } from "./options.js";
import { MalformedFrame, parseFrame } from "./protocol.js";
import type { SharedConnection } from "./shared-connection.js";
import { sizeOf, TabLeader } from "./tab-leader.js";
import { Lease } from "./tab-lease.js";
import { LeaderLink, type Patience } from "./tab-link.js";
import { groupName, type GroupMessage, type LeaderMessage, receivedEnd } from "./tab-messages.js";
import { connect } from "./transports.js";

interface About {
  readonly target: Target;
  readonly token: string | null;
  /** What the connection is for. */
  readonly shared: SharedConnection;
  readonly hooks: ConnectionHooks;
  readonly signal: AbortSignal;
}

// A row reaches the other tabs this much later at most where the one with the connection stands still without having said so.
const SILENCE_MS = 5_000;
/** How long the last message of a tab with the lease may take to the others, in milliseconds; it takes a few. */
const LAST_WORDS_MS = 100;
const ANSWER_MS = 3_000;
// Between two askings of a tab that has a connection of its own, and could do without.
const ASK_AGAIN_MS = 1_000;

export class TabSession {
  readonly #about: About;
  readonly #name: string;
  readonly #group: BroadcastChannel;
  readonly #patience: Patience;
  /** Ends what is tied to the session. */
  readonly #life = new AbortController();
  #query = new URLSearchParams();
  #lease: Lease | null = null;
  /** Ends the wait for the lease. */
  #queue = new AbortController();
  #leader: TabLeader | null = null;
  #link: LeaderLink | null = null;
  /** Ends this page's own connection, where it has one. */
  #own: AbortController | null = null;
  /** Resolves the following of another tab, while it is followed. */
  #following: ((end: ConnectionEnd | null) => void) | null = null;
  /** What ended it before it had begun, undefined for nothing. */
  #left: ConnectionEnd | null | undefined;
  /** The cursor column, null before a hello. */
  #key: string | null = null;
  #epoch: string | null = null;
  #live = false;
  #askTimer: ReturnType<typeof setTimeout> | undefined;
  #askAgainMs = ASK_AGAIN_MS;

  static async begin(about: About): Promise<TabSession> {
    return new TabSession(about, await groupName(about.target, about.token));
  }

  private constructor(about: About, name: string) {
    this.#about = about;
    this.#name = name;
    this.#group = new BroadcastChannel(name);
    const { heartbeatMs, pongTimeoutMs } = about.target.timing;
    // Not all at the same moment, for each would take the lease from the one before.
    this.#patience = { silenceMs: Math.min(heartbeatMs, SILENCE_MS), answerMs: Math.min(pongTimeoutMs, ANSWER_MS) * (1 + Math.random() / 2) };
  }

  /** Connects from `query` on; resolves when the connection has ended, whichever tab's it was. */
  async run(query: URLSearchParams): Promise<ConnectionEnd> {
    this.#query = query;
    const { signal } = this.#about;
    const { signal: over } = this.#life;
    try {
      signal.addEventListener("abort", () => this.#stop(), { signal: over });
      this.#group.onmessage = ({ data }: MessageEvent<GroupMessage>) => this.#hearGroup(data);
      this.#listenForFreezing();
      const lease = await Lease.now(this.#name).catch(() => undefined);
      if (lease === undefined) return await this.#connectAlone();
      if (lease) this.#take(lease);
      else this.#waitForLease();
      let follows = lease === null;
      while (!signal.aborted) {
        const end = await (follows ? this.#follow() : this.#connect());
        if (end) return { ...end, greeted: end.greeted || this.#key !== null };
        follows = !this.#lease && (!follows || this.#link !== null);
      }
      return this.#stopped();
    } finally {
      this.#dispose();
    }
  }

  #connectAlone(): Promise<ConnectionEnd> {
    const { target, token, hooks, signal } = this.#about;
    return connect(target, token, this.#query, hooks, signal);
  }

  /** Over a connection of this page's own, which serves the others while it has the lease; null when another tab is to be followed. */
  async #connect(): Promise<ConnectionEnd | null> {
    const { target, token, hooks, signal } = this.#about;
    const own = new AbortController();
    this.#own = own;
    if (this.#lease) this.#serve();
    const passing: ConnectionHooks = {
      onFrame: (frame, text, transport) => {
        if (own.signal.aborted) return false;
        this.#leader?.pass(text, transport);
        const goesOn = this.#hand(frame, text, transport);
        if (frame.kind !== "row") this.#leader?.moved();
        if (frame.kind === "live" && !this.#lease) this.#ask();
        return goesOn;
      },
      onMalformed: (error) => {
        const skips = hooks.onMalformed(error);
        if (skips) this.#leader?.skipped(error.message);
        return skips;
      },
    };
    const end = await connect(target, token, this.#asked(), passing, AbortSignal.any([signal, own.signal]));
    this.#own = null;
    this.#serveNoLonger(end);
    clearTimeout(this.#askTimer);
    return own.signal.aborted ? null : end;
  }

  /** Over another tab's connection; null when that is over and a connection of this page's own is needed. */
  async #follow(): Promise<ConnectionEnd | null> {
    try {
      return await new Promise((resolve) => {
        const left = this.#left;
        this.#left = undefined;
        this.#following = resolve;
        if (this.#about.signal.aborted) resolve(this.#stopped());
        else if (this.#lease) resolve(null);
        else if (left !== undefined) resolve(left);
        else if (!this.#link) this.#ask();
      });
    } finally {
      this.#following = null;
    }
  }

  /** Ends the following: with the connection's end, or null to go on otherwise. */
  #leave(end: ConnectionEnd | null): void {
    this.#unlink();
    if (this.#following) this.#following(end);
    else this.#left = end;
  }

  /** Asks for what comes after where this page stands. */
  #ask(): void {
    clearTimeout(this.#askTimer);
    this.#unlink();
    const link = new LeaderLink(this.#group, { query: this.#asked(), wasLive: this.#live }, this.#patience, (message) => this.#hear(link, message), () => void this.#takeByForce(link));
    this.#link = link;
  }

  /** A page with a connection of its own asks again after a while. */
  #askLater(): void {
    this.#unlink();
    this.#askTimer = setTimeout(() => this.#ask(), this.#askAgainMs);
    this.#askAgainMs = Math.min(this.#askAgainMs * 2, this.#about.target.timing.pollIntervalMs);
  }

  #asked(): URLSearchParams {
    const { target, shared } = this.#about;
    const { position } = shared;
    if (this.#key === null || position?.epoch == null) return this.#query;
    const query = new URLSearchParams(target.filters.map(([column, value]) => [column, value]));
    query.set("since", String(position.id));
    query.set("epoch", position.epoch);
    return query;
  }

  #hear(link: LeaderLink, message: Exclude<LeaderMessage, { type: "pong" }>): void {
    if (link !== this.#link) return;
    if (this.#own) return this.#hearWhileApart(message);
    switch (message.type) {
      case "joined":
        return this.#join(link, message);
      case "wait":
        if (message.frame !== null) this.#read(message.frame, message.transport);
        break;
      case "apart":
        this.#leave(null);
        break;
      case "frame":
        if (this.#read(message.text, message.transport)) link.taken(1, message.text.length);
        break;
      case "malformed":
        this.#skip(new MalformedFrame(message.message));
        break;
      case "ended": {
        const end = receivedEnd(message.end, this.#about.token);
        // Each keeps count of its own.
        if (end.cause instanceof MalformedFrame) this.#about.hooks.onMalformed(end.cause);
        this.#leave(end);
        break;
      }
      case "dropped":
        this.#ask();
    }
    return undefined;
  }

  #hearWhileApart(message: Exclude<LeaderMessage, { type: "pong" }>): void {
    if (message.type === "wait") return;
    if (message.type !== "joined") return this.#askLater();
    const link = this.#link;
    this.#own?.abort();
    this.#own = null;
    if (link) this.#join(link, message);
    return undefined;
  }

  #join(link: LeaderLink, { frames, last, transport }: Extract<LeaderMessage, { type: "joined" }>): void {
    link.last = last;
    this.#askAgainMs = ASK_AGAIN_MS;
    const [hello = "", ...rest] = frames;
    // Who was live stays so: nothing begins for it.
    for (const text of this.#live ? rest : [hello, ...rest]) if (!this.#read(text, transport)) return;
    link.taken(frames.length, sizeOf(frames));
  }

  /** Takes a frame of another tab's connection; false where that has ended the following. */
  #read(text: string, transport: Transport): boolean {
    const frame = parseFrame(text, this.#key) as ReceivedFrame;
    if (this.#owesMore(frame)) {
      this.#leave(null);
      return false;
    }
    if (this.#hand(frame, text, transport)) return true;
    this.#leave(this.#stopped());
    return false;
  }

  /** Whether another history begins, of which the other tab's connection gives the newest rows only, and fewer than this one needs. */
  #owesMore(frame: ReceivedFrame): boolean {
    const startsOver = frame.kind === "reset" || (frame.kind === "hello" && this.#epoch !== null && (!frame.recovered || frame.epoch !== this.#epoch));
    const given = this.#link?.last ?? null;
    if (!startsOver || given === null) return false;
    const needed = this.#query.get("last");
    return needed === null || Number(needed) > given;
  }

  #hand(frame: ReceivedFrame, text: string, transport: Transport): boolean {
    if (frame.kind === "hello") this.#key = frame.key;
    if (frame.kind === "hello" || frame.kind === "reset") this.#epoch = frame.epoch;
    if (frame.kind !== "row") this.#live = frame.kind === "live";
    return this.#about.hooks.onFrame(frame, text, transport);
  }

  #skip(cause: MalformedFrame): void {
    if (!this.#about.hooks.onMalformed(cause)) this.#leave({ code: 1006, reason: "", greeted: true, cause, token: this.#about.token });
  }

  #hearGroup(message: GroupMessage): void {
    if (message.type === "join") this.#leader?.admit(message);
    else if (!this.#lease && (this.#following || this.#live)) this.#ask();
  }

  #waitForLease(): void {
    this.#queue = new AbortController();
    const { signal } = this.#queue;
    void Lease.next(this.#name, signal).then((lease) => {
      if (lease && signal.aborted) lease.release();
      else if (lease) this.#take(lease);
    });
  }

  /** The tab that has the lease stands still: it is taken from it. */
  async #takeByForce(link: LeaderLink): Promise<void> {
    if (link !== this.#link) return;
    this.#unlink();
    this.#queue.abort();
    const lease = await Lease.take(this.#name);
    if (!lease) this.#leave(null);
    else if (this.#life.signal.aborted) lease.release();
    else this.#take(lease);
  }

  /** This tab has the lease: it serves with the connection it has, or opens one. */
  #take(lease: Lease): void {
    this.#lease = lease;
    lease.lost.addEventListener("abort", () => this.#lose(lease), { signal: this.#life.signal });
    this.#unlink();
    clearTimeout(this.#askTimer);
    if (this.#own) this.#serve();
    this.#following?.(null);
  }

  /** Another tab has taken the lease, for this one stood still: it is followed. */
  #lose(lease: Lease): void {
    if (this.#lease !== lease) return;
    this.#lease = null;
    this.#serveNoLonger(null);
    this.#waitForLease();
    this.#own?.abort();
  }

  #serve(): void {
    this.#leader = new TabLeader(this.#about.shared);
    this.#group.postMessage({ type: "leads" } satisfies GroupMessage);
  }

  #serveNoLonger(end: ConnectionEnd | null): void {
    this.#leader?.close(end);
    this.#leader = null;
  }

  /** Before the browser stops this page, another tab takes over; what it missed, it gets when it is back. */
  #listenForFreezing(): void {
    const { signal } = this.#life;
    const stops = (): void => {
      this.#queue.abort();
      this.#unlink();
      this.#serveNoLonger(null);
      this.#lease?.release();
      this.#lease = null;
    };
    const goesOn = (): void => {
      if (this.#lease || !this.#queue.signal.aborted) return;
      this.#waitForLease();
      if (this.#following || this.#live) this.#ask();
    };
    globalThis.document?.addEventListener("freeze", stops, { signal });
    globalThis.document?.addEventListener("resume", goesOn, { signal });
    globalThis.addEventListener?.("pagehide", stops, { signal });
    globalThis.addEventListener?.("pageshow", goesOn, { signal });
  }

  #unlink(): void {
    this.#link?.close();
    this.#link = null;
  }

  #stopped(): ConnectionEnd {
    return { ...STOPPED, reason: "", greeted: true, token: this.#about.token };
  }

  #stop(): void {
    this.#serveNoLonger(null);
    this.#following?.(this.#stopped());
  }

  #dispose(): void {
    this.#life.abort();
    this.#queue.abort();
    clearTimeout(this.#askTimer);
    this.#unlink();
    this.#serveNoLonger(null);
    // The browser gives the lease on by another way than messages take: a follower must hear first how the connection ended, or it
    // would take over what has ended for all.
    const lease = this.#lease;
    if (lease) setTimeout(() => lease.release(), LAST_WORDS_MS);
    this.#lease = null;
    this.#group.onmessage = null;
    this.#group.close();
  }
}
