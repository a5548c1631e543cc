// A copy of a captured table: what each frame does to it, and that it is the table, against the real daemon.
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { subscribe, subscribeTable, type FeedError, type Reset, type TableChange, type TableOptions, type TableSubscription } from "../src/index.js";
import { Daemon, daemonBinary } from "./harness/daemon.js";
import { QUICK, until } from "./harness/ledger.js";
import { rows, ScriptedFeed } from "./harness/scripted-feed.js";

const opened: Array<{ close(): void }> = [];

/** A copy, and what was told of it. */
function hold(url: string, options: TableOptions = {}): { table: TableSubscription; told: TableChange[]; errors: FeedError[] } {
  const told: TableChange[] = [];
  const errors: FeedError[] = [];
  const table = subscribeTable(url, { WebSocket, timing: QUICK, ...options, onChange: (change) => told.push(change), onError: (error) => errors.push(error) });
  opened.push(table);
  return { table, told, errors };
}

afterEach(() => {
  for (const each of opened.splice(0)) each.close();
});

describe("what a server sends", () => {
  let feed: ScriptedFeed;
  beforeEach(async () => {
    feed = await new ScriptedFeed().start();
  });
  afterEach(() => feed.stop());

  const hello = { type: "hello", feed: "orders", kind: "changes", key: "seq", epoch: "e", head: 9, earliest: 3, since: 0, recovered: true, snapshot: true };
  const live = { type: "live", id: 9 };
  const change = (op: string, id: number, more: object = {}) => ({ type: "orders_change", change: { op, key: { id }, ...more } });

  /** Sends these to the first, second … connection, and closes all but the last. */
  function script(...conversations: object[][]): void {
    feed.script = (socket, _query, attempt) => {
      feed.sockets.add(socket);
      for (const frame of conversations[attempt - 1] ?? []) socket.send(JSON.stringify(frame));
      if (attempt < conversations.length) socket.close(1012);
      return true;
    };
  }
  const since = () => feed.connections.map(({ query }) => query.get("since"));

  test("a copy shows when it is whole, then changes in place", async () => {
    script([
      hello,
      change("r", 1, { after: { id: 1, n: "a" } }),
      change("r", 2, { after: { id: 2, n: "b" } }),
      change("u", 2, { seq: 8, after: { id: 2, n: "c" } }),
      live,
      change("u", 3, { seq: 10, old_key: { id: 1 }, after: { id: 3, n: "a" } }),
      change("d", 2, { seq: 11, left: true }),
      change("d", 7, { seq: 12 }),
      change("c", 7, { seq: 13, after: { id: 7, n: "d" } }),
      change("c", 7, { seq: 13, after: { id: 7, n: "twice" } }),
    ]);
    const { table, told } = hold(feed.url);
    expect(table.rows).toBeNull();
    await until(() => told.length === 4, () => `changes in ${JSON.stringify(told)}`);
    expect(told).toEqual([
      { op: "whole", key: null, row: null, before: null },
      { op: "u", key: 3, row: { id: 3, n: "a" }, before: { id: 1, n: "a" } },
      { op: "d", key: 2, row: null, before: { id: 2, n: "c" } },
      { op: "c", key: 7, row: { id: 7, n: "d" }, before: null },
    ]);
    expect([...table.rows!.keys()]).toEqual([3, 7]);
  });

  test("a snapshot that was cut off begins again, and what was whole stays until the next is", async () => {
    const first = [hello, change("r", 1, { after: { id: 1 } }), live];
    const cut = [{ ...hello, epoch: "f", recovered: false }, change("r", 2, { after: { id: 2 } })];
    script(first, cut, [{ ...hello, epoch: "f" }, change("r", 3, { after: { id: 3 } }), live]);
    const seen: Array<Array<unknown>> = [];
    const { table, told } = hold(feed.url, { onStatus: () => seen.push([...(table.rows?.keys() ?? [])]) });
    await until(() => told.length === 2, () => `two copies in ${JSON.stringify(told)}`);
    expect(told.map(({ op }) => op)).toEqual(["whole", "whole"]);
    expect(new Set(seen.map(String))).toEqual(new Set(["", "1", "3"]));
    expect(since()).toEqual(["0", "9", "0"]);
  });

  test("a subscription is told to drop what a snapshot gave that begins again", async () => {
    script([hello, change("r", 1, { after: { id: 1 } })], [hello, change("r", 1, { after: { id: 1 } }), live]);
    const resets: Reset[] = [];
    const ops: unknown[] = [];
    const subscription = subscribe(feed.url, { since: "earliest", WebSocket, timing: QUICK, onEvent: (row) => ops.push(row.op), onReset: (reset) => resets.push(reset) });
    opened.push(subscription);
    await until(() => subscription.status.state === "live", () => "live");
    expect(ops).toEqual(["r", "r"]);
    expect(resets.map(({ reason }) => reason)).toEqual(["snapshot_interrupted"]);
    expect(feed.historyRequests, "there is no position in a snapshot to read from").toEqual([]);
  });

  test("subscriptions of one page that share an address each get the snapshot they asked for", async () => {
    feed.script = (socket, query) => {
      feed.sockets.add(socket);
      const whole = query.get("since") === "0";
      const sent = whole ? [hello, change("r", 1, { after: { id: 1 } }), live] : [{ ...hello, snapshot: undefined, since: 9 }, live];
      for (const frame of sent) socket.send(JSON.stringify(frame));
      return true;
    };
    const each = (["earliest", "now", "earliest"] as const).map((since) => {
      const ops: unknown[] = [];
      const subscription = subscribe(feed.url, { since, share: "page", WebSocket, timing: QUICK, onEvent: (row) => ops.push(row.op) });
      opened.push(subscription);
      return { subscription, ops };
    });
    await until(() => each.every(({ subscription }) => subscription.status.state === "live"), () => "all live");
    expect(each.map(({ ops }) => ops)).toEqual([["r"], [], ["r"]]);
    each[0]!.subscription.close();
    await until(() => feed.sockets.size === 2, () => "its connection ends with it");
  });

  test("a feed of rows is refused in words", async () => {
    feed.rows = rows(1, 3);
    const { table, errors } = hold(feed.url);
    await until(() => table.status.state === "closed", () => "the end");
    expect(errors.map(({ code, fatal }) => [code, fatal])).toEqual([["not_a_change_feed", true]]);
    expect(errors[0]!.message).toContain("capture");
  });
});

