// The subscription against a server that departs from the protocol where a test says so.
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
  const ledger = new Ledger(feed.url, options);
  opened.push(ledger.subscription);
  return ledger;
}

describe("where it begins", () => {
  test("with new rows only, unless told otherwise", async () => {
    feed.rows = rows(1, 5);
    const ledger = follow();
    await ledger.state("live");
    feed.insert(...rows(6, 7));
    await ledger.count(2);
    expect(ledger.ids).toEqual([6, 7]);
    expect(feed.connections[0]!.query.toString()).toBe("since=now");
    expect(ledger.events.every(({ meta }) => !meta.replay && meta.via === "socket" && meta.epoch === "first")).toBe(true);
  });

  test("after an id, with its epoch", async () => {
    feed.rows = rows(1, 5);
    const ledger = follow({ since: 3n, epoch: "first" });
    await ledger.state("live");
    expect(ledger.ids).toEqual([4, 5]);
    expect(ledger.events[0]!.meta.replay).toBe(true);
    expect(ledger.subscription.position).toEqual({ epoch: "first", id: 5 });
  });

  test("with the newest rows", async () => {
    feed.rows = rows(1, 5);
    const ledger = follow({ last: 2 });
    await ledger.state("live");
    expect(ledger.ids).toEqual([4, 5]);
  });

  test("by the parameters of the address, filters among them", async () => {
    const ledger = new Ledger(`${feed.url}?since=0&tenant=a&tenant=b`, { filters: { status: ["x", 1] } });
    opened.push(ledger.subscription);
    await ledger.state("live");
    expect(feed.connections[0]!.query.toString()).toBe("tenant=a&tenant=b&status=x&status=1&since=0");
  });

  test("from the history, when there is no socket at first", async () => {
    feed.rows = rows(1, 5);
    feed.refuseUpgrade = 503;
    const ledger = follow({ last: 2 });
    await ledger.count(2);
    expect(ledger.ids).toEqual([4, 5]);
    expect(ledger.events[0]!.meta).toMatchObject({ via: "history", epoch: "first", replay: true });
    feed.rows.push(...rows(6, 6));
    await ledger.count(3);
    expect(ledger.events[2]!.meta).toMatchObject({ id: 6, via: "history", replay: false });
    feed.refuseUpgrade = null;
    await ledger.state("live");
    feed.insert(...rows(7, 7));
    await ledger.count(4);
    expect(ledger.ids).toEqual([4, 5, 6, 7]);
  });

  test("now, when there is no socket at first: rows before are not delivered", async () => {
    feed.rows = rows(1, 5);
    feed.refuseUpgrade = 503;
    const ledger = follow();
    await until(() => ledger.subscription.position !== null, () => "a position");
    feed.rows.push(...rows(6, 6));
    await ledger.count(1);
    expect(ledger.ids).toEqual([6]);
  });
});

