// A connection over one WebSocket from opening to its end: the frames it brings. Knows nothing of reconnecting.
import { FrameReader, STOPPED } from "./frame-reader.js";
import { Link } from "./link.js";
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

/** Opens a socket on `query` and resolves when it has ended, by whichever side. `signal` ends it. */
export function converse(target: Target, query: URLSearchParams, token: string | null, hooks: ConnectionHooks, signal: AbortSignal): Promise<ConnectionEnd> {
  return new Promise((resolve) => {
    const url = new URL(target.socketUrl);
    url.search = query.toString();
    const reader = new FrameReader("websocket", hooks, () => link.established());
    const stop = (): void => link.end({ reason: "", ...STOPPED });
    const link = new Link(target, url, ["walcast.v1", false], token, {
      received: (data) => {
        const ending = reader.read(data);
        if (ending) link.end({ reason: "", ...ending });
      },
      ended: (how) => {
        signal.removeEventListener("abort", stop);
        const { greeted, reconnectAfterMs } = reader;
        resolve({ ...how, greeted, token, ...(reconnectAfterMs === undefined ? {} : { reconnectAfterMs }) });
      },
    });
    signal.addEventListener("abort", stop);
  });
}
