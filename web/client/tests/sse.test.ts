// Server-sent events as the way between WebSocket and history: behind proxies that let no WebSocket through.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { SubscribeOptions } from "../src/index.js";
import { EventParser, EventTooLarge } from "../src/server-sent-events.js";
import { Daemon, daemonBinary } from "./harness/daemon.js";
import { Ledger, until } from "./harness/ledger.js";
import { MoodyProxy } from "./harness/proxy.js";

describe.skipIf(daemonBinary() === null)("behind a proxy, with the daemon", () => {
  let daemon: Daemon;
  let proxy: MoodyProxy;
  const opened: Array<{ close(): void }> = [];

  beforeEach(async () => {
    daemon = new Daemon();
  });
  afterEach(async () => {
    for (const each of opened.splice(0)) each.close();
    proxy.stop();
    await daemon.remove();
  });

  async function start(...options: string[]): Promise<void> {
    await daemon.start(...options);
    proxy = await new MoodyProxy(daemon.http).start();
  }

  function follow(options: SubscribeOptions = {}): Ledger {
    const ledger = new Ledger(proxy.url, options);
    opened.push(ledger.subscription);
    return ledger;
  }

  const some = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, index) => ({ alertname: `a${first + index}`, tenant: index % 2 ? "odd" : "even" }));
  const numbers = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, index) => first + index);
  const by = (ledger: Ledger, transport: string) =>
    until(() => ledger.subscription.status.state === "live" && ledger.subscription.status.transport === transport, () => `live by ${transport}; ${JSON.stringify(ledger.statuses.at(-1))} ${ledger.log.slice(-9).join()}`);

  // With so long a pace the WebSocket is not tried again while the test runs.
  const PATIENT = { timing: { pollIntervalMs: 600_000 } };

  test("that refuses upgrades: live over SSE, rows as stored", async () => {
    await start();
    proxy.upgrades = false;
    const hostile = { alertname: '<script>"\'&\n\r\u0000', tenant: "𝕬é\u2028", action: "data: x\n\nid: 7", status: "", details: null };
    daemon.insert(...some(1, 3));
    const ledger = follow({ since: "earliest", ...PATIENT });
    await by(ledger, "sse");
    daemon.insert(hostile);
    await ledger.count(4);
    expect(ledger.events[3]!.row).toEqual({ id: 4, ts: "2026-01-01T00:00:00Z", ...hostile });
    expect(ledger.events.map(({ meta }) => [meta.via, meta.replay])).toEqual([["sse", true], ["sse", true], ["sse", true], ["sse", false]]);
    expect([ledger.ids, ledger.codes]).toEqual([[1, 2, 3, 4], []]);
    expect(proxy.passed.filter((path) => path.startsWith("/api/"))).toEqual([]);
  });

  test("that loses its connections: each row once and in order", async () => {
    await start();
    proxy.upgrades = false;
    const ledger = follow({ since: "earliest" });
    for (let round = 0; round < 5; round += 1) {
      daemon.insert(...some(round * 20 + 1, round * 20 + 10));
      proxy.drop();
      daemon.insert(...some(round * 20 + 11, round * 20 + 20));
      await ledger.count((round + 1) * 20);
      await by(ledger, "sse");
    }
    await daemon.stop("SIGKILL");
    daemon.insert(...some(101, 105));
    await daemon.start();
    await by(ledger, "sse");
    await daemon.stop("SIGTERM");
    daemon.insert(...some(106, 110));
    await daemon.start();
    await ledger.count(110);
    expect(ledger.ids).toEqual(numbers(1, 110));
    expect(ledger.resets).toEqual([]);
  });

  test("that lets WebSockets through later: back to them without losing a row", async () => {
    await start();
    proxy.upgrades = false;
    const ledger = follow({ since: "earliest" });
    await by(ledger, "sse");
    daemon.insert(...some(1, 10));
    await ledger.count(10);
    proxy.upgrades = true;
    let written = 10;
    while (ledger.subscription.status.transport !== "websocket") {
      daemon.insert(...some(written + 1, (written += 5)));
      await ledger.count(written);
    }
    daemon.insert(...some(written + 1, (written += 5)));
    await ledger.count(written);
    expect(ledger.ids).toEqual(numbers(1, written));
    expect(ledger.events.at(-1)!.meta.via).toBe("socket");
    expect(ledger.statuses.some(({ state }) => state === "polling")).toBe(false);
    expect([ledger.codes, ledger.resets]).toEqual([[], []]);
  });

  test("that answers 502 for a while: told, and back as soon as it works", async () => {
    await start();
    proxy.upgrades = false;
    daemon.insert(...some(1, 2));
    const ledger = follow({ since: "earliest" });
    await by(ledger, "sse");
    proxy.broken = true;
    proxy.drop();
    expect((await ledger.error("server_error")).message).toContain("502");
    expect(ledger.subscription.status).toMatchObject({ state: "polling", transport: "polling" });
    daemon.insert(...some(3, 5));
    proxy.broken = false;
    await by(ledger, "sse");
    daemon.insert(...some(6, 6));
    await ledger.count(6);
    expect(ledger.ids).toEqual(numbers(1, 6));
  });

  test("the newest rows that match; and another history is told", async () => {
    await start();
    proxy.upgrades = false;
    daemon.insert(...some(1, 9));
    const ledger = follow({ last: 2, filters: { tenant: "odd" } });
    await by(ledger, "sse");
    expect(ledger.ids).toEqual([6, 8]);
    daemon.removeDatabase();
    daemon.insert({ alertname: "second", tenant: "odd" });
    await until(() => ledger.events.at(-1)!.row.alertname === "second", () => `the new history; ${ledger.log.join()}`);
    expect(ledger.resets.length).toBe(1);
  });

  test("shared by all subscriptions of a page", async () => {
    await start();
    proxy.upgrades = false;
    const ledgers = [1, 2, 3].map(() => follow({ share: "page", ...PATIENT }));
    for (const ledger of ledgers) await by(ledger, "sse");
    daemon.insert(...some(1, 3));
    for (const ledger of ledgers) await ledger.count(3);
    expect(proxy.passed.length).toBe(1);
  });

  test("a token that expires, and one that is revoked", async () => {
    await start(...(await daemon.askForTokens()));
    proxy.upgrades = false;
    const soon = new Date(Date.now() + 4_000).toISOString().replace(/\.\d+Z/, "Z");
    let current = await daemon.token("add", "first-one", "--feed", "remediation", "--expires", soon);
    let asked = 0;
    const token = async () => ((asked += 1) === 2 ? (current = await daemon.token("add", "second-one", "--feed", "remediation")) : current);
    const ledger = follow({ since: "earliest", token, ...PATIENT });
    await by(ledger, "sse");
    daemon.insert(...some(1, 2));
    await until(() => asked >= 2, () => "the token's end");
    await by(ledger, "sse");
    daemon.insert(...some(3, 4));
    await ledger.count(4);
    expect([ledger.ids, ledger.codes]).toEqual([[1, 2, 3, 4], []]);
    await daemon.token("revoke", "second-one");
    expect(await ledger.error("token_refused")).toMatchObject({ fatal: true });
  });

  test("not where it was switched off", async () => {
    await start();
    proxy.upgrades = false;
    daemon.insert(...some(1, 2));
    const ledger = follow({ since: "earliest", sseUrl: false });
    await ledger.count(2);
    expect(ledger.subscription.status).toMatchObject({ state: "polling", transport: "polling" });
    expect(ledger.events.every(({ meta }) => meta.via === "history")).toBe(true);
  });
});

describe("the text of a stream", () => {
  const STREAM = 'retry: 2000\nevent: hello\nid: e:1\ndata: {"a":1}\n\n:\n:\nid: e:2\ndata: b\ndata:c\r\n\r\nid: e:3\n\ndata: d\r\rdata\n\n';

  test.each([1, 2, 3, 7, 1_000])("in pieces of %i characters", (size) => {
    const parser = new EventParser();
    const found: string[] = [];
    for (let at = 0; at < STREAM.length; at += size) found.push(...parser.take(STREAM.slice(at, at + size)));
    expect(found).toEqual(['{"a":1}', "b\nc", "d"]);
  });

  test("an event without an end is given up", () => {
    const parser = new EventParser();
    const piece = `data: ${"x".repeat(1024 * 1024)}`;
    expect(() => {
      for (let taken = 0; taken < 20; taken += 1) parser.take(piece);
    }).toThrow(EventTooLarge);
  });
});