describe("once and in order", () => {
  test("over kills, polling and restarts", async () => {
    const ledger = follow({ since: "earliest" });
    await ledger.state("live");
    for (let round = 0; round < 5; round += 1) {
      feed.insert(...rows(round * 30 + 1, round * 30 + 10));
      await feed.stop();
      feed.rows.push(...rows(round * 30 + 11, round * 30 + 20));
      await feed.start();
      feed.refuseUpgrade = round % 2 ? 503 : null;
      await ledger.count(round * 30 + 20);
      feed.refuseUpgrade = null;
      await ledger.state("live");
      feed.insert(...rows(round * 30 + 21, round * 30 + 30));
      await ledger.count(round * 30 + 30);
    }
    expect(ledger.ids).toEqual(rows(1, 150).map(({ id }) => id));
    expect(ledger.resets).toEqual([]);
    expect(feed.connections.at(-1)!.query.get("epoch")).toBe("first");
  });

  test("a backlog of several history pages", async () => {
    feed.rows = rows(1, 1_234);
    feed.refuseUpgrade = 503;
    const ledger = follow({ since: "earliest" });
    await ledger.count(1_234);
    expect(ledger.ids).toEqual(feed.rows.map(({ id }) => id));
    const newest = follow({ last: 700 });
    await newest.count(700);
    expect(newest.ids).toEqual(feed.rows.slice(-700).map(({ id }) => id));
  });

  test("a row that comes twice is delivered once", async () => {
    const ledger = follow();
    await ledger.state("live");
    feed.insert(...rows(1, 2));
    feed.insert(...rows(2, 3));
    await ledger.count(3);
    expect(ledger.ids).toEqual([1, 2, 3]);
  });

  test("ids that a number can't hold", async () => {
    const ids = [9007199254740991, "9007199254740992", "9007199254740993", "9223372036854775806"];
    feed.rows = [{ id: ids[0]! }, { id: ids[1]! }];
    const ledger = follow({ since: "earliest" });
    await ledger.count(2);
    await feed.stop();
    feed.rows.push({ id: ids[2]! });
    feed.refuseUpgrade = 503;
    await feed.start();
    await ledger.count(3);
    feed.refuseUpgrade = null;
    await ledger.state("live");
    feed.insert({ id: ids[3]! });
    await ledger.count(4);
    expect(ledger.ids).toEqual(ids);
    expect(feed.connections.at(-1)!.query.get("since")).toBe("9007199254740993");
  });

  test("a callback that throws costs neither the row nor the rest", async () => {
    const ledger = follow({
      since: "earliest",
      onEvent: (_, { id }) => {
        if (id === 1) throw new Error("not my day");
      },
    });
    await ledger.state("live");
    feed.insert(...rows(1, 2));
    await ledger.count(2);
    expect((await ledger.error("callback_failed")).message).toBe("onEvent threw: not my day");
  });
});

