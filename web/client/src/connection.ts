// One WebSocket from opening to its end: the frames it brings, the watch over a silent link. Knows nothing of reconnecting.
import { FrameReader, STOPPED } from "./frame-reader.js";
import type { Target, Transport } from "./options.js";
import type { Frame, MalformedFrame } from "./protocol.js";

export interface ConnectionEnd {
  /** The close code; 1006 where the connection ended without one. */
  readonly code: number;
  readonly reason: string;
  /** Whether the server had said hello, or that it waits. */
  readonly greeted: boolean;
  /** Why this side ended it, where it did. */
  readonly cause?: "stopped" | "dead_link" | "connect_timeout" | "better_transport" | MalformedFrame;
  /** What was presented. */
  readonly token: string | null;
  /** When a goodbye asked to come back, in milliseconds from its arrival. */
  readonly reconnectAfterMs?: number;
}

export type ReceivedFrame = Exclude<Frame, { kind: "goodbye" } | { kind: "sign-of-life" }>;

export interface ConnectionHooks {
  /** `text` is the frame as it came. Returns false to end the connection after this frame. */
  onFrame: (frame: ReceivedFrame, text: string, transport: Transport) => boolean;
  /** Whether to ignore a malformed frame rather than to end the connection. */
  onMalformed: (error: MalformedFrame) => boolean;
}

/** One attempt to connect, and the connection it leads to; resolves when that has ended, by whichever side. */
export type Attempt = (query: URLSearchParams, hooks: ConnectionHooks, signal: AbortSignal) => Promise<ConnectionEnd>;

/** A subprotocol is an HTTP token; a bearer token with other characters can't be one. */
const HTTP_TOKEN = /^[\w!#$%&'*+\-.^`|~]+$/;

/** Opens a socket on `query` and resolves when it has ended, by whichever side. `signal` ends it. */
export function converse(target: Target, query: URLSearchParams, token: string | null, hooks: ConnectionHooks, signal: AbortSignal): Promise<ConnectionEnd> {
  return new Promise((resolve) => {
    const { heartbeatMs, pongTimeoutMs, connectTimeoutMs } = target.timing;
    const url = new URL(target.socketUrl);
    url.search = query.toString();
    const protocols = bearerProtocols(url, token);
    // An empty list is passed as none: a server that picks no subprotocol must not be offered any.
    const socket = protocols.length > 0 ? new target.WebSocket(url.href, protocols) : new target.WebSocket(url.href);
    const reader = new FrameReader("websocket", hooks, () => watchIn(heartbeatMs));
    let lastFrameAt = 0;
    let pingedAt = 0;
    let timer = setTimeout(() => end({ code: 1006, reason: "", cause: "connect_timeout" }), connectTimeoutMs);

    function end(how: Omit<ConnectionEnd, "greeted" | "token">): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
      socket.onopen = socket.onmessage = socket.onclose = null;
      // Stays, because the ws package throws an error that nobody listens to.
      socket.onerror = () => {};
      socket.close(1000);
      const { greeted, reconnectAfterMs } = reader;
      resolve({ ...how, greeted, token, ...(reconnectAfterMs === undefined ? {} : { reconnectAfterMs }) });
    }

    function stop(): void {
      end({ reason: "", ...STOPPED });
    }

    // A link counts as dead only when a ping went unanswered, never by the clock alone: a machine that slept
    // and a hidden tab whose timers are held back both see long silences on links that live.
    function watch(): void {
      const now = performance.now();
      if (pingedAt > lastFrameAt && now - pingedAt >= pongTimeoutMs) return end({ code: 1006, reason: "", cause: "dead_link" });
      if (pingedAt <= lastFrameAt && now - lastFrameAt >= heartbeatMs) {
        pingedAt = now;
        socket.send("ping");
      }
      const due = pingedAt > lastFrameAt ? pingedAt + pongTimeoutMs : lastFrameAt + heartbeatMs;
      watchIn(due - now);
    }

    function watchIn(ms: number): void {
      clearTimeout(timer);
      timer = setTimeout(watch, Math.max(ms, 1));
    }

    function receive(data: unknown): void {
      if (pingedAt > lastFrameAt) watchIn(heartbeatMs);
      lastFrameAt = performance.now();
      const ending = reader.read(data);
      if (ending) end({ reason: "", ...ending });
    }

    socket.onmessage = (event) => receive(event.data);
    socket.onclose = (event) => end({ code: event.code ?? 1006, reason: event.reason ?? "" });
    socket.onerror = () => {};
    signal.addEventListener("abort", stop);
  });
}

// A subprotocol keeps the token out of addresses and so out of logs; the parameter is left for tokens that can't be one.
function bearerProtocols(url: URL, token: string | null): string[] {
  if (token === null) return [];
  if (HTTP_TOKEN.test(token)) return ["walcast.v1", `walcast.bearer.${token}`];
  url.searchParams.set("token", token);
  return [];
}
