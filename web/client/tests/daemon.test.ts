// The subscription against the real daemon and a real writer.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import type { SubscribeOptions } from "../src/index.js";
import { Daemon, daemonBinary } from "./harness/daemon.js";
import { Ledger, until } from "./harness/ledger.js";

describe.skipIf(daemonBinary() === null)("with the daemon", () => {
  let daemon: Daemon;
  const opened: Array<{ close(): void }> = [];

  beforeEach(async () => {
    daemon = await new Daemon().start();
  });

  afterEach(async () => {
    for (const each of opened.splice(0)) each.close();
    await daemon.remove();
  });

  function follow(options: SubscribeOptions = {}, url = daemon.url): Ledger {
    const ledger = new Ledger(url, options);
    opened.push(ledger.subscription);
    return ledger;
  }

  const named = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, index) => ({ alertname: `a${first + index}` }));
  const numbers = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, index) => first + index);

  test("new rows, exactly as stored", async () => {
    const ledger = follow();
    await ledger.state("live");
    const hostile = { alertname: '<script>"\'&\n\u0000', tenant: "𝕬é\u2028", action: null, status: "", details: null };
    daemon.insert(hostile);
    await ledger.count(1);
    expect(ledger.events[0]!.row).toEqual({ id: 1, ts: "2026-01-01T00:00:00Z", ...hostile });
  });

  test("each row once and in order over kills, restarts and outages", async () => {
    const ledger = follow({ since: "earliest" });
    await ledger.state("live");
    for (const [round, signal] of (["SIGKILL", "SIGTERM", "SIGKILL"] as const).entries()) {
      const base = round * 40;
      daemon.insert(...named(base + 1, base + 10));
      await daemon.stop(signal);
      await ledger.state("polling");
      daemon.insert(...named(base + 11, base + 30));
      await daemon.start();
      await ledger.state("live");
      daemon.insert(...named(base + 31, base + 40));
      await ledger.count(base + 40);
    }
    expect(ledger.ids).toEqual(numbers(1, 120));
    expect(ledger.resets).toEqual([]);
  });

  test("from the history while no WebSocket comes through, and back", async () => {
    let passed = false;
    class Blocked extends WebSocket {
      constructor(url: string, protocols?: string[]) {
        super(passed ? url : url.replace("/ws/", "/blocked/"), protocols);
      }
    }
    daemon.insert(...named(1, 600));
    const ledger = follow({ since: "earliest", WebSocket: Blocked, sseUrl: false });
    await ledger.count(600);
    expect((await ledger.error("socket_refused")).message).toContain("answers, but opens no WebSocket");
    daemon.insert(...named(601, 605));
    await ledger.count(605);
    expect(ledger.events.every(({ meta }) => meta.via === "history")).toBe(true);
    passed = true;
    await ledger.state("live");
    daemon.insert(...named(606, 607));
    await ledger.count(607);
    expect(ledger.ids).toEqual(numbers(1, 607));
    expect(ledger.resets).toEqual([]);
  });

  test("rows pruned while polling are told", async () => {
    class Blocked extends WebSocket {
      constructor(url: string) {
        super(url.replace("/ws/", "/blocked/"));
      }
    }
    daemon.insert(...named(1, 5));
    const ledger = follow({ since: 2, WebSocket: Blocked, sseUrl: false });
    await ledger.count(3);
    daemon.write([["DELETE FROM remediation_events"], ["INSERT INTO remediation_events (ts) VALUES ('x'), ('y'), ('z')"], ["DELETE FROM remediation_events WHERE id < 8"]]);
    await until(() => ledger.resets.length > 0, () => "a reset");
    await ledger.count(4);
    expect(ledger.resets).toEqual([expect.objectContaining({ reason: "pruned", earliest: 8 })]);
    expect(ledger.ids.at(-1)).toBe(8);
  });

  test("the newest rows that match, filters on all ways", async () => {
    daemon.insert({ tenant: "a" }, { tenant: "b" }, { tenant: "a" }, { tenant: "c" }, { tenant: "a" });
    const ledger = follow({ last: 2, filters: { tenant: ["a", "b"] } });
    await ledger.state("live");
    expect(ledger.ids).toEqual([3, 5]);
    daemon.insert({ tenant: "c" }, { tenant: "b" });
    await ledger.count(3);
    expect(ledger.ids).toEqual([3, 5, 7]);
  });

  test("a replaced database, running and stopped", async () => {
    daemon.insert(...named(1, 3));
    const ledger = follow({ since: "earliest" });
    await ledger.count(3);
    await ledger.state("live");
    daemon.removeDatabase();
    daemon.insert({ alertname: "second" });
    await until(() => ledger.events.at(-1)!.row.alertname === "second", () => `the new history; ${ledger.log.join()}`);
    expect(ledger.resets.length).toBe(1);
    await ledger.state("live");

    await daemon.stop();
    daemon.removeDatabase();
    daemon.insert({ alertname: "third", ts: "2026-02-02T00:00:00Z" });
    await daemon.start();
    await until(() => ledger.events.at(-1)!.row.alertname === "third", () => `the third history; ${ledger.log.join()}`);
    expect(ledger.resets.length).toBe(2);
    expect(ledger.log.filter((entry) => /^(row|reset)/.test(entry)).map((entry) => entry.split(" ")[0])).toEqual(["row", "row", "row", "reset", "row", "reset", "row"]);
  });

  test("ids that a number can't hold", async () => {
    daemon.insert({ id: 1 });
    const ledger = follow({ since: "earliest" });
    await ledger.count(1);
    // As text, because JSON on the writer's way would round it; SQLite makes an integer of it.
    daemon.insert({ id: "9007199254740993" });
    await ledger.count(2);
    expect(ledger.ids).toEqual([1, "9007199254740993"]);
    await daemon.stop("SIGKILL");
    daemon.insert({ alertname: "next" });
    await daemon.start();
    await ledger.count(3);
    expect(ledger.ids[2]).toBe("9007199254740994");
    expect(ledger.resets).toEqual([]);
  });

  test("a position kept over the life of a page", async () => {
    daemon.insert(...named(1, 3));
    const first = follow({ since: "earliest" });
    await first.state("live");
    first.subscription.close();
    const { id, epoch } = first.subscription.position!;
    daemon.insert(...named(4, 5));
    const second = follow({ since: id, epoch });
    await second.state("live");
    expect(second.ids).toEqual([4, 5]);
    const foreign = follow({ since: id, epoch: "another" });
    await foreign.state("live");
    expect(foreign.ids).toEqual([1, 2, 3, 4, 5]);
    expect(foreign.resets).toEqual([expect.objectContaining({ reason: "epoch_changed", earliest: 1 })]);
  });

  test("a row too large for one message", async () => {
    const ledger = follow();
    await ledger.state("live");
    daemon.insert({ alertname: "x".repeat(2_000_000) });
    await ledger.count(1);
    expect((await ledger.error("row_truncated")).message).toContain("alertname");
  });

  test("an unknown feed and an unknown column, in the daemon's words", async () => {
    const feed = follow({}, `${daemon.http}/ws/nowhere`);
    expect((await feed.error("unknown_feed")).message).toMatch(/refuses: /);
    const column = follow({ filters: { colour: "red" } });
    expect((await column.error("bad_request")).message).toContain("alertname");
  });

  test("an address without a feed, with the feeds there are", async () => {
    const feed = follow({}, daemon.http);
    expect((await feed.error("no_feed_named")).message).toContain("remediation (/ws/remediation)");
    expect(feed.subscription.status.state).toBe("closed");
  });

  test("a full server, until there is room", async () => {
    await daemon.stop();
    // Two, because the history's kept-alive connection counts beside the socket.
    await daemon.start("--max-connections", "2");
    const holders = [follow(), follow()];
    for (const holder of holders) await holder.state("live");
    const waiting = follow({ since: "earliest" });
    await waiting.error("at_capacity");
    daemon.insert(...named(1, 1));
    for (const holder of holders) {
      await holder.count(1);
      holder.subscription.close();
    }
    await waiting.state("live");
    expect(waiting.ids).toEqual([1]);
  });

  test("leaves no subscriber behind", async () => {
    const ledger = follow();
    await ledger.state("live");
    const subscribers = async () => (await (await fetch(`${daemon.http}/metrics`)).text()).match(/^walcast_ws_connections_active (\d+)/m)?.[1];
    expect(await subscribers()).toBe("1");
    ledger.subscription.close();
    await expect.poll(subscribers, { timeout: 90_000 }).toBe("0");
  });
});
