// The daemon's HTTP interface as the page uses it: addresses, requests, answers, and errors in words.

import { refusalOf, token } from './token.js';
import { sentence } from './values.js';

/** Longer than any page of history should take; a dead link must not hold the page for ever. */
const TIMEOUT_MS = 15_000;

// The page may live under a proxy's prefix: every address is relative to it.
const base = new URL('.', document.baseURI);

/** An absolute address for a daemon path ("/ws/x") and `[name, value]` pairs. */
export function address(path, pairs = []) {
  const url = new URL(`./${path.replace(/^\/+/, '')}`, base);
  for (const [name, value] of pairs) url.searchParams.append(name, value);
  return url;
}

/** Opens a WebSocket; the token travels as a subprotocol, so that it stands in no log of addresses. */
export function openSocket(path, pairs) {
  const url = address(path, pairs);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  const secret = token();
  return secret ? new WebSocket(url, ['walcast.v1', `walcast.bearer.${secret}`]) : new WebSocket(url);
}

/** `status` 0: no answer at all. */
export class ApiError extends Error {
  constructor(status, code, message, retryAfter = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

async function errorFrom(response) {
  let code = 'http_error';
  let message = '';
  try {
    const { error } = await response.json();
    code = String(error.code);
    message = String(error.message);
  } catch {
    message = `HTTP ${response.status} ${response.statusText}`.trim();
  }
  const seconds = Number.parseInt(response.headers.get('retry-after') ?? '', 10);
  return new ApiError(response.status, code, message, Number.isFinite(seconds) ? seconds * 1000 : null);
}

/** GET a JSON object. Rejects with an `ApiError`, or with the signal's reason once it is aborted. */
export function get(path, pairs, signal) {
  return request({ method: 'GET', path, pairs, signal });
}

/** POST rows, as JSON text. Resolves with the answer and rejects with an `ApiError`. */
export function send(path, text) {
  return request({ method: 'POST', path, text });
}

/**
 * Why a WebSocket at this address is refused, which browsers do not tell: the `ApiError` of a request to it.
 * A POST, because it carries the page's origin as the upgrade does, and a GET to the own host does not.
 */
export async function refusal(path, signal) {
  try {
    await request({ method: 'POST', path, signal });
    return null;
  } catch (error) {
    return error;
  }
}

async function request({ method, path, pairs, signal, text }) {
  const limit = new AbortController();
  const abort = () => limit.abort();
  const timer = setTimeout(abort, TIMEOUT_MS);
  signal?.addEventListener('abort', abort);
  const secret = token();
  try {
    const response = await fetch(address(path, pairs), {
      method,
      cache: 'no-store',
      headers: { ...(secret && { authorization: `Bearer ${secret}` }), ...(text !== undefined && { 'content-type': 'application/json' }) },
      body: text,
      signal: limit.signal,
    });
    if (!response.ok) throw await errorFrom(response);
    return await readObject(response, path);
  } catch (error) {
    if (error instanceof ApiError || signal?.aborted) throw error;
    throw new ApiError(0, 'unreachable', 'No answer from the daemon.');
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}

async function readObject(response, path) {
  const text = await response.text();
  try {
    const value = JSON.parse(text);
    if (value !== null && typeof value === 'object') return value;
  } catch {
    // Told below, together with JSON that is not an object.
  }
  throw new ApiError(response.status, 'malformed', `The answer of ${path} could not be read as JSON.`);
}

/** A page of a feed's history, known to have a list of items. */
export async function history(feed, pairs, signal) {
  const page = await get(feed.events, pairs, signal);
  if (Array.isArray(page.items)) return page;
  throw new ApiError(200, 'malformed', `The history of ${feed.name} has no list of items.`);
}

/** What an error means to the person at the screen: `{title, text}`, and `unreachable` where nothing answered. */
export function explain(error) {
  if (!(error instanceof ApiError)) return { title: 'Something went wrong', text: String(error?.message ?? error) };
  switch (error.status) {
    case 0:
      return {
        unreachable: true,
        title: 'walcast can’t be reached',
        text: `No answer from ${base.host}. The page keeps trying and will catch up on everything it misses.`,
      };
    case 401:
      return refusalOf(error);
    case 403:
      return { title: 'Access refused', text: `${sentence(error.message)} This page’s origin is ${location.origin}.` };
    case 404:
      return { title: 'Unknown feed', text: sentence(error.message) };
    case 429:
      return { title: 'Too many wrong tokens', text: `${sentence(error.message)} The page tries again by itself.` };
    case 503:
      if (error.code === 'unavailable') return { title: 'The database can’t be read', text: `${sentence(error.message)} The page goes on by itself when it can.` };
      return { title: 'The daemon is busy or full', text: `${sentence(error.message)} The page tries again by itself.` };
    default:
      return { title: 'The daemon answered with an error', text: sentence(error.message) };
  }
}
