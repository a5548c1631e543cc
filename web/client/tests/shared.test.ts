// Subscriptions that share one connection: each gets what it would get over its own.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { subscribe, type SubscribeOptions } from "../src/index.js";
import { Ledger, QUICK, until } from "./harness/ledger.js";
import { rowFrame, rows, ScriptedFeed } from "./harness/scripted-feed.js";

let feed: ScriptedFeed;
const opened: Array<{ close(): void }> = [];

beforeEach(async () => {
  feed = await new ScriptedFeed().start();
});

afterEach(async () => {
  for (const each of opened.splice(0)) each.close();
  await feed.stop();
});

function follow(options: SubscribeOptions = {}): Ledger {
  const ledger = new Ledger(feed.url, { share: "page", ...options });
  opened.push(ledger.subscription);
  return ledger;
}

const numbers = (first: number, last: number) => rows(first, last).map(({ id }) => id);
const oneSocket = () => until(() => feed.sockets.size === 1, () => `one socket; there are ${feed.sockets.size}`);

describe("one connection", () => {
  test("for all that ask for the same, in whatever order the filters are given", async () => {
    const ledgers = [
      follow({ filters: { tenant: ["a", "b"], status: "x" } }),
      follow({ filters: { status: "x", tenant: ["b", "a"] } }),
      follow({ filters: { tenant: ["a", "b"], status: "x" } }),
    ];
    for (const ledger of ledgers) await ledger.state("live");
    feed.insert(...rows(1, 3));
    for (const ledger of ledgers) await ledger.count(3);
    for (const ledger of ledgers) expect(ledger.ids).toEqual([1, 2, 3]);
    expect(feed.connections.length).toBe(1);
  });

  test.each<[string, SubscribeOptions]>([
    ["filters", { filters: { tenant: "b" } }],
    ["headers", { headers: { "X-User-Roles": "ops" } }],
    ["token", { token: "another" }],
    ["token function", { token: () => "t" }],
    ["timing", { timing: { heartbeatMs: 19_000 } }],
    ["WebSocket", { WebSocket: class extends WebSocket {} }],
    ["sharing", { share: false }],
  ])("not with another %s", async (_, other) => {
    const first = follow({ token: "t" });
    await first.state("live");
    await follow({ token: "t", ...other }).state("live");
    expect(feed.connections.length).toBe(2);
  });

  test("of the page, where tabs can't share", async () => {
    for (const ledger of [follow({ share: "tabs" }), follow({ share: "tabs" })]) await ledger.state("live");
    expect(feed.connections.length).toBe(globalThis.navigator?.locks ? 2 : 1);
  });

  test("from the first hello on: new rows only", async () => {
    feed.rows = rows(1, 5);
    const [all, none] = [follow({ since: "earliest" }), follow()];
    for (const each of [all, none]) await each.state("live");
    feed.insert(...rows(6, 6));
    for (const each of [all, none]) await each.state("live");
    await none.count(1);
    expect([all.ids, none.ids]).toEqual([numbers(1, 6), [6]]);
    expect(feed.connections.length).toBe(1);
  });

  test("the newest rows, from those that another began with", async () => {
    feed.rows = rows(1, 9);
    const [five, three] = [follow({ last: 5 }), follow({ last: 3 })];
    for (const each of [five, three]) await each.state("live");
    const two = follow({ last: 2 });
    await two.state("live");
    expect([five.ids, three.ids, two.ids]).toEqual([numbers(5, 9), numbers(7, 9), numbers(8, 9)]);
    expect(two.events.every(({ meta }) => meta.replay && meta.epoch === "first")).toBe(true);
    expect(feed.connections.length).toBe(1);
  });

  test("more rows than the table has", async () => {
    feed.rows = rows(1, 3);
    await follow({ last: 10 }).state("live");
    const later = follow({ last: 50 });
    await later.state("live");
    expect(later.ids).toEqual([1, 2, 3]);
    expect(feed.connections.length).toBe(1);
  });

  test("a position among the recent rows", async () => {
    feed.rows = rows(1, 3);
    await follow({ since: 1, epoch: "first" }).state("live");
    const later = follow({ since: 2, epoch: "first" });
    await later.state("live");
    expect(later.ids).toEqual([3]);
    expect(feed.connections.length).toBe(1);
  });

  test("goes on when the one that opened it leaves, and ends with the last", async () => {
    const [first, second] = [follow(), follow()];
    for (const each of [first, second]) await each.state("live");
    first.subscription.close();
    feed.insert(...rows(1, 1));
    await second.count(1);
    expect(first.ids).toEqual([]);
    expect(feed.connections.length).toBe(1);
    second.subscription.close();
    await until(() => feed.sockets.size === 0, () => "the end");
    const third = follow();
    await third.state("live");
    expect(feed.connections.length).toBe(2);
  });

  test("what one does with a row is not seen by the others", async () => {
    const [first, second] = [follow({ onEvent: (row) => (row.id = "mine") }), follow()];
    for (const each of [first, second]) await each.state("live");
    feed.insert(...rows(1, 1));
    await second.count(1);
    expect(second.events[0]!.row).toEqual(rows(1, 1)[0]);
    const third = follow({ last: 1 });
    await third.count(1);
    expect(third.events[0]!.row).toEqual(rows(1, 1)[0]);
  });

  test("one whose consumer is slow lets go and comes back; the others go on", async () => {
    const live = follow();
    await live.state("live");
    const slow = subscribe(feed.url, { WebSocket, timing: QUICK, share: "page" });
    opened.push(slow);
    await until(() => slow.status.state === "live", () => "live");
    feed.insert(...rows(1, 3_000));
    await live.count(3_000);
    expect(slow.status.state).toBe("paused");
    const taken: unknown[] = [];
    for await (const row of slow) {
      taken.push(row.id);
      if (taken.length === 3_000) break;
    }
    expect(taken).toEqual(numbers(1, 3_000));
    expect(live.ids).toEqual(numbers(1, 3_000));
    expect(live.statuses.filter(({ state }) => state === "live").length).toBe(1);
  });
});

