// The frames a resumable subscription receives, from text to types. Knows no socket.
import { isId, type Id } from "./ids.js";

/** A row as the feed's table has it. NULL is `null`, BLOB a base64 string, an integer beyond ±(2^53−1) a string. */
export type Row = Record<string, unknown>;

export type Frame =
  /** `changes`: the rows are what happened to those of a table. `snapshot`: the table as it is comes first. */
  | { kind: "hello"; feed: string; key: string; epoch: string; head: Id; earliest: Id | null; since: Id; recovered: boolean; changes?: true; snapshot?: true }
  | { kind: "live"; id: Id }
  | { kind: "reset"; epoch: string; reason: string; head: Id; earliest: Id | null; snapshot?: true }
  /** `code` is the close code, where the transport has none of its own. */
  | { kind: "goodbye"; reconnectAfterMs: number; code: number | null }
  | { kind: "waiting"; reason: string; message: string }
  /** A row of a snapshot has no id: it is at no position. */
  | { kind: "row"; id: Id | null; row: Row; truncated: readonly string[] }
  /** Heartbeats, pongs and kinds that a later server may add: they only prove that the link is alive. */
  | { kind: "sign-of-life" };

/** A frame that is not of the protocol; `message` says in what way. */
export class MalformedFrame extends Error {}

/** `key` is the name of the cursor column as the hello gave it, null before the hello. */
export function parseFrame(data: unknown, key: string | null): Frame {
  if (typeof data !== "string") throw new MalformedFrame("a binary frame");
  if (data === "pong") return { kind: "sign-of-life" };
  const frame = parseObject(data);
  switch (frame.type) {
    case "hello":
      return {
        kind: "hello",
        feed: text(frame, "feed"),
        key: text(frame, "key"),
        epoch: text(frame, "epoch"),
        head: id(frame, "head"),
        earliest: frame.earliest === null ? null : id(frame, "earliest"),
        since: id(frame, "since"),
        recovered: frame.recovered === true,
        ...(frame.kind === "changes" && { changes: true }),
        ...(frame.snapshot === true && { snapshot: true }),
      };
    case "live":
      return { kind: "live", id: id(frame, "id") };
    case "reset":
      return {
        kind: "reset",
        epoch: text(frame, "epoch"),
        reason: text(frame, "reason"),
        head: id(frame, "head"),
        earliest: frame.earliest === null ? null : id(frame, "earliest"),
        ...(frame.snapshot === true && { snapshot: true }),
      };
    case "goodbye":
      return { kind: "goodbye", reconnectAfterMs: milliseconds(frame.reconnect_after_ms), code: typeof frame.code === "number" ? frame.code : null };
    case "waiting":
      return { kind: "waiting", reason: text(frame, "reason"), message: text(frame, "message") };
    case "heartbeat":
    case "pong":
      return { kind: "sign-of-life" };
  }
  return rowFrame(frame, key);
}

/** A control frame as the server would have written it. */
export function frameText({ kind, ...fields }: Extract<Frame, { kind: "hello" | "live" | "reset" | "waiting" }>): string {
  return JSON.stringify({ type: kind, ...fields });
}

// The key that holds the row is the server's choice, so the row is recognised as the one object in the frame.
function rowFrame(frame: Row, key: string | null): Frame {
  const row = Object.values(frame).find(isObject);
  if (!row) return { kind: "sign-of-life" };
  if (key === null) throw new MalformedFrame("a row before the hello");
  const inSnapshot = row.op === "r" && !(key in row);
  return { kind: "row", id: inSnapshot ? null : id(row, key), row, truncated: columnNames(frame.truncated) };
}

export function columnNames(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((name) => typeof name === "string") : [];
}

export function isObject(value: unknown): value is Row {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The JSON object in `source`. */
export function parseObject(source: string): Row {
  let value: unknown;
  try {
    value = JSON.parse(source);
  } catch {
    throw new MalformedFrame(`not JSON: ${excerpt(source)}`);
  }
  if (!isObject(value)) throw new MalformedFrame(`not a JSON object: ${excerpt(source)}`);
  return value;
}

/** The id in `holder[name]`. */
export function id(holder: Row, name: string): Id {
  const value = holder[name];
  if (!isId(value)) throw new MalformedFrame(`"${name}" is not an id: ${excerpt(JSON.stringify(value) ?? "missing")}`);
  return value;
}

function text(frame: Row, name: string): string {
  const value = frame[name];
  if (typeof value !== "string") throw new MalformedFrame(`"${name}" is not a string in a ${String(frame.type)} frame`);
  return value;
}

function milliseconds(value: unknown): number {
  return typeof value === "number" && value >= 0 ? value : 0;
}

// Enough to recognise a frame by in a log line.
function excerpt(source: string): string {
  return source.length > 80 ? `${source.slice(0, 80)}…` : source;
}
