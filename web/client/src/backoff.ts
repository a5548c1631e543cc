// How long to wait before the next attempt to connect.
import type { Timing } from "./options.js";

// A connection that lived this long was a good one: the next failure starts from the shortest wait. Without it, a server
// that greets and closes would be asked again and again at that shortest wait.
const PROVEN_MS = 10_000;

// A full server asks to be left alone, but says in a browser not for how long.
const AT_CAPACITY_MS = 5_000;

export class Backoff {
  #failures = 0;
  readonly #timing: Timing;

  constructor(timing: Timing) {
    this.#timing = timing;
  }

  /** The wait after a connection that lived for `lifetimeMs`: doubled with each failure, half of it jitter. */
  next(lifetimeMs: number): number {
    if (lifetimeMs >= PROVEN_MS) this.#failures = 0;
    const { backoffMinMs, backoffMaxMs } = this.#timing;
    const ceiling = Math.min(backoffMaxMs, backoffMinMs * 2 ** this.#failures);
    this.#failures += 1;
    return spread(ceiling);
  }

  /** The least wait after a server said that it is full. */
  atCapacity(): number {
    return AT_CAPACITY_MS + spread(AT_CAPACITY_MS);
  }
}

// Half fixed and half random, so that clients that lost the same server do not come back at the same moment.
function spread(ceiling: number): number {
  return ceiling / 2 + Math.random() * (ceiling / 2);
}
