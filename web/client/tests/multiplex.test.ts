// Subscriptions to several feeds over one WebSocket: each gets what it would get over its own.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { subscribe, type SubscribeOptions } from "../src/index.js";
import { Daemon, daemonBinary } from "./harness/daemon.js";
import { Ledger, QUICK, until } from "./harness/ledger.js";
import { rows, ScriptedFeed } from "./harness/scripted-feed.js";

const opened: Array<{ close(): void }> = [];
const numbers = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, index) => first + index);

afterEach(() => {
  for (const each of opened.splice(0)) each.close();
});

function follow(url: string, options: SubscribeOptions = {}): Ledger {
  const ledger = new Ledger(url, { multiplex: true, ...options });
  opened.push(ledger.subscription);
  return ledger;
}

describe.skipIf(daemonBinary() === null)("with the daemon", () => {
  let daemon: Daemon;
  let config: string;

  beforeEach(async () => {
    daemon = new Daemon();
    config = join(daemon.directory, "walcast.toml");
    const feeds = `[feeds.remediation]\ntable = "remediation_events"\nmessage = { type = "remediation_event", body = "event" }\ncreate = true\n[feeds.other]\ntable = "remediation_events"\n`;
    writeFileSync(config, feeds);
  });

  afterEach(() => daemon.remove());

  const start = (...more: string[]) => daemon.start("--config", config, ...more);
  const other = () => daemon.url.replace("remediation", "other");
  const some = (first: number, last: number) => numbers(first, last).map((n) => ({ alertname: `a${n}`, tenant: n % 2 ? "odd" : "even" }));

  async function metric(name: string): Promise<number> {
    const text = await (await fetch(`${daemon.http}/metrics`)).text();
    return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1] ?? 0);
  }

  async function sockets(count: number): Promise<void> {
    let seen = -1;
    for (let tries = 0; tries < 2_000 && seen !== count; tries += 1) seen = await metric("walcast_ws_connections_active");
    expect(seen).toBe(count);
  }

  test("feeds, filters and beginnings share one, and each row comes once and in order", async () => {
    await start();
    daemon.insert(...some(1, 10));
    const all = follow(daemon.url, { since: "earliest" });
    const odd = follow(daemon.url, { last: 2, filters: { tenant: ["odd", "none"] } });
    const later = follow(other());
    for (const each of [all, odd, later]) await each.state("live");
    await sockets(1);
    daemon.insert(...some(11, 20));
    await all.count(20);
    await odd.count(7);
    await later.count(10);
    expect([all.ids, odd.ids, later.ids]).toEqual([numbers(1, 20), [7, 9, 11, 13, 15, 17, 19], numbers(11, 20)]);
    expect(all.events[0]!.row).toMatchObject({ id: 1, alertname: "a1", tenant: "odd" });
    expect(all.subscription.status.transport).toBe("websocket");
    odd.subscription.close();
    later.subscription.close();
    daemon.insert(...some(21, 21));
    await all.count(21);
    await sockets(1);
    all.subscription.close();
    await sockets(0);
  });

  test("each resumes where it was over kills and restarts", async () => {
    await start();
    const ledgers = [follow(daemon.url, { since: "earliest" }), follow(other(), { since: "earliest", filters: { tenant: "odd" } })];
    for (const each of ledgers) await each.state("live");
    for (const [round, signal] of (["SIGKILL", "SIGTERM"] as const).entries()) {
      const base = round * 20;
      daemon.insert(...some(base + 1, base + 10));
      await daemon.stop(signal);
      await ledgers[0]!.state("polling");
      daemon.insert(...some(base + 11, base + 20));
      await start();
      for (const each of ledgers) await each.state("live");
    }
    await ledgers[0]!.count(40);
    await ledgers[1]!.count(20);
    expect(ledgers.map(({ ids }) => ids)).toEqual([numbers(1, 40), numbers(1, 40).filter((n) => n % 2)]);
    expect(ledgers.flatMap(({ resets }) => resets)).toEqual([]);
  });

  test("what is refused has the server's words, and the others go on", async () => {
    await start();
    const good = follow(other());
    await good.state("live");
    const wrong = follow(daemon.url, { filters: { nope: 1 } });
    expect((await wrong.error("bad_request")).message).toContain('there is no column "nope"');
    await wrong.state("refused");
    const unknown = follow(daemon.url.replace("remediation", "nowhere"));
    expect((await unknown.error("unknown_feed")).message).toContain("nowhere");
    daemon.insert(...some(1, 1));
    await good.count(1);
    expect(good.errors).toEqual([]);
  });

  test("beyond what a socket holds, and for what is too long for a message, there are others", async () => {
    await start("--max-subscriptions", "1");
    const first = follow(daemon.url);
    await first.state("live");
    const second = follow(other());
    const long = follow(daemon.url, { filters: { tenant: numbers(1, 500).map((n) => `tenant-${n}`) } });
    for (const each of [second, long]) await each.state("live");
    await sockets(3);
    daemon.insert({ tenant: "tenant-7" });
    for (const each of [first, second, long]) await each.count(1);
  });

  test("one whose consumer is slow lets go of its share, and the others go on", async () => {
    await start();
    const live = follow(other());
    await live.state("live");
    const slow = subscribe(daemon.url, { WebSocket, timing: QUICK, multiplex: true, since: "earliest" });
    opened.push(slow);
    await until(() => slow.status.state === "live", () => "live");
    daemon.insert(...some(1, 3_000));
    await live.count(3_000);
    await until(() => slow.status.state === "paused", () => "paused");
    await sockets(1);
    const taken: unknown[] = [];
    for await (const row of slow) {
      taken.push(row.id);
      if (taken.length === 3_000) break;
    }
    expect(taken).toEqual(numbers(1, 3_000));
    expect(live.ids).toEqual(numbers(1, 3_000));
  });

  test("a token that is revoked ends all that came with it, and no other", async () => {
    const options = await daemon.askForTokens();
    await daemon.start(...options);
    const [gone, stays] = [await daemon.token("add", "gone", "--feed", "other", "--feed", "remediation"), await daemon.token("add", "stays", "--feed", "other")];
    const ended = [follow(daemon.url, { token: gone }), follow(other(), { token: gone })];
    const kept = follow(other(), { token: stays });
    for (const each of [...ended, kept]) await each.state("live");
    await daemon.token("revoke", "gone");
    for (const each of ended) {
      await each.state("closed");
      expect(each.codes).toEqual(["token_refused"]);
    }
    const notGranted = follow(daemon.url, { token: stays });
    await notGranted.error("unknown_feed");
    daemon.insert(...some(1, 1));
    await kept.count(1);
    expect(kept.errors).toEqual([]);
  });
});

describe("with a server that has no such socket", () => {
  let feed: ScriptedFeed;

  beforeEach(async () => {
    feed = await new ScriptedFeed().start();
  });

  afterEach(() => feed.stop());

  test("each subscription has its own", async () => {
    feed.rows = rows(1, 3);
    const ledgers = [follow(feed.url, { since: 0 }), follow(feed.url.replace("remediation", "other"), { since: 0 })];
    for (const each of ledgers) await each.state("live");
    feed.insert(...rows(4, 5));
    for (const each of ledgers) await each.count(5);
    expect(ledgers.map(({ ids }) => ids)).toEqual([numbers(1, 5), numbers(1, 5)]);
    expect(ledgers.flatMap(({ codes }) => codes)).toEqual([]);
  });

  test("and where no WebSocket can be opened at all, the history", async () => {
    feed.refuseUpgrade = 400;
    feed.rows = rows(1, 3);
    const ledger = follow(feed.url, { since: 0 });
    await ledger.count(3);
    await ledger.state("polling");
  });
});
