// A connection over server-sent events, for where no WebSocket comes through: the same frames, positions and ends. Read by
// fetch, for EventSource can send no header, gives up for good on a proxy's error, and doesn't tell one from another.
import type { ConnectionEnd, ConnectionHooks } from "./connection.js";
import { FrameReader, STOPPED, type Ending } from "./frame-reader.js";
import { requestHeaders } from "./history.js";
import type { Target } from "./options.js";
import { MalformedFrame } from "./protocol.js";
import { EventParser, EventTooLarge } from "./server-sent-events.js";

const LOST: Ending = { code: 1006 };

/** Streams from `query` on, until it ends by whichever side; null where the server gives no stream. `signal` ends it, and so does `better`. */
export async function streamEvents(
  target: Target,
  query: URLSearchParams,
  token: string | null,
  hooks: ConnectionHooks,
  signal: AbortSignal,
  better: AbortSignal,
): Promise<ConnectionEnd | null> {
  const watch = new SilenceWatch(target);
  const reader = new FrameReader("sse", hooks);
  try {
    const body = await open(target, query, token, AbortSignal.any([signal, better, watch.signal]));
    if (!body) return null;
    const ending = await read(body, reader, watch);
    return { ...ending, reason: "", greeted: reader.greeted, token, ...(reader.reconnectAfterMs === undefined ? {} : { reconnectAfterMs: reader.reconnectAfterMs }) };
  } catch (error) {
    if (error instanceof ApplicationFailure) throw error.cause;
    const ended = { reason: "", greeted: reader.greeted, token };
    if (signal.aborted) return { ...STOPPED, ...ended };
    if (better.aborted) return { code: 1000, cause: "better_transport", ...ended };
    if (watch.signal.aborted) return reader.greeted ? { code: 1006, cause: "dead_link", ...ended } : null;
    return reader.greeted ? { ...LOST, ...ended } : null;
  } finally {
    watch.stop();
  }
}

/** What is thrown by what the rows are handed to, which is no failure of the stream. */
class ApplicationFailure extends Error {}

async function open(target: Target, query: URLSearchParams, token: string | null, signal: AbortSignal): Promise<ReadableStream<Uint8Array> | null> {
  if (!target.sseUrl) return null;
  const url = new URL(target.sseUrl);
  url.search = query.toString();
  const headers = { Accept: "text/event-stream", ...requestHeaders(target, token) };
  const response = await fetch(url, { headers, cache: "no-store", signal });
  if (response.ok && response.headers.get("Content-Type")?.startsWith("text/event-stream") && response.body) return response.body;
  await response.body?.cancel();
  return null;
}

async function read(body: ReadableStream<Uint8Array>, reader: FrameReader, watch: SilenceWatch): Promise<Ending> {
  const pieces = body.getReader();
  const text = new TextDecoder();
  const events = new EventParser();
  try {
    for (;;) {
      const { done, value } = await pieces.read();
      if (done) return LOST;
      watch.heard();
      for (const data of events.take(text.decode(value, { stream: true }))) {
        const ending = handOn(reader, data);
        if (ending) return ending;
      }
    }
  } catch (error) {
    if (error instanceof EventTooLarge) return { code: 1006, cause: new MalformedFrame(error.message) };
    throw error;
  } finally {
    pieces.cancel().catch(() => {});
  }
}

function handOn(reader: FrameReader, data: string): Ending | null {
  try {
    return reader.read(data);
  } catch (cause) {
    throw new ApplicationFailure("", { cause });
  }
}

/** Gives up a stream that is silent for too long: the server sends a comment every 25 s. */
class SilenceWatch {
  readonly #silent = new AbortController();
  readonly #target: Target;
  #timer: ReturnType<typeof setTimeout>;

  constructor(target: Target) {
    this.#target = target;
    this.#timer = setTimeout(() => this.#silent.abort(), target.timing.connectTimeoutMs);
  }

  get signal(): AbortSignal {
    return this.#silent.signal;
  }

  heard(): void {
    const { heartbeatMs, pongTimeoutMs } = this.#target.timing;
    this.stop();
    // In two steps: to a machine that slept the first is long over, and what arrived meanwhile is still to be read.
    this.#timer = setTimeout(() => {
      this.#timer = setTimeout(() => this.#silent.abort(), Math.max(pongTimeoutMs, COMMENT_MS - heartbeatMs));
    }, heartbeatMs);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}

/** Within so long a server that lives has sent a comment. */
const COMMENT_MS = 30_000;
