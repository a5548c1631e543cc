// The side of a tab without the connection: asks the one that has it, and hears what that one hands on.
import type { FollowerMessage, GroupMessage, LeaderMessage } from "./tab-messages.js";

// How much is taken before that is told: a fraction of what may be under way.
const TOLD_FRAMES = 500;
const TOLD_SIZE = 1024 * 1024;

/** In milliseconds. */
export interface Patience {
  /** Silence after which the other is asked for a sign of life. */
  readonly silenceMs: number;
  /** How long that may take. */
  readonly answerMs: number;
}

type Heard = Exclude<LeaderMessage, { type: "pong" }>;

export class LeaderLink {
  /** How many of its newest rows another history would begin with over this link, null for all. */
  last: number | null = null;
  readonly #channel: BroadcastChannel;
  readonly #patience: Patience;
  readonly #onSilent: () => void;
  #heardAt: number;
  #pingedAt: number;
  #timer: ReturnType<typeof setTimeout>;
  #frames = 0;
  #size = 0;

  /** Asks in `group`; the answer, and what follows it, goes to `onMessage`. `onSilent` is called once, when nobody answers (any more). */
  constructor(group: BroadcastChannel, asks: { query: URLSearchParams; wasLive: boolean }, patience: Patience, onMessage: (message: Heard, link: LeaderLink) => void, onSilent: () => void) {
    this.#patience = patience;
    this.#onSilent = onSilent;
    const name = crypto.randomUUID();
    this.#channel = new BroadcastChannel(name);
    this.#channel.onmessage = ({ data }: MessageEvent<LeaderMessage>) => {
      this.#heardAt = performance.now();
      if (data.type !== "pong") onMessage(data, this);
    };
    group.postMessage({ type: "join", link: name, query: asks.query.toString(), wasLive: asks.wasLive } satisfies GroupMessage);
    this.#heardAt = Number.NEGATIVE_INFINITY;
    this.#pingedAt = performance.now();
    this.#timer = setTimeout(() => this.#watch(), patience.answerMs);
  }

  /** So much of what came was dealt with: the other may send as much again. */
  taken(frames: number, size: number): void {
    this.#frames += frames;
    this.#size += size;
    if (this.#frames < TOLD_FRAMES && this.#size < TOLD_SIZE) return;
    this.#say({ type: "taken", frames: this.#frames, size: this.#size });
    this.#frames = this.#size = 0;
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#say({ type: "leaves" });
    this.#channel.onmessage = null;
    this.#channel.close();
  }

  // By an answer that does not come, never by the clock alone: timers of hidden pages and those of sleeping machines are late. The
  // other answers in a handler of messages, which is on time in a hidden page too.
  #watch(): void {
    const { silenceMs, answerMs } = this.#patience;
    const now = performance.now();
    const asked = this.#pingedAt > this.#heardAt;
    if (asked && now - this.#pingedAt >= answerMs) return this.#onSilent();
    if (!asked && now - this.#heardAt >= silenceMs) {
      this.#pingedAt = now;
      this.#say({ type: "ping" });
    }
    const due = this.#pingedAt > this.#heardAt ? this.#pingedAt + answerMs : this.#heardAt + silenceMs;
    this.#timer = setTimeout(() => this.#watch(), Math.max(due - now, 1));
    return undefined;
  }

  #say(message: FollowerMessage): void {
    this.#channel.postMessage(message);
  }
}
