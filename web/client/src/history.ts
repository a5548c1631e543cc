// Reading a feed's history over HTTP: pages of rows, and the words for an answer that is none.
import { compareIds, type Id } from "./ids.js";
import { FeedError, words, type FeedErrorCode } from "./errors.js";
import type { Target } from "./options.js";
import { columnNames, id, isObject, MalformedFrame, parseObject, type Row } from "./protocol.js";

/** The most rows that the server gives in one answer. */
export const PAGE_LIMIT = 500;

export interface HistoryRow {
  readonly id: Id;
  readonly row: Row;
  readonly truncated: readonly string[];
}

export interface HistoryPage {
  /** Ascending by id, whatever order they came in. */
  readonly rows: readonly HistoryRow[];
  readonly total: number;
  readonly totalIsCapped: boolean;
  readonly head: Id;
  /** Null where there is no table yet. */
  readonly epoch: string | null;
  /** Length of the JSON, to estimate what a row costs to hold. */
  readonly size: number;
}

export interface PageQuery {
  readonly limit: number;
  readonly after?: Id;
  readonly before?: Id;
}

/** One page of rows that match the target's filters. `key` is the cursor column's name. Rejects with a FeedError. */
export async function readHistory(target: Target, query: PageQuery, key: string, signal: AbortSignal): Promise<HistoryPage> {
  // biome-ignore lint/style/noNonNullAssertion: nobody asks for a history where the target has none
  const url = new URL(target.historyUrl!);
  for (const [name, value] of target.filters) url.searchParams.append(name, value);
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, String(value));
  const source = await get(target, url, signal);
  try {
    return parsePage(source, key);
  } catch (cause) {
    throw malformed(url, cause);
  }
}

export interface Count {
  /** Rows that match the filters, at least 10,000 where capped. */
  readonly total: number;
  readonly totalIsCapped: boolean;
  /** The newest row counted, null for none. */
  readonly newest: Id | null;
}

/** How many rows match the target's filters now. Rejects with a FeedError. */
export async function countRows(target: Target, signal: AbortSignal): Promise<Count> {
  const feed = target.feed === null ? null : await describeFeed(target, target.feed, signal);
  const { total, totalIsCapped, rows } = await readHistory(target, { limit: 1 }, feed?.key ?? "id", signal);
  return { total, totalIsCapped, newest: rows[0]?.id ?? null };
}

export interface FeedDescription {
  /** The cursor column. */
  readonly key: string;
  readonly epoch: string | null;
  /** The lowest id there is, null for none. */
  readonly earliest: Id | null;
}

/** A feed by the server's list of feeds; null where that list has no answer or the table can't be read, for it is only ever asked for a detail. */
export async function describeFeed(target: Target, feed: string, signal: AbortSignal): Promise<FeedDescription | null> {
  if (!target.feedsUrl) return null;
  try {
    const { feeds } = parseObject(await get(target, target.feedsUrl, signal));
    const entry: unknown = Array.isArray(feeds) ? feeds.find((each) => isObject(each) && each.name === feed) : null;
    if (!isObject(entry) || typeof entry.key !== "string" || entry.status !== "open") return null;
    return { key: entry.key, epoch: epochOf(entry), earliest: entry.earliest == null ? null : id(entry, "earliest") };
  } catch {
    return null;
  }
}

/** The error for an address that names no feed, with the feeds there are. Rejects with a FeedError where the server can't be asked. */
export async function noFeedNamed(target: Target, signal: AbortSignal): Promise<FeedError> {
  // biome-ignore lint/style/noNonNullAssertion: an address that names no feed is a server's, whose list of feeds has its place
  const url = target.feedsUrl!;
  const { feeds } = parseObject(await get(target, url, signal));
  const names = (Array.isArray(feeds) ? feeds : []).filter(isObject).map(({ name, ws }) => `${name} (${[ws].flat()[0]})`);
  const there = names.length > 0 ? `it has ${names.join(", ")}` : "it has none yet";
  return new FeedError("no_feed_named", `${url.origin} is the address of a server, not of a feed; ${there}.`, { fatal: true });
}

function parsePage(source: string, key: string): HistoryPage {
  const answer = parseObject(source);
  if (!Array.isArray(answer.items)) throw new MalformedFrame('"items" is not a list');
  const cut = isObject(answer.truncated) ? answer.truncated : {};
  const rows = answer.items.map((row: unknown) => {
    if (!isObject(row)) throw new MalformedFrame("an item is not an object");
    const rowId = id(row, key);
    return { id: rowId, row, truncated: columnNames(cut[String(rowId)]) };
  });
  return {
    rows: rows.sort((a, b) => compareIds(a.id, b.id)),
    total: typeof answer.total === "number" ? answer.total : rows.length,
    totalIsCapped: answer.total_is_capped === true,
    head: answer.head == null ? 0 : id(answer, "head"),
    epoch: epochOf(answer),
    size: source.length,
  };
}