describe("another history", () => {
  test("found by the hello: told before its first row", async () => {
    feed.rows = rows(1, 3);
    const ledger = follow({ since: "earliest" });
    await ledger.count(3);
    await ledger.state("live");
    await feed.stop();
    feed.epoch = "second";
    feed.rows = rows(1, 2);
    await feed.start();
    await ledger.count(5);
    const turn = ledger.log.indexOf("reset epoch_changed");
    expect(ledger.log.slice(turn).filter((entry) => entry.startsWith("row"))).toEqual(["row 1", "row 2"]);
    expect(ledger.resets).toEqual([expect.objectContaining({ epoch: "second", head: 2 })]);
    expect(ledger.events[3]!.meta).toMatchObject({ epoch: "second", replay: true });
  });

  test("found by the history", async () => {
    feed.rows = rows(1, 3);
    const ledger = follow({ since: "earliest" });
    await ledger.state("live");
    await feed.stop();
    feed.epoch = "second";
    feed.rows = rows(1, 4);
    feed.refuseUpgrade = 503;
    await feed.start();
    await ledger.count(7);
    expect(ledger.ids).toEqual([1, 2, 3, 1, 2, 3, 4]);
    expect(ledger.resets).toEqual([{ reason: "epoch_changed", epoch: "second", head: 4, earliest: undefined }]);
  });

  test("announced by a reset frame", async () => {
    feed.rows = rows(1, 3);
    const ledger = follow({ since: "earliest" });
    await ledger.state("live");
    feed.epoch = "second";
    feed.broadcast({ type: "reset", epoch: "second", reason: "database_replaced", head: 1, earliest: 1 });
    feed.rows = [];
    feed.insert(...rows(1, 1));
    feed.broadcast({ type: "live", id: 1 });
    await ledger.count(4);
    expect(ledger.resets).toEqual([{ reason: "database_replaced", epoch: "second", head: 1, earliest: 1 }]);
    expect(ledger.subscription.position).toEqual({ epoch: "second", id: 1 });
  });

  test("rows above the cursor pruned: hello and history tell", async () => {
    feed.rows = rows(1, 3);
    const polled = follow({ since: "earliest" });
    await polled.state("live");
    await feed.stop();
    feed.rows = rows(8, 9);
    feed.refuseUpgrade = 503;
    await feed.start();
    await polled.count(5);
    expect(polled.resets).toEqual([{ reason: "pruned", epoch: "first", head: 9, earliest: 8 }]);
    expect(polled.ids).toEqual([1, 2, 3, 8, 9]);
    polled.subscription.close();

    feed.refuseUpgrade = null;
    feed.script = (socket) => {
      socket.send(JSON.stringify({ type: "hello", feed: "remediation", key: "id", epoch: "first", head: 9, earliest: 8, since: 7, recovered: false }));
      return true;
    };
    const connected = follow({ since: 3 });
    await until(() => connected.resets.length > 0, () => "a reset");
    expect(connected.resets).toEqual([{ reason: "pruned", epoch: "first", head: 9, earliest: 8 }]);
  });

  test("a table that is gone for a while is none", async () => {
    feed.rows = rows(1, 3);
    const ledger = follow({ since: 2 });
    await ledger.state("live");
    await feed.stop();
    feed.historyAnswer = { status: 200, body: JSON.stringify({ items: [], total: 0, head: 4, epoch: "first" }) };
    feed.status = "waiting";
    feed.earliest = null;
    feed.refuseUpgrade = 503;
    await feed.start();
    await until(() => feed.historyRequests.length >= 2, () => "two polls");
    feed.historyAnswer = null;
    feed.status = "open";
    // A poll on its way may ask for the description now: of an open table it names the first row.
    feed.earliest = undefined;
    feed.rows = rows(1, 4);
    await ledger.count(2);
    expect(ledger.ids).toEqual([3, 4]);
    expect(ledger.resets).toEqual([]);
  });

  test("a server that has nothing to read yet is waited for, and its words are shown", async () => {
    const waiting = { type: "waiting", reason: "no_table", message: "the table t does not exist yet" };
    feed.script = (socket, query) => {
      socket.send(JSON.stringify(waiting));
      setTimeout(() => feed.greet(socket, query), 150);
      return true;
    };
    const ledger = follow({ timing: { connectTimeoutMs: 50 } });
    await ledger.state("waiting");
    expect(ledger.subscription.status.message).toBe("The table t does not exist yet.");
    await ledger.state("live");
    expect(feed.connections.length).toBe(1);
    feed.insert(...rows(1, 2));
    await ledger.count(2);
    feed.broadcast({ ...waiting, reason: "unreadable", message: "The file can't be read." });
    await ledger.state("waiting");
    expect(ledger.subscription.status.message).toBe("The file can't be read.");
    expect(ledger.errors).toEqual([]);
  });

  test("a gap of deleted rows in the middle is none", async () => {
    feed.rows = rows(1, 3);
    const ledger = follow({ since: "earliest" });
    await ledger.state("live");
    await feed.stop();
    feed.rows = [...rows(1, 3), ...rows(8, 9)];
    feed.refuseUpgrade = 503;
    await feed.start();
    await ledger.count(5);
    expect(ledger.resets).toEqual([]);
  });
});

