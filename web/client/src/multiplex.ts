// One WebSocket for a page's subscriptions to all feeds of a daemon: each converses on it under a name of its own, and ends as if the
// socket were its own.
import type { ConnectionEnd, ConnectionHooks } from "./connection.js";
import { FrameReader, STOPPED } from "./frame-reader.js";
import { refusalOf } from "./history.js";
import { Link, type LinkEnd } from "./link.js";
import type { Target } from "./options.js";
import { numberOf } from "./page-connections.js";
import { isObject, type MalformedFrame, parseObject } from "./protocol.js";

const PROTOCOL = "walcast.multi.v1";
/** The most that a server takes in one message, in bytes; a longer filter needs a socket of its own. */
const MESSAGE_MAX = 4_096;
/** What its kind and its name take of that, at most. */
const NAMED = 64;

/** How a frame of a subscription begins. The rest, but for the last brace, is the frame as it would come over a socket of its own. */
const ENVELOPE = /^\{"id":"(\d+)","message":/;

const multiplexers = new Map<string, Multiplexer>();

/** Converses over the socket of all feeds; null where a socket of the feed's own is to be used. */
export async function multiplexed(target: Target, url: URL, token: string | null, query: URLSearchParams, hooks: ConnectionHooks, signal: AbortSignal): Promise<ConnectionEnd | null> {
  const { feed } = target;
  const asked = feed === null ? null : subscribeMessage(target, decodeURIComponent(feed), query);
  if (asked === null) return null;
  const key = JSON.stringify([url.href, token, target.timing, numberOf(target.WebSocket)]);
  const multiplexer = multiplexers.get(key) ?? new Multiplexer(target, url, token);
  multiplexers.set(key, multiplexer);
  try {
    return await multiplexer.converse(asked, hooks, signal);
  } finally {
    if (multiplexer.isIdle) multiplexers.delete(key);
  }
}

/** What asks for this, but for its name; null where it is too long for a message. */
function subscribeMessage({ filters }: Target, feed: string, query: URLSearchParams): object | null {
  const values = new Map<string, string[]>();
  for (const [column, value] of filters) values.set(column, [...(values.get(column) ?? []), value]);
  const asked: Record<string, unknown> = { feed };
  for (const name of ["since", "last", "epoch"]) if (query.has(name)) asked[name] = query.get(name);
  if (filters.length > 0) asked.filters = Object.fromEntries(values);
  return new TextEncoder().encode(JSON.stringify(asked)).length + NAMED > MESSAGE_MAX ? null : asked;
}

/** One subscription's share of the socket. */
interface Conversation {
  readonly reader: FrameReader;
  /** Ends it; null: by a socket of its own. */
  readonly end: (how: LinkEnd | null) => void;
  readonly fail: (error: unknown) => void;
}

class Multiplexer {
  readonly #target: Target;
  readonly #url: URL;
  readonly #token: string | null;
  readonly #conversations = new Map<string, Conversation>();
  #link: Link | null = null;
  #isOpen = false;
  /** What is to be said once it is open. */
  #unsaid: string[] = [];
  #names = 0;
  #reconnectAfterMs: number | undefined;

  constructor(target: Target, url: URL, token: string | null) {
    this.#target = target;
    this.#url = url;
    this.#token = token;
  }

  get isIdle(): boolean {
    return this.#conversations.size === 0;
  }

  /** Subscribes, and resolves when that has ended, by whichever side; null where the socket can't be had, or holds no more. */
  converse(asked: object, hooks: ConnectionHooks, signal: AbortSignal): Promise<ConnectionEnd | null> {
    return new Promise((resolve, reject) => {
      this.#names += 1;
      const id = String(this.#names);
      const reader = new FrameReader("websocket", hooks, () => clearTimeout(timer));
      const gone = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", stop);
        this.#part(id);
      };
      const conversation: Conversation = {
        reader,
        end: (how) => {
          gone();
          const { greeted } = reader;
          const reconnectAfterMs = this.#reconnectAfterMs;
          resolve(how && { ...how, greeted, token: this.#token, ...(reconnectAfterMs === undefined ? {} : { reconnectAfterMs }) });
        },
        fail: (error) => {
          gone();
          reject(error);
        },
      };
      const leave = (how: Omit<LinkEnd, "reason">): void => {
        this.#say({ type: "unsubscribe", id });
        conversation.end({ reason: "", ...how });
      };
      const stop = (): void => leave(STOPPED);
      const timer = setTimeout(leave, this.#target.timing.connectTimeoutMs, { code: 1006, cause: "connect_timeout" });
      signal.addEventListener("abort", stop);
      this.#conversations.set(id, conversation);
      this.#say({ type: "subscribe", id, ...asked });
      try {
        this.#open();
      } catch (error) {
        // The browser refuses to try.
        this.#unsaid = [];
        conversation.fail(error);
      }
    });
  }

  #open(): void {
    if (this.#link) return;
    this.#reconnectAfterMs = undefined;
    this.#link = new Link(this.#target, new URL(this.#url), [PROTOCOL, true], this.#token, {
      opened: () => {
        this.#isOpen = true;
        this.#link?.established();
        for (const text of this.#unsaid.splice(0)) this.#link?.send(text);
      },
      received: (data) => this.#receive(data),
      ended: (how) => this.#ended(how),
    });
  }

  #say(message: object): void {
    const text = JSON.stringify(message);
    if (this.#isOpen) this.#link?.send(text);
    else this.#unsaid.push(text);
  }

  /** The socket has ended, and with it all that is left on it. */
  #ended(how: LinkEnd): void {
    const wasOpen = this.#isOpen;
    this.#link = null;
    this.#isOpen = false;
    this.#unsaid = [];
    // A server that is older refuses it, but has one for each feed.
    const refused = !wasOpen && how.code === 1006 && how.cause === undefined;
    for (const conversation of [...this.#conversations.values()]) conversation.end(refused ? null : how);
  }

  #part(id: string): void {
    this.#conversations.delete(id);
    if (this.#conversations.size === 0) this.#link?.end({ reason: "", ...STOPPED });
  }

  #receive(data: unknown): void {
    const text = String(data);
    const envelope = ENVELOPE.exec(text);
    if (!envelope) return this.#hear(text);
    const [beginning, id = ""] = envelope;
    const conversation = this.#conversations.get(id);
    // What is under way when one has left is nobody's.
    if (!conversation) return undefined;
    let ending: ReturnType<FrameReader["read"]>;
    try {
      ending = conversation.reader.read(text.slice(beginning.length, -1));
    } catch (error) {
      this.#say({ type: "unsubscribe", id });
      return conversation.fail(error);
    }
    if (ending) {
      this.#say({ type: "unsubscribe", id });
      conversation.end({ reason: "", ...ending });
    }
    return undefined;
  }

  /** What is said of the socket, or of how a subscription ended. */
  #hear(text: string): void {
    if (text === "pong") return undefined;
    let said: Record<string, unknown>;
    try {
      said = parseObject(text);
    } catch (error) {
      return this.#link?.end({ code: 1006, reason: "", cause: error as MalformedFrame });
    }
    if (said.type === "goodbye" && typeof said.reconnect_after_ms === "number") this.#reconnectAfterMs = said.reconnect_after_ms;
    const conversation = typeof said.id === "string" ? this.#conversations.get(said.id) : undefined;
    if (said.type === "closed") conversation?.end({ code: Number(said.code), reason: String(said.reason ?? "") });
    else if (said.type === "error" && conversation) this.#refused(conversation, said);
    return undefined;
  }

  #refused(conversation: Conversation, { status, error, retry_after_ms }: Record<string, unknown>): void {
    const { code, message } = isObject(error) ? error : { code: null, message: null };
    if (code === "too_many_subscriptions") return conversation.end(null);
    const words = { code: String(code), message: String(message) };
    return conversation.fail(refusalOf(this.#url.host, Number(status), words, typeof retry_after_ms === "number" ? retry_after_ms : null));
  }
}