describe("further back than the recent rows", () => {
  test("it catches up over a connection of its own, joins, and misses nothing that is written meanwhile", async () => {
    feed.rows = rows(1, 50);
    const live = follow();
    await live.state("live");
    feed.script = (socket, query) => {
      feed.greet(socket, query);
      feed.insert(...rows(51, 53));
      return true;
    };
    const back = follow({ since: "earliest" });
    await back.count(53);
    await oneSocket();
    feed.insert(...rows(54, 55));
    for (const each of [live, back]) await until(() => each.ids.at(-1) === 55, () => "the last row");
    expect(back.ids).toEqual(numbers(1, 55));
    expect(live.ids).toEqual(numbers(51, 55));
    expect(feed.connections.map(({ query }) => query.get("since"))).toEqual(["now", "0"]);
    expect([back.codes, live.codes]).toEqual([[], []]);
  });

  test("a position of another history is the server's to judge", async () => {
    feed.rows = rows(1, 3);
    const live = follow();
    await live.state("live");
    const foreign = follow({ since: 2, epoch: "another" });
    await foreign.state("live");
    expect(foreign.resets).toEqual([expect.objectContaining({ reason: "epoch_changed" })]);
    expect(foreign.ids).toEqual([1, 2, 3]);
    await oneSocket();
    expect(live.resets).toEqual([]);
  });

  test("a position above all there is, too", async () => {
    feed.rows = rows(1, 3);
    await follow().state("live");
    feed.script = (socket) => {
      socket.send(JSON.stringify({ type: "hello", feed: "remediation", key: "id", epoch: "first", head: 3, earliest: 1, since: 0, recovered: false }));
      return true;
    };
    const above = follow({ since: 7, epoch: "first" });
    await until(() => above.resets.length > 0, () => "a reset");
    expect(above.resets[0]).toMatchObject({ reason: "above_head" });
  });
});

