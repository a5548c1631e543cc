// The token a subscription presents: had anew for each attempt, and given up where the server has called the same one expired.
import { FeedError, words } from "./errors.js";

type TokenFunction = () => string | Promise<string>;

/** A token, or a function that gives a fresh one. */
export type TokenSource = string | TokenFunction;

/** The functions behind those that `following` made. */
const followed = new WeakMap<TokenFunction, () => TokenFunction>();

/** A function that is at any time what `current` then gives, also where it matters which function it is. */
export function following(current: () => TokenFunction): TokenFunction {
  const follower: TokenFunction = () => current()();
  followed.set(follower, current);
  return follower;
}

export class Credentials {
  readonly #source: TokenSource | null;
  /** What the server last refused as expired. */
  #expired: string | null = null;

  constructor(source: TokenSource | null) {
    this.#source = source;
  }

  /** The token for one attempt, null for none. Rejects with a FeedError where none could be had, finally where it is still the expired one. */
  async obtain(): Promise<string | null> {
    const token = await this.#ask();
    if (token === null || token !== this.#expired) return token;
    throw new FeedError("token_expired", "The token has expired, and there is no fresh one. Subscribe again with another.", { fatal: true });
  }

  /** The server refused this token as expired: it is of no use any more. */
  refusedAsExpired(token: string | null): void {
    this.#expired = token;
  }

  /** The same for credentials that are the same: a string, or the function asked now. */
  get identity(): TokenSource | null {
    const source = this.#source;
    return typeof source === "function" ? (followed.get(source)?.() ?? source) : source;
  }

  async #ask(): Promise<string | null> {
    if (typeof this.#source !== "function") return this.#source;
    try {
      return await this.#source();
    } catch (cause) {
      throw new FeedError("token_unavailable", `No token could be had: ${words(cause)}; trying again.`, { cause });
    }
  }
}
