// Reading the history forward from a position, for as long as there is no socket.
import { describeFeed, PAGE_LIMIT, readHistory, type HistoryPage, type HistoryRow } from "./history.js";
import type { Delivery } from "./delivery.js";
import { FeedError } from "./errors.js";
import { belowAll, compareIds, type Id } from "./ids.js";
import type { Position, Target } from "./options.js";

/** Delivers every row above the position, or finds where to begin. Rejects with a FeedError; returns early when aborted or full. */
export async function catchUp<R extends object>(target: Target, delivery: Delivery<R>, feed: string | null, signal: AbortSignal): Promise<void> {
  if (delivery.key === null && feed !== null) delivery.key = (await describeFeed(target, feed, signal))?.key ?? null;
  const reader: Reader<R> = { target, delivery, feed, signal, key: delivery.key ?? "id" };
  if (delivery.position !== null) await follow(reader, delivery.position);
  else if (target.start === "now") await beginNow(reader);
  else await beginLast(reader, target.start.last);
  if (!signal.aborted && !delivery.isFull) delivery.caughtUp();
}

interface Reader<R extends object> {
  readonly target: Target;
  readonly delivery: Delivery<R>;
  readonly feed: string | null;
  readonly signal: AbortSignal;
  readonly key: string;
}

async function beginNow<R extends object>({ target, delivery, key, signal }: Reader<R>): Promise<void> {
  const page = await readHistory(target, { limit: 1 }, key, signal);
  delivery.advance(page.epoch, page.head);
}

async function beginLast<R extends object>({ target, delivery, key, signal }: Reader<R>, last: number): Promise<void> {
  let rows: HistoryRow[] = [];
  let size = 0;
  let epoch: string | null | undefined;
  let below: Id | undefined;
  while (rows.length < last) {
    const limit = Math.min(PAGE_LIMIT, last - rows.length);
    const page = await readHistory(target, below === undefined ? { limit } : { limit, before: below }, key, signal);
    if (epoch !== undefined && epoch !== page.epoch) throw new FeedError("server_error", "The history changed while it was read; reading again.");
    epoch = page.epoch;
    rows = [...page.rows, ...rows];
    size += page.size;
    below = rows[0]?.id;
    if (page.rows.length < limit) break;
  }
  // The position is known before the first row, so that each row carries its epoch. Below the lowest of them nothing was asked for.
  delivery.advance(epoch ?? null, below === undefined ? 0 : String(BigInt(below) - 1n));
  deliver(delivery, rows, size);
}

async function follow<R extends object>(reader: Reader<R>, from: Position): Promise<void> {
  const { target, delivery, key, signal } = reader;
  for (let position = from; !signal.aborted; position = delivery.position ?? position) {
    const page = await readHistory(target, { after: position.id, limit: PAGE_LIMIT }, key, signal);
    if (signal.aborted) return;
    if (position.epoch !== null && page.epoch !== null && position.epoch !== page.epoch) {
      delivery.reset({ reason: "epoch_changed", epoch: page.epoch, head: page.head, earliest: undefined }, 0);
      continue;
    }
    // Asked after the page was read: rows that went in between make a needless reset, never a silent gap.
    const earliest = await earliestIfPruned(reader, position, page);
    if (signal.aborted) return;
    if (earliest !== undefined) {
      delivery.reset({ reason: "pruned", epoch: page.epoch, head: page.head, earliest }, belowAll(earliest));
      continue;
    }
    delivery.advance(page.epoch, position.id);
    deliver(delivery, page.rows, page.size);
    if (page.rows.length < PAGE_LIMIT || delivery.isFull) return;
  }
}

function deliver<R extends object>(delivery: Delivery<R>, rows: readonly HistoryRow[], size: number): void {
  for (const row of rows) {
    if (delivery.isFull) return;
    delivery.accept({ ...row, via: "history", size: size / rows.length });
  }
}

/** The earliest id where rows above the position are gone, by the rule of the socket's `recovered`; undefined where none are. */
async function earliestIfPruned<R extends object>({ target, feed, signal }: Reader<R>, position: Position, page: HistoryPage): Promise<Id | null | undefined> {
  const since = BigInt(position.id);
  const first = page.rows[0]?.id;
  const gapless = first !== undefined ? BigInt(first) === since + 1n : compareIds(page.head, position.id) <= 0;
  if (since === 0n || gapless || page.epoch === null || feed === null) return undefined;
  const description = await describeFeed(target, feed, signal);
  if (description === null || description.epoch !== page.epoch) return undefined;
  const { earliest } = description;
  return earliest === null || since < BigInt(earliest) - 1n ? earliest : undefined;
}
