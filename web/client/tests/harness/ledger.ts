// A subscription that writes down everything it is told.
import { vi } from "vitest";
import { WebSocket } from "ws";
import { subscribe, type EventMeta, type FeedError, type FeedStatus, type Reset, type Row, type SubscribeOptions, type Subscription } from "../../src/index.js";

/** Quick enough for a test, in the same proportions as the defaults. */
export const QUICK = { heartbeatMs: 20_000, pongTimeoutMs: 10_000, connectTimeoutMs: 10_000, pollIntervalMs: 60, backoffMinMs: 10, backoffMaxMs: 40 };

export class Ledger {
  readonly events: Array<{ row: Row; meta: EventMeta }> = [];
  readonly statuses: FeedStatus[] = [];
  readonly resets: Reset[] = [];
  readonly errors: FeedError[] = [];
  /** Everything in the order it came. */
  readonly log: string[] = [];
  readonly subscription: Subscription;

  constructor(url: string, options: SubscribeOptions = {}) {
    this.subscription = subscribe(url, {
      WebSocket,
      ...options,
      timing: { ...QUICK, ...options.timing },
      onEvent: (row, meta) => {
        this.events.push({ row, meta });
        this.log.push(`row ${meta.id}`);
        options.onEvent?.(row, meta);
      },
      onStatus: (status) => {
        this.statuses.push(status);
        this.log.push(status.state);
      },
      onReset: (reset) => {
        this.resets.push(reset);
        this.log.push(`reset ${reset.reason}`);
      },
      onError: (error) => {
        this.errors.push(error);
        this.log.push(`error ${error.code}`);
      },
    });
  }

  get ids(): Array<number | string> {
    return this.events.map(({ meta }) => meta.id);
  }

  get codes(): string[] {
    return this.errors.map(({ code }) => code);
  }

  async state(state: FeedStatus["state"]): Promise<void> {
    await until(() => this.subscription.status.state === state, () => `state ${state}; ${this.log.join(", ")}`);
  }

  async error(code: string): Promise<FeedError> {
    await until(() => this.codes.includes(code), () => `error ${code}; ${this.log.join(", ")}`);
    return this.errors.find((error) => error.code === code)!;
  }

  async count(events: number): Promise<void> {
    await until(() => this.events.length >= events, () => `${events} events; there are ${this.events.length}: ${this.log.slice(-20).join(", ")}`);
  }
}

export async function until(condition: () => boolean, what: () => string): Promise<void> {
  const check = (): void => {
    if (!condition()) throw new Error(`waited for ${what()}`);
  };
  await vi.waitFor(check, { timeout: 90_000, interval: 5 });
}
