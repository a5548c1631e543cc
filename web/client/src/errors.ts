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
 * - `token_unavailable`: the `token` function failed.
 * - `token_expired` (4401): the token has expired, and `token` gave the same one again. Final.
 * - `token_refused` (4501): the server does not take the token, or any more, or asks for one. Final.
 * - `feed_gone` (4504): there is no such feed (any more), or not for this token. Final.
 * - `malformed_frame`: a frame or an answer that is not of the protocol.
 * - `row_truncated`: a row too large for one message arrived with values cut.
 * - `not_a_change_feed`: `subscribeTable` was given a feed of rows. Final.
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
  | "token_unavailable"
  | "token_expired"
  | "token_refused"
  | "feed_gone"
  | "malformed_frame"
  | "row_truncated"
  | "not_a_change_feed"
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

/** The close code by which a server says that the credentials have expired. */
export const EXPIRED = 4401;

/** The words for a close code, or null for what ends connections in ordinary life: a restart, a token that ran out. */
export function closeError(code: number, reason: string): FeedError | null {
  const said = reason ? `: ${reason}` : "";
  if (code === 1012 || code === 1001 || code === EXPIRED) return null;
  if (code === 4501) return new FeedError("token_refused", `The server refuses this token, or asks for one${said}. Subscribe again with a good one.`, { fatal: true });
  if (code === 4504) return new FeedError("feed_gone", `The server has no such feed any more, or not for this token${said}.`, { fatal: true });
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

/** What was thrown, in words. */
export function words(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
