// A feed server in memory that speaks the protocol, and departs from it where a test says so.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { WebSocketServer, type WebSocket } from "ws";

export interface ScriptedRow {
  id: number | string;
  [column: string]: unknown;
}

/** Takes over a connection: returns true when the usual conversation is not to follow. `attempt` counts from 1. */
export type Script = (socket: WebSocket, query: URLSearchParams, attempt: number) => boolean | undefined;

export class ScriptedFeed {
  rows: ScriptedRow[] = [];
  epoch = "first";
  earliest: number | null | undefined;
  /** "waiting" while the table is not there. */
  status = "open";
  script: Script = () => undefined;
  /** Whether pages of other origins may read answers. */
  allowsOrigins = true;
  /** Answers WebSocket upgrades with this status instead of upgrading. */
  refuseUpgrade: number | null = null;
  /** Answers history requests instead of the usual answer. */
  historyAnswer: { status: number; body: string; headers?: Record<string, string> } | null = null;
  readonly connections: Array<{ query: URLSearchParams; protocol: string }> = [];
  readonly historyRequests: Array<{ query: URLSearchParams; headers: IncomingMessage["headers"] }> = [];
  readonly received: string[] = [];
  readonly sockets = new Set<WebSocket>();
  #server: Server | null = null;
  #port = 0;

  get url(): string {
    return `ws://127.0.0.1:${this.#port}/ws/remediation`;
  }

  get head(): number | string {
    return this.rows.at(-1)?.id ?? 0;
  }

  async start(): Promise<this> {
    const websockets = new WebSocketServer({ noServer: true, handleProtocols: (offered) => (offered.has("walcast.v1") ? "walcast.v1" : false) });
    const server = createServer((request, response) => this.#answer(request, response));
    server.on("upgrade", (request, socket, head) => {
      // A client that is gone before its refusal was written.
      socket.on("error", () => {});
      if (this.refuseUpgrade !== null) return socket.end(`HTTP/1.1 ${this.refuseUpgrade} Refused\r\nContent-Length: 0\r\n\r\n`);
      websockets.handleUpgrade(request, socket, head, (websocket) => this.#converse(websocket, request));
      return undefined;
    });
    await new Promise<void>((resolve) => server.listen(this.#port, "127.0.0.1", resolve));
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
    return this;
  }

  /** Ends every connection without a close frame, as a killed process does. The port is kept for the next start. */
  async stop(): Promise<void> {
    for (const socket of this.sockets) socket.terminate();
    this.#server?.closeAllConnections();
    await new Promise((resolve) => (this.#server ? this.#server.close(resolve) : resolve(null)));
    this.#server = null;
  }

  /** Commits rows and sends them to who is connected. */
  insert(...rows: ScriptedRow[]): void {
    this.rows.push(...rows);
    for (const socket of this.sockets) for (const row of rows) socket.send(rowFrame(row));
  }

  broadcast(frame: object | string): void {
    for (const socket of this.sockets) socket.send(typeof frame === "string" ? frame : JSON.stringify(frame));
  }

  #converse(socket: WebSocket, request: IncomingMessage): void {
    const query = new URL(request.url!, "http://feed").searchParams;
    this.connections.push({ query, protocol: request.headers["sec-websocket-protocol"] ?? "" });
    socket.on("message", (data) => this.received.push(String(data)));
    socket.on("close", () => this.sockets.delete(socket));
    if (this.script(socket, query, this.connections.length)) return;
    this.greet(socket, query);
  }

  /** The usual conversation: hello, replay, live; pings are answered. */
  greet(socket: WebSocket, query: URLSearchParams): void {
    socket.on("message", (data) => String(data) === "ping" && socket.send("pong"));
    const epoch = query.get("epoch");
    const recovered = epoch === null || epoch === this.epoch;
    const last = Number(query.get("last") ?? 0);
    const asked = query.get("since") === "now" ? String(this.head) : (query.get("since") ?? "0");
    const since = !recovered ? "0" : last > 0 ? String(this.rows.at(-last - 1)?.id ?? 0) : asked;
    socket.send(JSON.stringify({ type: "hello", feed: "remediation", key: "id", epoch: this.epoch, head: this.head, earliest: this.#earliest(), since, recovered }));
    for (const row of this.rows) if (BigInt(row.id) > BigInt(since)) socket.send(rowFrame(row));
    socket.send(JSON.stringify({ type: "live", id: this.head }));
    this.sockets.add(socket);
  }

  #earliest(): number | string | null {
    return this.earliest !== undefined ? this.earliest : (this.rows[0]?.id ?? null);
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { pathname, searchParams: query } = new URL(request.url!, "http://feed");
    const json = (body: object): void => void response.setHeader("Content-Type", "application/json").end(JSON.stringify(body));
    if (this.allowsOrigins) {
      response.setHeader("Access-Control-Allow-Origin", request.headers.origin ?? "*");
      response.setHeader("Access-Control-Allow-Headers", "authorization, x-user-roles");
    }
    if (request.method === "OPTIONS") return void response.end();
    // This server has no streams.
    if (pathname.startsWith("/sse/")) return void response.writeHead(404).end();
    if (pathname === "/api/feeds") return json({ feeds: [{ name: "remediation", key: "id", epoch: this.epoch, head: this.head, earliest: this.#earliest(), status: this.status }] });
    this.historyRequests.push({ query, headers: request.headers });
    if (this.historyAnswer) {
      response.writeHead(this.historyAnswer.status, this.historyAnswer.headers).end(this.historyAnswer.body);
      return undefined;
    }
    const [after, before] = [query.get("after"), query.get("before")];
    const between = this.rows.filter(({ id }) => (!after || BigInt(id) > BigInt(after)) && (!before || BigInt(id) < BigInt(before)));
    const limit = Number(query.get("limit"));
    const items = (after ? between.slice(0, limit) : between.slice(-limit)).reverse();
    return json({ items, total: this.rows.length, head: this.head, epoch: this.epoch });
  }
}

export function rowFrame(row: ScriptedRow, more: object = {}): string {
  return JSON.stringify({ type: "remediation_event", event: row, ...more });
}

/** Rows with the ids from `first` to `last`. */
export function rows(first: number, last: number): ScriptedRow[] {
  return Array.from({ length: last - first + 1 }, (_, index) => ({ id: first + index, ts: "2026-01-01T00:00:00Z", alertname: null }));
}
