// What tabs that share a connection say to each other. All have the same version of this, for the names of their channels say which.
import type { ConnectionEnd } from "./connection.js";
import type { Target, Transport } from "./options.js";
import { askedBy } from "./page-connections.js";
import { MalformedFrame } from "./protocol.js";

/** To be raised with any change of what is said. */
const VERSION = 1;

/** A tab without the connection wants what `query` asks for, and listens on the channel `link`. `wasLive`: it was, up to there. */
export interface Join {
  readonly type: "join";
  readonly link: string;
  readonly query: string;
  readonly wasLive: boolean;
}

/** To all of the group. */
export type GroupMessage =
  | Join
  /** This tab has the lease, and connects. */
  | { readonly type: "leads" };

/** From the tab with the connection, over a link. */
export type LeaderMessage =
  | { readonly type: "joined"; readonly frames: readonly string[]; readonly last: number | null; readonly transport: Transport }
  | { readonly type: "wait"; readonly frame: string | null; readonly transport: Transport }
  | { readonly type: "apart" }
  | { readonly type: "frame"; readonly text: string; readonly transport: Transport }
  | { readonly type: "malformed"; readonly message: string }
  | { readonly type: "ended"; readonly end: SentEnd }
  /** The link ends here: too much of what it carried was not taken, or another tab is to lead. */
  | { readonly type: "dropped" }
  | { readonly type: "pong" };

/** To the tab with the connection, over a link. */
export type FollowerMessage =
  | { readonly type: "ping" }
  /** So many characters of frames were taken since the last of these. */
  | { readonly type: "taken"; readonly frames: number; readonly size: number }
  | { readonly type: "leaves" };

/** How a connection ended, without its token. */
interface SentEnd extends Omit<ConnectionEnd, "token" | "cause"> {
  readonly cause?: "dead_link" | "connect_timeout" | { readonly malformed: string };
}

/** The end as it is told; null for one that was this tab's own doing, and is none to the others. */
export function sentEnd({ token: _, cause, ...end }: ConnectionEnd): SentEnd | null {
  if (cause === "stopped" || cause === "better_transport") return null;
  if (cause === undefined) return end;
  return { ...end, cause: cause instanceof MalformedFrame ? { malformed: cause.message } : cause };
}

export function receivedEnd({ cause, ...end }: SentEnd, token: string | null): ConnectionEnd {
  if (cause === undefined) return { ...end, token };
  return { ...end, token, cause: typeof cause === "string" ? cause : new MalformedFrame(cause.malformed) };
}

/** The name under which the tabs find each other that ask for the same with the same token; says nothing of either. */
export async function groupName(target: Target, token: string | null): Promise<string> {
  const asked = new TextEncoder().encode(JSON.stringify([askedBy(target), token]));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", asked));
  return `walcast-${VERSION}-${Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