describe("when the connection fails", () => {
  test("all come back, from where the rows ended, over one", async () => {
    feed.rows = rows(1, 3);
    const ledgers = [follow({ since: "earliest" }), follow(), follow({ last: 2 })];
    for (const ledger of ledgers) await ledger.state("live");
    for (let round = 1; round <= 5; round += 1) {
      feed.insert(...rows(round * 10, round * 10 + 3));
      for (const socket of feed.sockets) socket.terminate();
      feed.rows.push(...rows(round * 10 + 4, round * 10 + 6));
      for (const ledger of ledgers) await until(() => ledger.ids.at(-1) === round * 10 + 6 && ledger.subscription.status.state === "live", () => ledger.log.slice(-9).join());
      await oneSocket();
    }
    const written = feed.rows.map(({ id }) => id);
    expect(ledgers.map(({ ids }) => ids)).toEqual([written, written.slice(3), written.slice(1)]);
  });

  test("a malformed frame is asked for again for all, then skipped by all", async () => {
    feed.script = (socket, query, attempt) => {
      feed.greet(socket, query);
      if (attempt <= 2) setTimeout(() => socket.send("{oops"), 50);
      return true;
    };
    const ledgers = [follow({ since: "earliest" }), follow({ since: "earliest" })];
    for (const ledger of ledgers) await until(() => ledger.errors.some(({ message }) => message.includes("skipped")), () => `a skip; ${ledger.log.join()}`);
    await oneSocket();
    feed.insert(...rows(1, 1));
    for (const ledger of ledgers) await ledger.count(1);
  });

  test("a final close code ends all", async () => {
    const ledgers = [follow(), follow()];
    for (const ledger of ledgers) await ledger.state("live");
    for (const socket of feed.sockets) socket.close(4504, "gone");
    for (const ledger of ledgers) expect(await ledger.error("feed_gone")).toMatchObject({ fatal: true });
  });

  test("an expired token: each asks for a fresh one", async () => {
    let current = "t1";
    const token = () => current;
    feed.script = (socket, query, attempt) => {
      if (attempt > 1) return false;
      feed.greet(socket, query);
      setTimeout(() => {
        current = "t2";
        socket.close(4401);
      }, 50);
      return true;
    };
    const ledgers = [follow({ token }), follow({ token })];
    for (const ledger of ledgers) await ledger.state("live");
    await until(() => feed.connections.length === 2, () => "the next connection");
    for (const ledger of ledgers) await ledger.state("live");
    await oneSocket();
    expect(feed.connections[1]!.protocol).toBe("walcast.v1,walcast.bearer.t2");
    expect(ledgers.flatMap(({ codes }) => codes)).toEqual([]);
  });
});

describe("another history", () => {
  const reset = { type: "reset", epoch: "second", reason: "database_replaced", head: 4, earliest: 1 };

  test("begins for all at once", async () => {
    feed.rows = rows(1, 3);
    const ledgers = [follow({ since: "earliest" }), follow()];
    for (const ledger of ledgers) await ledger.state("live");
    feed.epoch = "second";
    feed.rows = [];
    feed.broadcast(reset);
    feed.insert(...rows(1, 4));
    feed.broadcast({ type: "live", id: 4 });
    for (const ledger of ledgers) await until(() => ledger.ids.at(-1) === 4, () => "the new history");
    expect(ledgers.map(({ ids }) => ids)).toEqual([[1, 2, 3, 1, 2, 3, 4], [1, 2, 3, 4]]);
    expect(ledgers.map(({ resets }) => resets.length)).toEqual([1, 1]);
    const later = follow({ since: 2, epoch: "second" });
    await later.state("live");
    expect(later.ids).toEqual([3, 4]);
    expect(feed.connections.length).toBe(1);
  });

  test("of which the connection has the newest rows only: who is owed all gets all", async () => {
    feed.rows = rows(1, 3);
    const newest = follow({ last: 2 });
    await newest.state("live");
    const all = follow({ since: 2, epoch: "first" });
    await all.state("live");
    expect(feed.connections.length).toBe(1);
    feed.epoch = "second";
    feed.rows = rows(1, 4);
    feed.broadcast(reset);
    for (const row of rows(3, 4)) feed.broadcast(JSON.parse(rowFrame(row)));
    feed.broadcast({ type: "live", id: 4 });
    await until(() => all.ids.at(-1) === 4 && newest.ids.at(-1) === 4, () => `both; ${all.log.join()}`);
    expect(newest.ids).toEqual([2, 3, 3, 4]);
    expect(all.ids).toEqual([3, 1, 2, 3, 4]);
    await oneSocket();
    feed.insert(...rows(5, 5));
    for (const each of [newest, all]) await until(() => each.ids.at(-1) === 5, () => "the last row");
    expect([newest.resets.length, all.resets.length]).toEqual([1, 1]);
  });
});

