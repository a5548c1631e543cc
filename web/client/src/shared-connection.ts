// One connection for all subscriptions of a page that ask for the same. Each is served as if the connection were its own.
import type { Attempt, ConnectionEnd, ConnectionHooks, ReceivedFrame } from "./connection.js";
import { belowAll, compareIds, type Id } from "./ids.js";
import type { Position, Transport } from "./options.js";
import { frameText, type MalformedFrame, parseFrame } from "./protocol.js";
import { RecentRows } from "./recent-rows.js";

/** A subscription, as the connection knows it. */
export interface Member extends ConnectionHooks {
  /** Where it stands; null before anything is known. */
  readonly position: () => Position | null;
  /** What it asks for, from there on. */
  readonly query: () => URLSearchParams;
  /** Opens the connection that is shared, with its address and credentials. */
  readonly open: Attempt;
  /** Opens one for itself alone. */
  readonly openApart: Attempt;
}

type Hello = Extract<ReceivedFrame, { kind: "hello" }>;
type Waiting = Extract<ReceivedFrame, { kind: "waiting" }>;

/**
 * - `waits`: until the connection is far enough to tell whether it can be served.
 * - `joined`: gets what comes over the shared connection.
 * - `apart`: stands further back than the recent rows, and catches up over a connection of its own until it doesn't.
 */
type Place = "waits" | "joined" | "apart";

/** Where somebody begins: after a position, with the newest rows, or with what is new. */
interface Asked {
  readonly position: Position | null;
  readonly last: number | null;
}

/**
 * How another tab's connection is served by this one:
 * - `joins`: with these frames it stands where this one does. `last` is how many of its newest rows another history would begin with here, null for all.
 * - `waits`: until this connection is far enough to tell; `frame` says so where there is nothing to read.
 * - `apart`: not, for the recent rows don't reach so far back.
 */
export type Welcome =
  | { readonly kind: "joins"; readonly frames: readonly string[]; readonly last: number | null; readonly transport: Transport }
  | { readonly kind: "waits"; readonly frame: string | null; readonly transport: Transport }
  | { readonly kind: "apart" };

interface Seat {
  readonly member: Member;
  /** How many of the newest rows it begins with, null where it begins after a position. */
  readonly last: number | null;
  place: Place;
  /** Its own connection, where it has one. */
  own: { readonly ending: AbortController; epoch: string | null; live: boolean } | null;
  readonly leave: (end: ConnectionEnd) => void;
  readonly fail: (error: unknown) => void;
}

/** The connection that is shared. */
interface Trunk {
  readonly ending: AbortController;
  readonly query: URLSearchParams;
  readonly last: number | null;
  hello: Hello | null;
  live: boolean;
  transport: Transport;
  /** What it said when there was nothing to read, until there is. */
  waiting: Waiting | null;
  /** Whose own hello the first one is; it needs no place among the recent rows. */
  founder: Seat | null;
  /** The one that is served where others can't be: recent rows don't stand in for the snapshots of a feed of changes. */
  sole: Seat | null;
}

const STOPPED: ConnectionEnd = { code: 1000, reason: "", greeted: true, cause: "stopped", token: null };

export class SharedConnection {
  readonly #seats = new Set<Seat>();
  #trunk: Trunk | null = null;
  /** Outlives the connection, so that its successor can take up where it ended. */
  #recent: RecentRows | null = null;

  /** Rows are asked for only after a hello, which begins them. */
  get #rows(): RecentRows {
    if (!this.#recent) throw new Error("rows before the hello");
    return this.#recent;
  }

  /** Seats are handed something only while there is a connection, or by one of their own. */
  get #connected(): Trunk {
    if (!this.#trunk) throw new Error("a frame without a connection");
    return this.#trunk;
  }