describe.skipIf(daemonBinary() === null)("with the daemon", () => {
  let daemon: Daemon;
  let url: string;

  beforeEach(async () => {
    daemon = new Daemon();
    daemon.write([["CREATE TABLE orders(region TEXT, number INTEGER, tenant TEXT, total REAL, PRIMARY KEY(region, number))"]]);
    execFileSync(daemonBinary()!, ["capture", "install", "--db", daemon.database, "orders", "--filter", "tenant"], { stdio: "pipe" });
    const config = join(daemon.directory, "walcast.toml");
    writeFileSync(config, '[feeds.orders]\ntable = "orders"\ncapture = "keys"\ncapture_filters = ["tenant"]\n');
    await daemon.start("--config", config);
    url = daemon.url.replace("remediation", "orders");
    orders([["eu", 1, "acme", 1.5], ["eu", 2, "acme", 2], ["us", 1, "globex", 3]]);
  });
  afterEach(() => daemon.remove());

  function orders(each: unknown[][]): void {
    daemon.write(each.map((values) => ["INSERT INTO orders VALUES (?, ?, ?, ?)", ...values]));
  }
  const keys = (table: TableSubscription) => [...(table.rows?.keys() ?? [])];

  test("the copy is the table, over outages of the daemon", async () => {
    const { table, told } = hold(url);
    await until(() => told.length === 1, () => "the copy");
    expect(keys(table)).toEqual(['["eu",1]', '["eu",2]', '["us",1]']);
    daemon.write([["UPDATE orders SET region = 'uk', total = 9 WHERE number = 2"]]);
    await until(() => told.length === 2, () => "the change");
    expect(told[1]).toMatchObject({ op: "u", key: '["uk",2]', row: { total: 9 }, before: { region: "eu", total: 2 } });
    await daemon.stop("SIGKILL");
    daemon.write([["DELETE FROM orders WHERE region = 'us'"]]);
    orders([["us", 5, "globex", null]]);
    await daemon.start("--config", join(daemon.directory, "walcast.toml"));
    await until(() => told.length === 4, () => `what was missed, in ${JSON.stringify(told)}`);
    expect(keys(table)).toEqual(['["eu",1]', '["uk",2]', '["us",5]']);
  });

  test("rows enter and leave a filter", async () => {
    const { table, told } = hold(url, { filters: { tenant: "acme" } });
    await until(() => told.length === 1, () => "the copy");
    daemon.write([["UPDATE orders SET tenant = 'globex' WHERE region = 'eu' AND number = 1"]]);
    daemon.write([["UPDATE orders SET tenant = 'acme' WHERE region = 'us'"]]);
    await until(() => told.length === 3, () => "both changes");
    expect(told.slice(1).map(({ op, key }) => [op, key])).toEqual([["d", '["eu",1]'], ["c", '["us",1]']]);
    expect(keys(table)).toEqual(['["eu",2]', '["us",1]']);
  });
});
