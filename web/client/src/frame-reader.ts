// What a connection does with the frames it brings, over whichever transport.
import type { ConnectionEnd, ConnectionHooks } from "./connection.js";
import type { Transport } from "./options.js";
import { MalformedFrame, parseFrame } from "./protocol.js";

/** How a connection is to end. */
export type Ending = Pick<ConnectionEnd, "code" | "cause">;

export const STOPPED: Ending = { code: 1000, cause: "stopped" };

export class FrameReader {
  /** Whether the server has said hello, or that it waits. */
  greeted = false;
  /** When a goodbye asked to come back. */
  reconnectAfterMs: number | undefined;
  #key: string | null = null;
  readonly #transport: Transport;
  readonly #hooks: ConnectionHooks;
  readonly #onGreeted: () => void;

  /** `onGreeted` is called before the hooks see a greeting. */
  constructor(transport: Transport, hooks: ConnectionHooks, onGreeted: () => void = () => {}) {
    this.#transport = transport;
    this.#hooks = hooks;
    this.#onGreeted = onGreeted;
  }

  /** Hands one frame on; returns how the connection is to end because of it, null where it goes on. */
  read(data: unknown): Ending | null {
    try {
      const frame = parseFrame(data, this.#key);
      if (frame.kind === "sign-of-life") return null;
      if (frame.kind === "goodbye") {
        this.reconnectAfterMs = frame.reconnectAfterMs;
        return frame.code === null ? null : { code: frame.code };
      }
      if (frame.kind === "hello") this.#key = frame.key;
      if (frame.kind === "hello" || frame.kind === "waiting") {
        this.greeted = true;
        this.#onGreeted();
      }
      return this.#hooks.onFrame(frame, data as string, this.#transport) ? null : STOPPED;
    } catch (error) {
      if (!(error instanceof MalformedFrame)) throw error;
      return this.#hooks.onMalformed(error) ? null : { code: 1006, cause: error };
    }
  }
}
