// The side of the tab that has the connection: hands what comes over it to the tabs that joined.
import type { ConnectionEnd } from "./connection.js";
import type { Transport } from "./options.js";
import type { SharedConnection } from "./shared-connection.js";
import { type FollowerMessage, type Join, type LeaderMessage, sentEnd } from "./tab-messages.js";

// What may be under way to a tab that takes nothing (frozen, or gone without a word). It comes back for the rest from where it stands.
// Above what the recent rows hold, which come in one piece.
const MAX_FRAMES = 4_000;
const MAX_SIZE = 16 * 1024 * 1024;

interface Link {
  readonly channel: BroadcastChannel;
  readonly query: URLSearchParams;
  readonly wasLive: boolean;
  joined: boolean;
  /** Sent and not yet taken. */
  frames: number;
  size: number;
}

export class TabLeader {
  readonly #shared: SharedConnection;
  readonly #links = new Set<Link>();

  constructor(shared: SharedConnection) {
    this.#shared = shared;
  }

  admit({ link: name, query, wasLive }: Join): void {
    const channel = new BroadcastChannel(name);
    const link: Link = { channel, query: new URLSearchParams(query), wasLive, joined: false, frames: 0, size: 0 };
    channel.onmessage = ({ data }: MessageEvent<FollowerMessage>) => {
      if (data.type === "ping") this.#send(link, { type: "pong" });
      else if (data.type === "leaves") this.#part(link, null);
      else {
        link.frames -= data.frames;
        link.size -= data.size;
      }
    };
    this.#links.add(link);
    this.#welcome(link);
  }

  /** A frame has come: to be told before this tab's own subscriptions, for who joins because of it gets it with its welcome. */
  pass(text: string, transport: Transport): void {
    for (const link of this.#links) if (link.joined) this.#send(link, { type: "frame", text, transport }, 1, text.length);
  }

  /** A frame was taken in that those who wait may have waited for. */
  moved(): void {
    for (const link of this.#links) if (!link.joined) this.#welcome(link);
  }

  skipped(message: string): void {
    for (const link of this.#links) if (link.joined) this.#send(link, { type: "malformed", message });
  }

  /** Serves no longer. The others are told how the connection ended, where that was none of this tab's own doing. */
  close(end: ConnectionEnd | null): void {
    const sent = end && sentEnd(end);
    for (const link of this.#links) this.#part(link, sent ? { type: "ended", end: sent } : { type: "dropped" });
  }

  #welcome(link: Link): void {
    const welcome = this.#shared.welcome(link.query, link.wasLive);
    if (welcome.kind === "apart") return this.#part(link, { type: "apart" });
    if (welcome.kind === "waits") return this.#send(link, { type: "wait", frame: welcome.frame, transport: welcome.transport });
    link.joined = true;
    const { frames, last, transport } = welcome;
    this.#send(link, { type: "joined", frames, last, transport }, frames.length, sizeOf(frames));
    return undefined;
  }

  #send(link: Link, message: LeaderMessage, frames = 0, size = 0): void {
    link.frames += frames;
    link.size += size;
    if (link.frames > MAX_FRAMES || link.size > MAX_SIZE) this.#part(link, { type: "dropped" });
    else link.channel.postMessage(message);
  }

  #part(link: Link, message: LeaderMessage | null): void {
    if (message) link.channel.postMessage(message);
    link.channel.close();
    this.#links.delete(link);
  }
}

/** In characters of all frames. */
export function sizeOf(frames: readonly string[]): number {
  return frames.reduce((sum, { length }) => sum + length, 0);
}
