// By which transport an attempt goes: a WebSocket, and where none can be opened, server-sent events until one can.
import { converse, type ConnectionEnd, type ConnectionHooks } from "./connection.js";
import { streamEvents } from "./event-stream.js";
import { STOPPED } from "./frame-reader.js";
import { multiplexed } from "./multiplex.js";
import type { Target } from "./options.js";

/** Connects from `query` on with this token, and resolves when that has ended. */
export async function connect(target: Target, token: string | null, query: URLSearchParams, hooks: ConnectionHooks, signal: AbortSignal): Promise<ConnectionEnd> {
  const end = await overWebSocket(target, token, query, hooks, signal);
  if (!isBlocked(end) || !target.sseUrl || signal.aborted) return end;
  const better = new AbortController();
  const over = new AbortController();
  let greeted = false;
  const streamed: ConnectionHooks = {
    ...hooks,
    onFrame: (frame, text, transport) => {
      if (!greeted) void probe(target, better, over.signal);
      greeted = true;
      return hooks.onFrame(frame, text, transport);
    },
  };
  try {
    return (await streamEvents(target, query, token, streamed, signal, better.signal)) ?? end;
  } finally {
    over.abort();
  }
}

/** Over the page's socket for all feeds, where that is asked for and can be had; else over one of its own. */
async function overWebSocket(target: Target, token: string | null, query: URLSearchParams, hooks: ConnectionHooks, signal: AbortSignal): Promise<ConnectionEnd> {
  const end = target.multiplexUrl ? await multiplexed(target, target.multiplexUrl, token, query, hooks, signal) : null;
  if (end) return end;
  return signal.aborted ? { ...STOPPED, reason: "", greeted: false, token } : converse(target, query, token, hooks, signal);
}

/** Whether no WebSocket was opened at all, so that it may be WebSockets that don't come through. */
function isBlocked({ greeted, code, cause }: ConnectionEnd): boolean {
  return !greeted && code === 1006 && (cause === undefined || cause === "connect_timeout");
}

/** Aborts `better` as soon as a WebSocket can be opened; tries one at the pace at which the history would be read. */
async function probe(target: Target, better: AbortController, over: AbortSignal): Promise<void> {
  const query = new URLSearchParams([...target.filters.map(([column, value]) => [column, value]), ["since", "now"]]);
  while (await pause(target.timing.pollIntervalMs, over)) {
    try {
      const token = await target.credentials.obtain();
      if (over.aborted) return;
      const end = await converse(target, query, token, { onFrame: () => false, onMalformed: () => false }, over);
      if (end.greeted && !over.aborted) return better.abort();
    } catch {
      // No token: the stream itself will say so when it needs one.
    }
  }
}

/** Waits; resolves to false where `over` came first. */
function pause(ms: number, over: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    if (over.aborted) return resolve(false);
    const done = (): void => {
      clearTimeout(timer);
      over.removeEventListener("abort", done);
      resolve(!over.aborted);
    };
    const timer = setTimeout(done, ms);
    over.addEventListener("abort", done);
    return undefined;
  });
}