function epochOf(answer: Row): string | null {
  return typeof answer.epoch === "string" && answer.epoch !== "" ? answer.epoch : null;
}

/** How many tokens in a row may be called expired before the answer counts as a refusal. */
const TOKENS_MAX = 3;

async function get(target: Target, url: URL, signal: AbortSignal): Promise<string> {
  for (let tokens = 1; ; tokens += 1) {
    const token = await target.credentials.obtain();
    const { response, body } = await request(target, url, token, signal);
    if (response.ok) return body;
    const said = serverError(body);
    // The next attempt has a fresh one, or is the last.
    if (response.status === 401 && said.code === "token_expired") target.credentials.refusedAsExpired(token);
    else throw refusal(url, response, said);
    if (tokens === TOKENS_MAX) throw refusal(url, response, said);
  }
}

async function request(target: Target, url: URL, token: string | null, signal: AbortSignal): Promise<{ response: Response; body: string }> {
  const limit = AbortSignal.timeout(target.timing.connectTimeoutMs);
  try {
    const response = await fetch(url, { headers: requestHeaders(target, token), cache: "no-store", signal: AbortSignal.any([signal, limit]) });
    return { response, body: await response.text() };
  } catch (cause) {
    throw await unreachable(url, signal, cause);
  }
}

/** What a request by fetch carries: the application's headers and the token. */
export function requestHeaders(target: Target, token: string | null): Record<string, string> {
  return { ...target.headers, ...(token === null ? {} : { Authorization: `Bearer ${token}` }) };
}

// To a page, a server that is gone and one that refuses the page's origin look the same. A request whose answer
// the page may not read tells them apart: it succeeds wherever anything answers.
async function unreachable(url: URL, signal: AbortSignal, cause: unknown): Promise<FeedError> {
  const origin = globalThis.location?.origin;
  if (origin !== undefined && origin !== url.origin && !signal.aborted) {
    try {
      await fetch(new URL("/healthz", url), { mode: "no-cors", cache: "no-store", signal });
      return new FeedError("origin_refused", `${url.host} answers, but not to pages of ${origin}: the server must list this origin under "origins".`, { cause });
    } catch {
      // Nothing answers at all.
    }
  }
  return new FeedError("unreachable", `${url.host} can't be reached; trying again.`, { cause });
}

const REFUSALS: Record<number, FeedErrorCode> = {
  400: "bad_request",
  401: "unauthorized",
  403: "forbidden",
  404: "unknown_feed",
  429: "at_capacity",
  503: "at_capacity",
};

// What the daemon says of a token that is not good. Of another's 401, a proxy's for one, it is not known for how long it holds.
const TOKEN_REFUSALS = ["token_invalid", "token_missing", "claim_missing"];

function refusal(url: URL, response: Response, said: ServerError): FeedError {
  const retryAfter = Number(response.headers.get("Retry-After") ?? NaN);
  const words = { ...said, message: said.message ?? `${response.status} ${response.statusText}`.trim() };
  return refusalOf(url.host, response.status, words, Number.isFinite(retryAfter) ? retryAfter * 1000 : null);
}

/** What the server's answer means: a status of HTTP, its words, and when to come back, in milliseconds. */
export function refusalOf(host: string, status: number, said: ServerError, retryAfterMs: number | null): FeedError {
  const message = `${host} refuses: ${said.message}`;
  if (status === 401 && said.code !== null && TOKEN_REFUSALS.includes(said.code)) {
    return new FeedError("token_refused", message, { fatal: true });
  }
  return new FeedError(REFUSALS[status] ?? "server_error", message, retryAfterMs === null ? {} : { retryAfterMs });
}

export interface ServerError {
  readonly code: string | null;
  readonly message: string | null;
}

/** What an answer says went wrong; nothing where it is none of the daemon's. */
function serverError(body: string): ServerError {
  const text = (value: unknown): string | null => (typeof value === "string" ? value : null);
  try {
    const { error } = parseObject(body);
    return isObject(error) ? { code: text(error.code), message: text(error.message) } : { code: null, message: null };
  } catch {
    return { code: null, message: null };
  }
}

function malformed(url: URL, cause: unknown): FeedError {
  return new FeedError("malformed_frame", `${url.host} answered with something that is no history: ${words(cause)}`, { cause });
}