describe("a link that fails", () => {
  test("goes silent: it is pinged, given up and replaced", async () => {
    feed.script = (socket, query, attempt) => {
      if (attempt > 1) return false;
      feed.greet(socket, query);
      socket.removeAllListeners("message");
      socket.on("message", (data) => feed.received.push(String(data)));
      return true;
    };
    const ledger = follow({ timing: { heartbeatMs: 30, pongTimeoutMs: 30 } });
    await ledger.error("dead_link");
    await until(() => feed.connections.length === 2 && ledger.subscription.status.state === "live", () => "the next connection");
    expect(feed.received).toContain("ping");
  });

  test("lives while pings are answered", async () => {
    const ledger = follow({ timing: { heartbeatMs: 10, pongTimeoutMs: 10_000 } });
    await until(() => feed.received.length >= 5, () => "five pings");
    expect(ledger.codes).toEqual([]);
    expect(feed.connections.length).toBe(1);
  });

  test("never greets: given up", async () => {
    feed.script = (_socket, _query, attempt) => attempt === 1;
    const ledger = follow({ timing: { connectTimeoutMs: 40 } });
    await ledger.error("unreachable");
    await ledger.state("live");
  });

  test("a goodbye's wait is honoured, and the history left alone", async () => {
    feed.script = (socket, query, attempt) => {
      if (attempt > 1) return false;
      feed.greet(socket, query);
      socket.send(JSON.stringify({ type: "goodbye", reconnect_after_ms: 300 }));
      socket.close(1012);
      return true;
    };
    const ledger = follow();
    await ledger.state("polling");
    const from = performance.now();
    await until(() => feed.connections.length === 2, () => "the next connection");
    // Less what passed between the frame's arrival and the status.
    expect(performance.now() - from).toBeGreaterThan(250);
    expect(feed.historyRequests).toEqual([]);
    expect(ledger.codes).toEqual([]);
  });

  test.each([1000, 1001, 1008, 1009, 1011, 1012, 4000, 4008, 4009, 4499])("close code %i: it comes back", async (code) => {
    feed.script = (socket, query, attempt) => {
      feed.greet(socket, query);
      if (attempt === 1) socket.close(code, "because");
      return true;
    };
    const ledger = follow();
    await until(() => feed.connections.length === 2 && ledger.subscription.status.state === "live", () => "the next connection");
  });

  test.each([
    [4501, "token_refused"],
    [4504, "feed_gone"],
    [4999, "closed_by_server"],
  ])("close code %i: it does not come back", async (code, expected) => {
    feed.script = (socket, query) => {
      feed.greet(socket, query);
      socket.close(code, "because");
      return true;
    };
    const ledger = follow();
    await ledger.state("closed");
    expect(await ledger.error(expected)).toMatchObject({ fatal: true, message: expect.stringContaining("because") });
    expect(feed.connections.length).toBe(1);
    expect(feed.historyRequests).toEqual([]);
  });

  test("1013: it says so and stays away for seconds, reading the history", async () => {
    feed.script = (socket) => {
      socket.close(1013, "full");
      return true;
    };
    const ledger = follow();
    await until(() => feed.historyRequests.length >= 3, () => "three polls");
    expect((await ledger.error("at_capacity")).message).toContain("at capacity: full");
    expect(feed.connections.length).toBe(1);
  });
});

describe("frames out of the protocol", () => {
  test.each([
    ["not JSON", "{oops"],
    ["a list", "[1]"],
    ["a row without an id", '{"type":"remediation_event","event":{"ts":"x"}}'],
    ["a row whose id is no integer", '{"type":"remediation_event","event":{"id":1.5}}'],
    ["a live without an id", '{"type":"live"}'],
  ])("%s: the row is asked for again, then skipped", async (_, frame) => {
    feed.script = (socket, query, attempt) => {
      feed.greet(socket, query);
      if (attempt <= 2) socket.send(frame);
      return true;
    };
    const ledger = follow({ since: "earliest" });
    await until(() => ledger.errors.some(({ message }) => message.includes("skipped")), () => `a skip; ${ledger.log.join()}`);
    feed.insert(...rows(1, 1));
    await ledger.count(1);
    expect(ledger.codes).toEqual(["malformed_frame", "malformed_frame"]);
    expect(feed.connections.length).toBe(2);
  });

  test("a frame garbled on its way costs no row", async () => {
    feed.rows = rows(1, 1);
    feed.script = (socket, query, attempt) => {
      if (attempt > 1) return false;
      feed.greet(socket, query);
      feed.rows.push(...rows(2, 2));
      socket.send(rowFrame(feed.rows[1]!).slice(0, -3));
      return true;
    };
    const ledger = follow({ since: "earliest" });
    await ledger.count(2);
    expect(ledger.ids).toEqual([1, 2]);
  });

  test("binary frames end the connection, unknown kinds are left alone", async () => {
    const ledger = follow();
    await ledger.state("live");
    feed.broadcast({ type: "notice", text: "a kind of later" });
    for (const socket of feed.sockets) socket.send(Buffer.from("x"));
    expect((await ledger.error("malformed_frame")).message).toContain("binary");
    await ledger.state("live");
  });

  test("a row too large for one message arrives, and is said to be cut", async () => {
    const ledger = follow();
    await ledger.state("live");
    for (const socket of feed.sockets) socket.send(rowFrame({ id: 1, details: "x".repeat(3_000_000) }, { truncated: ["details"] }));
    await ledger.count(1);
    expect(ledger.events[0]!.meta.truncated).toEqual(["details"]);
    expect((await ledger.error("row_truncated")).message).toBe("Row 1 was too large for one message: details arrived cut.");
  });

  test("the same from the history", async () => {
    feed.refuseUpgrade = 503;
    feed.historyAnswer = { status: 200, body: JSON.stringify({ items: [{ id: 1 }], total: 1, head: 1, epoch: "first", truncated: { 1: ["details"] } }) };
    const ledger = follow({ since: "earliest" });
    await ledger.count(1);
    expect(ledger.events[0]!.meta.truncated).toEqual(["details"]);
  });
});

