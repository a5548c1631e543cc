// What a subscriber asks for: the public options, and their one validation.
import { isId, type Id } from "./ids.js";
import { Credentials, type TokenSource } from "./credentials.js";
import type { FeedError } from "./errors.js";
import { canShareWithTabs } from "./tab-lease.js";
import type { Row } from "./protocol.js";

/** One value of a filter, compared with the whole stored value. */
export type FilterValue = string | number | bigint;

/** Column → the value it must have, or several of which it must have one. Several columns must all match; an empty list asks for nothing. */
export type Filters = Record<string, FilterValue | readonly FilterValue[]>;

/** A place in one history of a feed: every row up to `id` has been delivered. */
export interface Position {
  /** The history the id belongs to, null where it is not known. */
  readonly epoch: string | null;
  readonly id: Id;
}

/**
 * - `connecting`: before the first connection.
 * - `replaying`: connected, older rows are arriving.
 * - `live`: connected, rows arrive as they are committed.
 * - `waiting`: connected, but there is no table to read; rows come by themselves once there is.
 * - `polling`: not connected; the history is read instead while the connection is retried.
 * - `refused`: the server answers, but will not serve this: no such feed, a wrong filter, a refused origin or token. Retried, because configurations change.
 * - `paused`: not connected, because the iterator's consumer has a full buffer to work off.
 * - `closed`: over, by `close()`, the signal or a final close code.
 */
export type FeedState = "connecting" | "replaying" | "live" | "waiting" | "polling" | "refused" | "paused" | "closed";

/** How rows come: over a WebSocket, over server-sent events where none can be opened, or from the history where neither can. */
export type Transport = "websocket" | "sse" | "polling";

export interface FeedStatus {
  readonly state: FeedState;
  /** How rows come now, null where none do. */
  readonly transport: Transport | null;
  /** A sentence fit to be shown. */
  readonly message: string;
}

/** What the subscriber is told about a row beside the row itself. */
export interface EventMeta {
  /** 0 for a row of a snapshot, which is at no position. */
  readonly id: Id;
  /** The history the row belongs to. */
  readonly epoch: string | null;
  /** How the row came. */
  readonly via: "socket" | "sse" | "history";
  /** True for rows replayed at the start or after a reset; false for all that happened since, also when caught up after an outage. */
  readonly replay: boolean;
  /** Columns whose values the server cut because the row was too large for one message. */
  readonly truncated: readonly string[];
}

/** The history behind the cursor is not the one the rows so far came from: drop what they led to, all that follows is new. */
export interface Reset {
  /**
   * The server's reason, e.g. `database_replaced`; or why a cursor could not be honoured: `epoch_changed` (another history),
   * `above_head` (an id that was never given), `pruned` (rows above it are gone) or `snapshot_interrupted` (a feed of changes tells the
   * table from its beginning again).
   */
  readonly reason: string;
  readonly epoch: string | null;
  /** The highest id ever given, 0 for none. */
  readonly head: Id;
  /** The lowest id there is, null for none, undefined where the source did not say. */
  readonly earliest: Id | null | undefined;
}

/** The part of the browser's WebSocket that is used; the `ws` package has it too. */
export interface WebSocketLike {
  // biome-ignore-start lint/suspicious/noExplicitAny: events of the browser and of ws have no type in common that both could be given
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  // biome-ignore-end lint/suspicious/noExplicitAny: as above
  send(data: string): void;
  close(code?: number, reason?: string): void;
}

/** Durations in milliseconds. */
export interface Timing {
  /** Silence after which a ping is sent. Default 20,000. */
  heartbeatMs: number;
  /** How long a ping may stay unanswered before the link counts as dead. Default 10,000. */
  pongTimeoutMs: number;
  /** How long an attempt to connect, or one history request, may take. Default 20,000. */
  connectTimeoutMs: number;
  /** Between two readings of the history while there is no socket. Default 30,000. */
  pollIntervalMs: number;
  /** The first wait before reconnecting; it doubles with each failure. Default 500. */
  backoffMinMs: number;
  /** The longest wait before reconnecting. Default 15,000. */
  backoffMaxMs: number;
}

