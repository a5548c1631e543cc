// One WebSocket from opening to its end: the token it presents, the watch over a silent link. Knows nothing of what is said on it.
import type { ConnectionEnd } from "./connection.js";
import type { Target } from "./options.js";

/** How a socket ended: by whichever side. */
export type LinkEnd = Pick<ConnectionEnd, "code" | "reason" | "cause">;

export interface LinkHooks {
  readonly opened?: () => void;
  readonly received: (data: unknown) => void;
  /** Called once, and nothing after it. */
  readonly ended: (end: LinkEnd) => void;
}

/** A subprotocol is an HTTP token; a bearer token with other characters can't be one. */
const HTTP_TOKEN = /^[\w!#$%&'*+\-.^`|~]+$/;

export class Link {
  readonly #target: Target;
  readonly #hooks: LinkHooks;
  readonly #socket: InstanceType<Target["WebSocket"]>;
  #timer: ReturnType<typeof setTimeout>;
  #lastFrameAt = 0;
  #pingedAt = 0;
  #over = false;

  /** Opens a socket; `protocol` is offered where a token is presented, or always where it has to be spoken. */
  constructor(target: Target, url: URL, [protocol, always]: readonly [protocol: string, always: boolean], token: string | null, hooks: LinkHooks) {
    this.#target = target;
    this.#hooks = hooks;
    const protocols = offered(url, protocol, always, token);
    // An empty list is passed as none: a server that picks no subprotocol must not be offered any.
    const socket = protocols.length > 0 ? new target.WebSocket(url.href, protocols) : new target.WebSocket(url.href);
    this.#socket = socket;
    this.#timer = setTimeout(() => this.end({ code: 1006, reason: "", cause: "connect_timeout" }), target.timing.connectTimeoutMs);
    socket.onopen = () => hooks.opened?.();
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => this.end({ code: event.code ?? 1006, reason: event.reason ?? "" });
    socket.onerror = () => {};
  }

  send(text: string): void {
    this.#socket.send(text);
  }

  /** It speaks as it should: from now on silence is watched. */
  established(): void {
    this.#watchIn(this.#target.timing.heartbeatMs);
  }

  end(how: LinkEnd): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    const socket = this.#socket;
    socket.onopen = socket.onmessage = socket.onclose = null;
    // Stays, because the ws package throws an error that nobody listens to.
    socket.onerror = () => {};
    socket.close(1000);
    this.#hooks.ended(how);
  }

  // A link counts as dead only when a ping went unanswered, never by the clock alone: a machine that slept
  // and a hidden tab whose timers are held back both see long silences on links that live.
  #watch(): void {
    const { heartbeatMs, pongTimeoutMs } = this.#target.timing;
    const now = performance.now();
    if (this.#pingedAt > this.#lastFrameAt && now - this.#pingedAt >= pongTimeoutMs) return this.end({ code: 1006, reason: "", cause: "dead_link" });
    if (this.#pingedAt <= this.#lastFrameAt && now - this.#lastFrameAt >= heartbeatMs) {
      this.#pingedAt = now;
      this.send("ping");
    }
    const due = this.#pingedAt > this.#lastFrameAt ? this.#pingedAt + pongTimeoutMs : this.#lastFrameAt + heartbeatMs;
    return this.#watchIn(due - now);
  }

  #watchIn(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#watch(), Math.max(ms, 1));
  }

  #receive(data: unknown): void {
    if (this.#pingedAt > this.#lastFrameAt) this.#watchIn(this.#target.timing.heartbeatMs);
    this.#lastFrameAt = performance.now();
    this.#hooks.received(data);
  }
}

// A subprotocol keeps the token out of addresses and so out of logs; the parameter is left for tokens that can't be one.
function offered(url: URL, protocol: string, always: boolean, token: string | null): string[] {
  if (token !== null && HTTP_TOKEN.test(token)) return [protocol, `walcast.bearer.${token}`];
  if (token !== null) url.searchParams.set("token", token);
  return always ? [protocol] : [];
}