test("ids at 0 and below are rows like others, at the start and after a reset", async () => {
  feed.rows = rows(-3, 2);
  feed.script = (socket) => {
    socket.send(JSON.stringify({ type: "hello", feed: "remediation", key: "id", epoch: "first", head: 2, earliest: -3, since: "-9223372036854775808", recovered: true }));
    for (const row of feed.rows) socket.send(rowFrame(row));
    socket.send(JSON.stringify({ type: "live", id: 2 }));
    feed.sockets.add(socket);
    return true;
  };
  const ledger = follow({ since: "earliest" });
  await ledger.count(6);
  feed.broadcast({ type: "reset", epoch: "second", reason: "database_replaced", head: 0, earliest: -1 });
  for (const row of rows(-1, 0)) feed.broadcast(JSON.parse(rowFrame(row)));
  await ledger.count(8);
  expect(ledger.ids).toEqual([-3, -2, -1, 0, 1, 2, -1, 0]);
});

describe("refusals, in the server's words", () => {
  const body = (message: string): string => JSON.stringify({ error: { code: "x", message } });

  test.each([
    [400, "bad_request"],
    [401, "unauthorized"],
    [403, "forbidden"],
    [404, "unknown_feed"],
    [500, "server_error"],
    [503, "at_capacity"],
  ])("%i", async (status, code) => {
    feed.refuseUpgrade = status;
    feed.historyAnswer = { status, body: body("there is a reason") };
    const ledger = follow({ since: "earliest" });
    expect((await ledger.error(code)).message).toMatch(/refuses: there is a reason$/);
    const state = ["server_error", "at_capacity"].includes(code) ? "polling" : "refused";
    expect(ledger.subscription.status).toMatchObject({ state, message: expect.stringContaining("there is a reason") });
    feed.refuseUpgrade = null;
    feed.historyAnswer = null;
    feed.rows = rows(1, 1);
    await ledger.state("live");
    expect(ledger.ids).toEqual([1]);
    expect(ledger.codes).toEqual([code]);
  });

  test("Retry-After is honoured", async () => {
    feed.refuseUpgrade = 503;
    feed.historyAnswer = { status: 503, body: body("full"), headers: { "Retry-After": "60" } };
    const ledger = follow({ timing: { pollIntervalMs: 20 } });
    await until(() => feed.historyRequests.length >= 5, () => "five polls");
    expect((await ledger.error("at_capacity")).retryAfterMs).toBe(60_000);
    feed.refuseUpgrade = null;
    await until(() => feed.historyRequests.length >= 8, () => "three more polls");
    expect(feed.connections).toEqual([]);
  });

  test("a server that is not there, then is", async () => {
    await feed.stop();
    const ledger = follow({ since: "earliest" });
    expect((await ledger.error("unreachable")).message).toMatch(/^127\.0\.0\.1:\d+ can't be reached; trying again\.$/);
    await feed.start();
    await ledger.state("live");
    feed.insert(...rows(1, 1));
    await ledger.count(1);
    expect(ledger.codes).toEqual(["unreachable"]);
  });

  test("an answer that is no history", async () => {
    feed.refuseUpgrade = 502;
    feed.historyAnswer = { status: 200, body: "<html>a proxy's page</html>" };
    const ledger = follow();
    expect((await ledger.error("malformed_frame")).message).toContain("no history");
  });

  test("no WebSocket through, the history only", async () => {
    feed.refuseUpgrade = 502;
    const ledger = follow();
    expect((await ledger.error("socket_refused")).message).toContain("answers, but opens no WebSocket");
  });
});

describe("access", () => {
  test("the token goes as subprotocol and as header, fresh for each attempt", async () => {
    let asked = 0;
    const ledger = follow({ since: "earliest", token: async () => `t${(asked += 1)}`, headers: { "X-User-Roles": "ops,dev" } });
    await ledger.state("live");
    expect(feed.connections[0]!.protocol).toBe("walcast.v1,walcast.bearer.t1");
    feed.refuseUpgrade = 503;
    for (const socket of feed.sockets) socket.terminate();
    await until(() => feed.historyRequests.length > 0, () => "a poll");
    expect(feed.historyRequests[0]!.headers).toMatchObject({ authorization: "Bearer t2", "x-user-roles": "ops,dev" });
  });

  test("a token that can't be a subprotocol goes as parameter", async () => {
    const ledger = follow({ token: "a/b=" });
    await ledger.state("live");
    expect(feed.connections[0]).toMatchObject({ protocol: "" });
    expect(feed.connections[0]!.query.get("token")).toBe("a/b=");
  });

  test("a token function that fails is asked again", async () => {
    let asked = 0;
    const ledger = follow({
      token: () => {
        if ((asked += 1) === 1) throw new Error("signed out");
        return "t";
      },
    });
    expect((await ledger.error("token_unavailable")).message).toContain("signed out");
    await ledger.state("live");
  });
});

describe("its end", () => {
  test("close: no callback after it, no connection left", async () => {
    const ledger = follow();
    await ledger.state("live");
    ledger.subscription.close();
    ledger.subscription.close();
    expect(ledger.log.at(-1)).toBe("closed");
    const { length } = ledger.log;
    await until(() => feed.sockets.size === 0, () => "the socket's end");
    feed.insert(...rows(1, 1));
    expect(ledger.log.length).toBe(length);
  });

  test("close from within a callback stops at that row", async () => {
    feed.rows = rows(1, 10);
    feed.refuseUpgrade = 503;
    const ledger: Ledger = follow({ since: "earliest", onEvent: (_, { id }) => id === 3 && ledger.subscription.close() });
    await ledger.state("closed");
    expect(ledger.ids).toEqual([1, 2, 3]);
    expect(ledger.subscription.position).toEqual({ epoch: "first", id: 3 });
  });

  test("a signal ends it, also one that was aborted before", async () => {
    const abort = new AbortController();
    const ledger = follow({ signal: abort.signal });
    await ledger.state("live");
    abort.abort();
    expect(ledger.subscription.status.state).toBe("closed");
    const never = follow({ signal: abort.signal });
    await never.state("closed");
    expect(never.log).toEqual(["closed"]);
  });
});

describe("iteration", () => {
  function iterate(options: SubscribeOptions = {}) {
    const subscription = subscribe(feed.url, { WebSocket, timing: QUICK, since: "earliest", ...options });
    opened.push(subscription);
    return subscription;
  }

  test("takes rows one at a time; leaving the loop closes", async () => {
    feed.rows = rows(1, 5);
    const subscription = iterate();
    const taken: unknown[] = [];
    for await (const row of subscription) {
      taken.push(row.id);
      expect(subscription.position?.id).toBe(row.id);
      if (taken.length === 3) break;
    }
    expect(taken).toEqual([1, 2, 3]);
    expect(subscription.status.state).toBe("closed");
    expect(subscription.position).toEqual({ epoch: "first", id: 3 });
  });

  test("a slow consumer: the connection is let go at the bound, and no row is lost", async () => {
    feed.rows = rows(1, 5_000);
    const subscription = iterate();
    await until(() => subscription.status.state === "paused", () => "a pause");
    expect(feed.sockets.size).toBeLessThanOrEqual(1);
    expect(subscription.position).toEqual({ epoch: "first", id: 0 });
    const taken: unknown[] = [];
    for await (const row of subscription) {
      taken.push(row.id);
      if (taken.length === 5_000) break;
    }
    expect(taken).toEqual(feed.rows.map(({ id }) => id));
    expect(feed.connections[1]!.query.get("since")).toBe("1000");
  });

  test("a slow consumer of the history: the same", async () => {
    feed.rows = rows(1, 2_500);
    feed.refuseUpgrade = 503;
    const subscription = iterate();
    const taken: unknown[] = [];
    for await (const row of subscription) {
      taken.push(row.id);
      if (taken.length === 2_500) break;
    }
    expect(taken).toEqual(feed.rows.map(({ id }) => id));
  });

  test("a reset drops the rows of the old history that were not taken", async () => {
    feed.rows = rows(1, 3);
    const resets: string[] = [];
    const subscription = iterate({ onReset: ({ reason }) => resets.push(reason) });
    const iterator = subscription[Symbol.asyncIterator]();
    expect((await iterator.next()).value).toMatchObject({ id: 1 });
    await until(() => subscription.status.state === "live", () => "live");
    feed.broadcast({ type: "reset", epoch: "second", reason: "restored", head: 1, earliest: 1 });
    feed.broadcast(rowFrame({ id: 1, of: "second" }));
    await until(() => resets.length === 1, () => "the reset");
    expect((await iterator.next()).value).toEqual({ id: 1, of: "second" });
  });

  test("a final close code is thrown after the rows before it", async () => {
    feed.rows = rows(1, 1);
    feed.script = (socket, query) => {
      feed.greet(socket, query);
      socket.close(4501);
      return true;
    };
    const taken: unknown[] = [];
    const loop = (async () => {
      for await (const row of iterate()) taken.push(row.id);
    })();
    await expect(loop).rejects.toMatchObject({ code: "token_refused" });
    expect(taken).toEqual([1]);
  });

  test("close ends it, also one that waits", async () => {
    const subscription = iterate();
    const waiting = [subscription[Symbol.asyncIterator]().next(), subscription[Symbol.asyncIterator]().next()];
    await until(() => subscription.status.state === "live", () => "live");
    subscription.close();
    expect(await Promise.all(waiting)).toEqual([{ done: true, value: undefined }, { done: true, value: undefined }]);
  });
});

describe("options that can't work are refused at once", () => {
  test.each<[string, SubscribeOptions, RegExp]>([
    ["both starts", { since: 1, last: 1 }, /^since and last/],
    ["last of none", { last: 0 }, /^last: 0 is not a whole number from 1 to 10,000/],
    ["last of too many", { last: 10_001 }, /^last: 10001/],
    ["sharing of no kind", { share: "windows" as never }, /^share: windows is neither "page" nor "tabs" nor false/],
    ["a since of no kind", { since: "yesterday" }, /^since: yesterday is neither/],
    ["a since that is not exact", { since: 2 ** 53 }, /ids beyond 2\^53/],
    ["a reserved column", { filters: { limit: 1 } }, /^filters: limit is a reserved word/],
    ["a filter of no kind", { filters: { tenant: null as never } }, /^filters: tenant is null/],
  ])("%s", (_, options, message) => {
    expect(() => subscribe("ws://127.0.0.1:1/ws/remediation", { WebSocket, ...options })).toThrow(message);
  });

  test.each(["/ws/remediation", "ftp://host/ws/remediation"])("the address %s", (url) => {
    expect(() => subscribe(url, { WebSocket })).toThrow(/^url: /);
  });
});