export interface SubscribeOptions<R extends object = Row> {
  /** Begin after this id, with the whole table (`"earliest"`) or with new rows only (`"now"`, the default). */
  since?: Id | bigint;
  /** The history that the id in `since` belongs to, as an earlier `position` gave it. */
  epoch?: string | null;
  /** Begin with the newest rows that match, this many (1 to 10,000). Not together with `since`. */
  last?: number;
  filters?: Filters;
  /** Called for each row, once and in id order. */
  onEvent?: (row: R, meta: EventMeta) => void;
  onStatus?: (status: FeedStatus) => void;
  /** Called before the first row of another history. */
  onReset?: (reset: Reset) => void;
  /** Called when something went wrong, once for each cause until it is over. */
  onError?: (error: FeedError) => void;
  /** A token, or a function that gives one for each attempt. Where the server calls a token expired, the function has to give another; the same again ends the subscription. */
  token?: TokenSource;
  /** Where rows are read from while there is no socket; false for nowhere. Relative to the feed's server; default: `/api/feeds/<feed>/events` beside `/ws/<feed>`. */
  historyUrl?: string | false;
  /** Where rows are streamed from while no WebSocket can be opened; false for nowhere. Relative to the feed's server; default: `/sse/<feed>` beside `/ws/<feed>`. */
  sseUrl?: string | false;
  /** Headers of history requests, e.g. `X-User-Roles`. A browser can't send any with a WebSocket. */
  headers?: Record<string, string>;
  /**
   * `"page"`: subscriptions of one page that ask for the same, with the same credentials, are served by one connection. `"tabs"`:
   * those of all tabs of one origin, where the browser has Web Locks (not in pages over plain http, but for loopback), else as
   * `"page"`. Default in a page: `"page"`; elsewhere false, each with its own.
   */
  share?: Sharing;
  /**
   * Whether one WebSocket serves this page's subscriptions to all feeds of a daemon, with the same credentials. Those to addresses that
   * end in `/ws/<feed>` can be; where the server is older, or the socket is full, a subscription has its own. Default false.
   */
  multiplex?: boolean;
  /** Ends the subscription when aborted. */
  signal?: AbortSignal;
  /** The WebSocket to use where there is no global one (Node.js before 22: the `ws` package). */
  WebSocket?: new (url: string, protocols?: string[]) => WebSocketLike;
  timing?: Partial<Timing>;
}

/** Among whom one connection is shared. */
export type Sharing = "page" | "tabs" | false;

/** Where a subscription that has no position yet begins. */
export type Start = "now" | { readonly last: number };

/** Options as the rest of the client uses them: checked, and nothing left open. */
export interface Target {
  /** Without parameters. */
  readonly socketUrl: URL;
  /** The feed's name as the address has it; the hello may know better. */
  readonly feed: string | null;
  readonly historyUrl: URL | null;
  readonly sseUrl: URL | null;
  /** Where one WebSocket serves several feeds; null where that is not asked for. */
  readonly multiplexUrl: URL | null;
  /** Whether the address is a server's alone, without a feed's path. */
  readonly namesNoFeed: boolean;
  /** The list of feeds, which knows each one's `earliest`; null where its place can't be derived. */
  readonly feedsUrl: URL | null;
  readonly filters: ReadonlyArray<readonly [column: string, value: string]>;
  readonly start: Start;
  readonly position: Position | null;
  readonly credentials: Credentials;
  readonly headers: Record<string, string>;
  /** `"tabs"` only where that can be done. */
  readonly share: Sharing;
  readonly WebSocket: new (url: string, protocols?: string[]) => WebSocketLike;
  readonly timing: Timing;
}

const RESERVED = ["since", "last", "epoch", "limit", "before", "after", "token"];
/** The most rows that `last` may ask for. */
export const LAST_MAX = 10_000;

const DEFAULT_TIMING: Timing = {
  // Below the server's own heartbeat of 25 s, so that a dead link is noticed within 30 s.
  heartbeatMs: 20_000,
  pongTimeoutMs: 10_000,
  connectTimeoutMs: 20_000,
  pollIntervalMs: 30_000,
  backoffMinMs: 500,
  backoffMaxMs: 15_000,
};

/** Checks everything a caller can get wrong; throws a TypeError that names the option, its value and the remedy. */
export function resolveTarget(url: string | URL, options: SubscribeOptions<never>): Target {
  const { socketUrl, query } = splitUrl(url);
  const since = options.since ?? query.get("since") ?? undefined;
  const last = options.last ?? (query.has("last") ? Number(query.get("last")) : undefined);
  const epoch = options.epoch ?? query.get("epoch");
  const WebSocket = options.WebSocket ?? globalThis.WebSocket;
  if (!WebSocket) throw new TypeError("WebSocket: this runtime has none; pass one, e.g. { WebSocket } from the ws package");
  return {
    socketUrl,
    feed: FEED_PATH.exec(socketUrl.pathname)?.[2] ?? null,
    historyUrl: urlBeside("historyUrl", options.historyUrl, socketUrl, (feed) => `/api/feeds/${feed}/events`),
    sseUrl: urlBeside("sseUrl", options.sseUrl, socketUrl, (feed) => `/sse/${feed}`),
    multiplexUrl: options.multiplex ? multiplexUrl(socketUrl) : null,
    namesNoFeed: socketUrl.pathname === "/",
    feedsUrl: socketUrl.pathname === "/" ? new URL("/api/feeds", withHttp(socketUrl)) : beside(socketUrl, "/api/feeds"),
    filters: [...query].filter(([name]) => !RESERVED.includes(name)).concat(filterPairs(options.filters ?? {})),
    ...beginning(since, last, epoch),
    credentials: new Credentials(options.token ?? query.get("token")),
    headers: options.headers ?? {},
    share: sharing(options.share),
    WebSocket,
    timing: { ...DEFAULT_TIMING, ...options.timing },
  };
}

