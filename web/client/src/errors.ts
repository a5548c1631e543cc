// What can go wrong with a subscription, and the words for it.

/**
 * What happened, for code to branch on.
 *
 * - `unreachable`: nothing answers at the address (the daemon is down, the network is gone).
 * - `connection_lost`: an open connection ended without a word.
 * - `dead_link`: the connection was open but silent, also when asked.
 * - `socket_refused`: the history answers, but no WebSocket can be opened.
 * - `no_feed_named`: the address is a server's alone; `message` lists its feeds. Final.
 * - `unknown_feed` (404), `bad_request` (400), `unauthorized` (401), `forbidden` (403), `server_error`: the server's answer over HTTP.
 * - `origin_refused`: the server answers, but not to pages of this origin.
 * - `at_capacity`: the server is full (503, 429, close code 1013).
 * - `closed_by_server`: the server closed the connection with a code that gives a cause.
 * - `token_expired` (4501), `feed_gone` (4504): final, the subscription has ended.
 * - `token_unavailable`: the `token` function failed.
 * - `malformed_frame`: a frame or an answer that is not of the protocol.
 * - `row_truncated`: a row too large for one message arrived with values cut.
 * - `callback_failed`: one of the application's own callbacks threw.
 */
export type FeedErrorCode =
  | "unreachable"
  | "connection_lost"
  | "dead_link"
  | "socket_refused"
  | "no_feed_named"
  | "unknown_feed"
  | "bad_request"
  | "unauthorized"
  | "forbidden"
  | "server_error"
  | "origin_refused"
  | "at_capacity"
  | "closed_by_server"
  | "token_expired"
  | "feed_gone"
  | "token_unavailable"
  | "malformed_frame"
  | "row_truncated"
  | "callback_failed";

/** Something that went wrong. `message` is a sentence fit to be shown; unless `fatal`, the subscription goes on by itself. */
export class FeedError extends Error {
  override readonly name = "FeedError";
  /** What happened, for code to branch on. */
  readonly code: FeedErrorCode;
  /** True when the subscription has ended because of this. */
  readonly fatal: boolean;
  /** How long the server asked to be left alone, in milliseconds. */
  readonly retryAfterMs: number | undefined;

  constructor(code: FeedErrorCode, message: string, about: { fatal?: boolean; retryAfterMs?: number; cause?: unknown } = {}) {
    super(message, about.cause === undefined ? undefined : { cause: about.cause });
    this.code = code;
    this.fatal = about.fatal ?? false;
    this.retryAfterMs = about.retryAfterMs;
  }
}

/** The words for a close code, or null where the code is an ordinary restart that needs none. */
export function closeError(code: number, reason: string): FeedError | null {
  const said = reason ? `: ${reason}` : "";
  if (code === 1012 || code === 1001) return null;
  if (code === 4501) return new FeedError("token_expired", `The token is no longer valid${said}. Subscribe again with a new one.`, { fatal: true });
  if (code === 4504) return new FeedError("feed_gone", `The feed no longer exists on this server${said}.`, { fatal: true });
  if (code >= 4500 && code <= 4999) return new FeedError("closed_by_server", `The server ended the subscription for good (code ${code})${said}.`, { fatal: true });
  if (code === 1013) return new FeedError("at_capacity", `The server is at capacity${said}; trying again later.`);
  if (code === 1006 || code === 1005 || code === 1000) return new FeedError("connection_lost", "The connection was lost; reconnecting.");
  const causes: Record<number, string> = {
    1008: "for breaking its policy",
    1009: "because a message was too big",
    4008: "because this client took too long to read",
    4009: "because this client no longer answered",
  };
  return new FeedError("closed_by_server", `The server closed the connection ${causes[code] ?? "unexpectedly"} (code ${code})${said}; reconnecting.`);
}

const REFUSALS: readonly FeedErrorCode[] = ["unknown_feed", "bad_request", "unauthorized", "forbidden", "origin_refused"];

/** Whether the server is there but will not serve what was asked for. */
export function isRefusal(error: FeedError | null): boolean {
  return error !== null && REFUSALS.includes(error.code);
}
