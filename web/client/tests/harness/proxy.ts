// A reverse proxy with moods.
import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { connect, type AddressInfo, type Socket } from "node:net";

export class MoodyProxy {
  /** Whether it lets WebSockets through; else it answers 400, as one does that was not told of them. */
  upgrades = true;
  /** Whether it answers everything with 502. */
  broken = false;
  /** Paths of the requests that went through. */
  readonly passed: string[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #target: URL;
  readonly #server: Server;

  constructor(target: string) {
    this.#target = new URL(target);
    this.#server = createServer((incoming, response) => this.#forward(incoming, response));
    this.#server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket)).on("error", () => {});
    });
    this.#server.on("upgrade", (incoming: IncomingMessage, socket: Socket, head: Buffer) => this.#upgrade(incoming, socket, head));
  }

  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return this;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/ws/remediation`;
  }

  /** Breaks every connection there is. */
  drop(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  stop(): void {
    this.drop();
    this.#server.close();
  }

  #forward(incoming: IncomingMessage, response: ServerResponse): void {
    if (this.broken) return void response.writeHead(502).end("<h1>Bad Gateway</h1>");
    this.passed.push(incoming.url!);
    const { hostname, port } = this.#target;
    const headers = { ...incoming.headers, host: this.#target.host };
    const outgoing = request({ hostname, port, method: incoming.method, path: incoming.url, headers }, (answer) => {
      response.writeHead(answer.statusCode!, answer.headers);
      answer.pipe(response);
      answer.on("error", () => response.destroy());
    });
    outgoing.on("error", () => (response.headersSent ? response.destroy() : response.writeHead(502).end()));
    response.on("close", () => outgoing.destroy());
    incoming.pipe(outgoing);
  }

  #upgrade(incoming: IncomingMessage, socket: Socket, head: Buffer): void {
    if (this.broken || !this.upgrades) return void socket.end(`HTTP/1.1 ${this.broken ? 502 : 400} No\r\nContent-Length: 0\r\n\r\n`);
    this.passed.push(incoming.url!);
    const upstream = connect(Number(this.#target.port), this.#target.hostname);
    const lines = incoming.rawHeaders.flatMap((name, index, all) => (index % 2 ? [] : [`${name}: ${name.toLowerCase() === "host" ? this.#target.host : all[index + 1]}`]));
    upstream.write(`GET ${incoming.url} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`);
    upstream.write(head);
    socket.pipe(upstream).pipe(socket);
    upstream.on("error", () => socket.destroy());
    socket.on("close", () => upstream.destroy());
    upstream.on("close", () => socket.destroy());
  }
}