function sharing(asked: Sharing | undefined): Sharing {
  if (asked === undefined) return globalThis.document === undefined ? false : "page";
  if (asked !== "page" && asked !== "tabs" && asked !== false) throw new TypeError(`share: ${String(asked)} is neither "page" nor "tabs" nor false`);
  return asked === "tabs" && !canShareWithTabs() ? "page" : asked;
}

function splitUrl(url: string | URL): { socketUrl: URL; query: URLSearchParams } {
  const socketUrl = absolute("url", url, globalThis.location?.href);
  if (socketUrl.protocol === "http:" || socketUrl.protocol === "https:") socketUrl.protocol = socketUrl.protocol.replace("http", "ws");
  if (socketUrl.protocol !== "ws:" && socketUrl.protocol !== "wss:") {
    throw new TypeError(`url: ${String(url)} is not an address of a feed; it begins with ws:, wss:, http: or https:, or is relative to the page`);
  }
  const query = new URLSearchParams(socketUrl.search);
  socketUrl.search = "";
  socketUrl.hash = "";
  return { socketUrl, query };
}

function absolute(option: string, url: string | URL, base: string | URL | undefined): URL {
  try {
    return new URL(url, base);
  } catch {
    throw new TypeError(`${option}: ${String(url)} is not a URL; outside a page it must be complete, e.g. ws://127.0.0.1:8010/ws/remediation`);
  }
}

function urlBeside(option: string, given: string | false | undefined, socketUrl: URL, path: (feed: string) => string): URL | null {
  if (given === false) return null;
  if (given !== undefined) return absolute(option, given, withHttp(socketUrl));
  const feed = FEED_PATH.exec(socketUrl.pathname)?.[2];
  return feed === undefined ? null : beside(socketUrl, path(feed));
}

// A proxy may have put the daemon below a path: what comes before /ws/ is kept.
const FEED_PATH = /^(.*)\/ws\/([^/]+)$/;

function beside(socketUrl: URL, path: string): URL | null {
  const prefix = FEED_PATH.exec(socketUrl.pathname)?.[1];
  if (prefix === undefined) return null;
  const url = withHttp(socketUrl);
  url.pathname = prefix + path;
  return url;
}

function multiplexUrl(socketUrl: URL): URL | null {
  const prefix = FEED_PATH.exec(socketUrl.pathname)?.[1];
  if (prefix === undefined) return null;
  const url = new URL(socketUrl);
  url.pathname = `${prefix}/ws`;
  return url;
}

function withHttp(socketUrl: URL): URL {
  return new URL(socketUrl.href.replace(/^ws/, "http"));
}

function beginning(since: Id | bigint | undefined, last: number | undefined, epoch: string | null): Pick<Target, "start" | "position"> {
  if (since !== undefined && last !== undefined) {
    throw new TypeError(`since and last: ${since} and ${last} given together; a subscription begins either after an id or with the newest rows`);
  }
  if (last !== undefined) {
    if (!Number.isInteger(last) || last < 1 || last > LAST_MAX) throw new TypeError(`last: ${last} is not a whole number from 1 to 10,000`);
    return { start: { last }, position: null };
  }
  if (since === undefined || since === "now") return { start: "now", position: null };
  if (since === "earliest") return { start: "now", position: { epoch: null, id: 0 } };
  const id = typeof since === "bigint" ? since.toString() : since;
  if (!isId(id)) throw new TypeError(`since: ${id} is neither an id nor "earliest" nor "now"; ids beyond 2^53 are given as strings or bigints`);
  return { start: "now", position: { epoch, id } };
}

function filterPairs(filters: Filters): Array<[string, string]> {
  return Object.entries(filters).flatMap(([column, wanted]) => {
    if (RESERVED.includes(column)) throw new TypeError(`filters: ${column} is a reserved word and can't be filtered on`);
    const values: readonly FilterValue[] = Array.isArray(wanted) ? wanted : [wanted as FilterValue];
    return values.map((value): [string, string] => {
      if (!["string", "number", "bigint"].includes(typeof value)) {
        throw new TypeError(`filters: ${column} is ${String(value)}; a value to filter by is a string, a number or a bigint`);
      }
      return [column, String(value)];
    });
  });
}