  /** Serves a subscription until it lets go, is stopped by `signal`, or the connection it is served by ends. */
  join(member: Member, signal: AbortSignal): Promise<ConnectionEnd> {
    return new Promise((resolve, reject) => {
      const last = member.query().get("last");
      const gone = (): void => {
        this.#seats.delete(seat);
        signal.removeEventListener("abort", stop);
        seat.own?.ending.abort();
        if (this.#seats.size === 0 || this.#trunk?.sole === seat) this.#trunk?.ending.abort();
      };
      const seat: Seat = {
        member,
        last: last === null ? null : Number(last),
        place: "waits",
        own: null,
        leave: (end) => {
          gone();
          resolve(end);
        },
        fail: (error) => {
          gone();
          reject(error);
        },
      };
      const stop = (): void => seat.leave(STOPPED);
      signal.addEventListener("abort", stop);
      this.#seats.add(seat);
      if (this.#trunk && !this.#trunk.ending.signal.aborted) this.#place(seat);
      else void this.#open(seat);
    });
  }

  /** Where the connection stands: the rows up to there have come. Null before a hello. */
  get position(): Position | null {
    return this.#recent && { epoch: this.#recent.epoch, id: this.#recent.top };
  }

  /** How the connection of another tab with this query is served; one that was live in the same history may be ahead of this one. */
  welcome(query: URLSearchParams, wasLive: boolean): Welcome {
    const trunk = this.#trunk;
    const transport = trunk?.transport ?? "websocket";
    if (trunk?.hello?.changes) return { kind: "apart" };
    if (!trunk?.hello || trunk.waiting) return { kind: "waits", frame: trunk?.waiting ? frameText(trunk.waiting) : null, transport };
    const asked = askedIn(query);
    const recent = this.#rows;
    const goesOn = wasLive && asked.position?.epoch === recent.epoch && compareIds(asked.position.id, recent.floor) >= 0;
    if (goesOn && !trunk.live) return { kind: "waits", frame: null, transport };
    const from = goesOn && asked.position ? asked.position.id : this.#reaches(asked, trunk);
    if (from === "later") return { kind: "waits", frame: null, transport };
    if (from === null) return { kind: "apart" };
    const frames = [frameText(this.#helloFrom(from, trunk)), ...recent.above(from).map(({ text }) => text)];
    if (trunk.live) frames.push(frameText({ kind: "live", id: recent.top }));
    return { kind: "joins", frames, last: trunk.last, transport };
  }

  /** Opens the connection for the first that asks, from where the last one ended if that serves it. */
  async #open(founder: Seat): Promise<void> {
    const query = founder.member.query();
    const resumed = this.#resumesFor(founder);
    if (resumed !== null) query.set("since", String(resumed));
    else {
      this.#recent = null;
      founder.place = "joined";
    }
    const last = query.get("last");
    const trunk: Trunk = {
      ending: new AbortController(),
      query,
      last: last === null ? null : Number(last),
      hello: null,
      live: false,
      transport: "websocket",
      waiting: null,
      founder: resumed === null ? founder : null,
      sole: null,
    };
    this.#trunk = trunk;
    const hooks = { onFrame: this.#receive.bind(this, trunk), onMalformed: (error: MalformedFrame) => this.#skips(error) };
    try {
      const end = await founder.member.open(query, hooks, trunk.ending.signal);
      this.#ended(trunk, (seat) => seat.leave(end));
    } catch (error) {
      this.#ended(trunk, (seat) => seat.fail(error));
    }
  }

  /** The position at which the rows so far go on, where the founder can be served from there. */
  #resumesFor({ member }: Seat): Id | null {
    const position = member.position();
    const recent = this.#recent;
    if (!recent || position === null || position.epoch !== recent.epoch) return null;
    return compareIds(position.id, recent.floor) >= 0 && compareIds(position.id, recent.top) >= 0 ? recent.top : null;
  }

  #ended(trunk: Trunk, tell: (seat: Seat) => void): void {
    if (this.#trunk !== trunk) return;
    this.#trunk = null;
    for (const seat of [...this.#seats]) if (seat.place !== "apart") tell(seat);
  }

  #receive(trunk: Trunk, frame: ReceivedFrame, text: string, transport: Transport): boolean {
    trunk.transport = transport;
    if (this.#trunk !== trunk) return false;
    if (frame.kind === "hello" && frame.changes) this.#serveOne(trunk, frame);
    if (trunk.sole) {
      this.#hand(trunk.sole, frame, text);
      return !trunk.ending.signal.aborted;
    }
    switch (frame.kind) {
      case "hello":
        this.#greet(trunk, frame, text);
        break;
      case "waiting":
        trunk.waiting = frame;
        trunk.live = false;
        for (const seat of [...this.#seats]) if (seat.place !== "apart") this.#hand(seat, frame, text);
        break;
      case "reset":
        trunk.live = false;
        trunk.waiting = null;
        this.#startOver(trunk, new RecentRows(frame.epoch, belowAll(frame.earliest), frame.earliest, trunk.last !== null));
        this.#handAll(frame, text);
        break;
      case "row":
        if (frame.id !== null && this.#rows.push({ id: frame.id, text })) this.#handAll(frame, text);
        break;
      case "live":
        // One before the hello says nothing that could be relied on.
        if (trunk.hello) this.#catchUpDone(trunk, frame.id);
        this.#handAll(frame, text);
        for (const seat of [...this.#seats]) seat.place === "waits" ? this.#place(seat) : this.#rejoin(seat);
    }
    return !trunk.ending.signal.aborted;
  }

  #greet(trunk: Trunk, hello: Hello, text: string): void {
    const again = trunk.hello !== null;
    const resumed = trunk.founder === null || again;
    trunk.hello = hello;
    trunk.waiting = null;
    const recent = this.#recent;
    if (!resumed || !recent || !hello.recovered || recent.epoch !== hello.epoch) {
      const whole = !hello.recovered || ["0", "earliest"].includes(trunk.query.get("since") ?? "");
      const from = whole && compareIds(hello.since, 0) === 0 ? belowAll(hello.earliest) : hello.since;
      const begun = new RecentRows(hello.epoch, from, hello.earliest);
      if (again) this.#startOver(trunk, begun);
      else this.#recent = begun;
    }
    if (trunk.founder) this.#hand(trunk.founder, hello, text);
    for (const seat of [...this.#seats]) {
      if (seat === trunk.founder) continue;
      if (seat.place === "joined") this.#hand(seat, hello, text);
      else if (seat.place === "waits") this.#place(seat);
    }
    trunk.founder = null;
  }

  /** Keeps the connection for the one that opened it; the others go and get their own. */
  #serveOne(trunk: Trunk, hello: Hello): void {
    trunk.hello = hello;
    trunk.sole ??= trunk.founder;
    this.#recent = null;
    for (const seat of [...this.#seats]) if (seat !== trunk.sole && seat.place !== "apart") this.#goApart(seat);
    if (!trunk.sole) trunk.ending.abort();
  }

  #catchUpDone(trunk: Trunk, id: Id): void {
    const recent = this.#rows;
    trunk.live = true;
    if (trunk.last !== null) recent.newestAreHere(trunk.last);
    recent.advance(id);
  }

  /** Another history begins. Where the connection gives the newest of its rows only, those who are owed all of them go and get them. */
  #startOver(trunk: Trunk, recent: RecentRows): void {
    this.#recent = recent;
    if (trunk.last === null) return;
    for (const seat of [...this.#seats]) {
      if (seat.place === "joined" && (seat.last === null || seat.last > trunk.last)) this.#goApart(seat);
    }
  }

  /** Decides how a seat that waits is served, as soon as that can be told. */
  #place(seat: Seat): void {
    const trunk = this.#connected;
    if (trunk.waiting) return this.#hand(seat, trunk.waiting, "");
    if (!trunk.hello) return;
    if (trunk.hello.changes) return this.#goApart(seat);
    const from = this.#reaches({ position: seat.member.position(), last: seat.last }, trunk);
    if (from === "later") return;
    if (from === null) return this.#goApart(seat);
    const recent = this.#rows;
    seat.place = "joined";
    this.#hand(seat, this.#helloFrom(from, trunk), "");
    this.#handRecent(seat, from);
    if (trunk.live) this.#hand(seat, { kind: "live", id: recent.top }, "");
  }

  #helloFrom(since: Id, trunk: Trunk): Hello {
    const { feed, key } = greeting(trunk);
    const { epoch, earliest } = this.#rows;
    return { kind: "hello", feed, key, epoch, head: this.#head(trunk), earliest, since, recovered: true };
  }

  /** From where the recent rows serve who asks for this: null for not at all, `later` where that shows when the connection is live. */
  #reaches({ position, last }: Asked, trunk: Trunk): Id | "later" | null {
    const recent = this.#rows;
    if (position !== null) {
      if (position.epoch === null && compareIds(position.id, 0) === 0) return recent.isWhole ? recent.wholeFrom : null;
      // What is of another history, or above all there is, is the server's to judge.
      if (position.epoch !== null && position.epoch !== recent.epoch) return null;
      const within = compareIds(position.id, recent.floor) >= 0 && compareIds(position.id, this.#head(trunk)) <= 0;
      return within ? position.id : null;
    }
    if (last === null) return this.#head(trunk);
    if (trunk.live) return recent.before(last);
    return trunk.last !== null && trunk.last >= last ? "later" : null;
  }

  #head(trunk: Trunk): Id {
    const { top, epoch } = this.#rows;
    const { head } = greeting(trunk);
    return greeting(trunk).epoch === epoch && compareIds(head, top) > 0 ? head : top;
  }

  #goApart(seat: Seat): void {
    seat.place = "apart";
    const own: NonNullable<Seat["own"]> = { ending: new AbortController(), epoch: null, live: false };
    seat.own = own;
    const hooks: ConnectionHooks = {
      onFrame: (frame, text, transport) => {
        if (frame.kind === "hello" || frame.kind === "reset") own.epoch = frame.epoch;
        if (frame.kind !== "row") own.live = frame.kind === "live";
        if (!seat.member.onFrame(frame, text, transport)) return false;
        this.#rejoin(seat);
        return true;
      },
      onMalformed: (error) => seat.member.onMalformed(error),
    };
    seat.member.openApart(seat.member.query(), hooks, own.ending.signal).then(
      (end) => seat.own === own && seat.leave(end),
      (error) => seat.own === own && seat.fail(error),
    );
  }

  /** Takes a seat back from its own connection, once that has brought it among the recent rows. */
  #rejoin(seat: Seat): void {
    const { own } = seat;
    const recent = this.#recent;
    const position = seat.member.position();
    if (!own?.live || !this.#trunk?.live || !recent || position === null || own.epoch !== recent.epoch) return;
    if (compareIds(position.id, recent.floor) < 0 || !this.#seats.has(seat)) return;
    seat.own = null;
    own.ending.abort();
    seat.place = "joined";
    this.#handRecent(seat, position.id);
  }

  #handRecent(seat: Seat, from: Id): void {
    const { key } = greeting(this.#connected);
    for (const { text } of this.#rows.above(from)) {
      if (!this.#seats.has(seat)) return;
      this.#hand(seat, parseFrame(text, key) as ReceivedFrame, text);
    }
  }

  #handAll(frame: ReceivedFrame, text: string): void {
    let given: ReceivedFrame | null = frame;
    for (const seat of [...this.#seats]) {
      if (seat.place !== "joined") continue;
      // Each has rows of its own, for an application may change what it was given.
      this.#hand(seat, given ?? (parseFrame(text, greeting(this.#connected).key) as ReceivedFrame), text);
      if (frame.kind === "row") given = null;
    }
  }

  #hand(seat: Seat, frame: ReceivedFrame, text: string): void {
    if (this.#seats.has(seat) && !seat.member.onFrame(frame, text, this.#connected.transport)) seat.leave(STOPPED);
  }

  /** Asks all, for each keeps count of its own: one that wants the row again makes all come back for it. */
  #skips(error: MalformedFrame): boolean {
    const joined = [...this.#seats].filter(({ place }) => place === "joined");
    return joined.length > 0 && joined.map(({ member }) => member.onMalformed(error)).every(Boolean);
  }
}

function askedIn(query: URLSearchParams): Asked {
  const [since, last] = [query.get("since"), query.get("last")];
  if (last !== null) return { position: null, last: Number(last) };
  return { position: since === null || since === "now" ? null : { epoch: query.get("epoch"), id: since }, last: null };
}

/** Rows are given only after the hello: one before it is a malformed frame. */
function greeting({ hello }: Trunk): Hello {
  if (!hello) throw new Error("a row before the hello");
  return hello;
}