test("nothing to read yet is told to all, and the rows come to all", async () => {
  feed.script = (socket, query) => {
    socket.send(JSON.stringify({ type: "waiting", reason: "no_table", message: "no table yet" }));
    // Until the first ping.
    socket.once("message", () => feed.greet(socket, query));
    return true;
  };
  const first = follow({ since: "earliest", timing: { heartbeatMs: 300 } });
  await first.state("waiting");
  const second = follow({ since: "earliest", timing: { heartbeatMs: 300 } });
  await second.state("waiting");
  for (const each of [first, second]) await each.state("live");
  feed.insert(...rows(1, 2));
  for (const each of [first, second]) await each.count(2);
  expect(feed.connections.length).toBe(1);
});

test("another history after there was nothing to read begins for those too that came meanwhile", async () => {
  feed.rows = rows(1, 3);
  const first = follow();
  await first.state("live");
  feed.broadcast({ type: "waiting", reason: "no_table", message: "no table any more" });
  await first.state("waiting");
  const second = follow();
  await second.state("waiting");
  feed.epoch = "second";
  feed.rows = [];
  feed.broadcast({ type: "reset", epoch: "second", reason: "table_recreated", head: 0, earliest: null });
  feed.broadcast({ type: "live", id: 0 });
  for (const each of [first, second]) await each.state("live");
  feed.insert(...rows(1, 2));
  for (const each of [first, second]) await each.count(2);
  const third = follow({ since: 1, epoch: "second" });
  await third.count(1);
  expect(feed.connections.length).toBe(1);
});

// Many short lives at random: whatever comes together, each ledger is a gapless piece of the table from where it began.
test.each([1, 2, 3, 4, 5, 6, 7, 8])("at random (%i)", async (seed) => {
  let state = seed * 7919;
  const random = (below: number): number => {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    return Math.floor((state / 2 ** 31) * below);
  };
  const members: Array<{ ledger: Ledger; begins: number | null }> = [];
  let next = 1;
  for (let step = 0; step < 120; step += 1) {
    const choice = random(10);
    if (choice < 5) feed.insert(...rows(next, (next += 1 + random(40)) - 1));
    else if (choice < 7) {
      const since = random(next);
      const begin = random(3);
      const options: SubscribeOptions = begin === 0 ? {} : begin === 1 ? { since, epoch: "first" } : { last: 1 + random(200) };
      members.push({ ledger: follow(options), begins: begin === 1 ? since : null });
    } else if (choice < 8) for (const socket of feed.sockets) socket.terminate();
    else if (choice < 9) members[random(members.length || 1)]?.ledger.subscription.close();
    else await new Promise((resolve) => setTimeout(resolve, random(30)));
  }
  const open = members.filter(({ ledger }) => ledger.subscription.status.state !== "closed");
  for (const { ledger } of open) await ledger.state("live");
  feed.insert(...rows(next, next));
  for (const { ledger } of open) await until(() => ledger.ids.at(-1) === next, () => `row ${next}: ${ledger.log.slice(-9).join()}`);
  for (const { ledger, begins } of members) {
    const { ids } = ledger;
    if (ids.length > 0) expect(ids).toEqual(numbers(Number(ids[0]), Number(ids.at(-1))));
    if (ids.length > 0 && begins !== null) expect(ids[0]).toBe(begins + 1);
    expect(ledger.resets).toEqual([]);
  }
});
