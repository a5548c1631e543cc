// Tabs of one browser that share a connection, in Chromium: each gets what it would get over its own.
import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { openBrowser, watched } from "../harness/browser.js";
import { Daemon } from "../harness/daemon.js";
import { until } from "../harness/ledger.js";
import { rowFrame, rows, ScriptedFeed } from "../harness/scripted-feed.js";

const PAGE = `<!doctype html><link rel=icon href=data:,><script type=module>import { subscribe } from "/index.js"; globalThis.subscribe = subscribe;</script>`;
const DIST = new URL("../../dist/", import.meta.url);
const QUICK = { heartbeatMs: 300, pongTimeoutMs: 300, pollIntervalMs: 100, backoffMinMs: 10, backoffMaxMs: 40 };
const numbers = (first: number, last: number) => rows(first, last).map(({ id }) => id);

let browser: Browser;
let context: BrowserContext;
let modules: Server;
let complaints: string[][];

beforeAll(async () => {
  browser = await openBrowser();
  modules = createServer((request, response) => {
    const script = request.url!.endsWith(".js");
    response.setHeader("Content-Type", script ? "text/javascript" : "text/html");
    response.end(script ? readFileSync(new URL(`.${request.url}`, DIST)) : PAGE);
  });
  await new Promise<void>((resolve) => modules.listen(0, "127.0.0.1", resolve));
});

afterAll(async () => {
  await browser.close();
  modules.close();
});

beforeEach(async () => {
  context = await browser.newContext();
  complaints = [];
});

afterEach(async () => {
  await context.close();
  expect(complaints.flat()).toEqual([]);
});

interface Told {
  ids: Array<number | string>;
  states: string[];
  errors: string[];
  resets: string[];
  via: string[];
}

interface Globals {
  subscribe: (url: string, options: object) => { close(): void };
  told: Told;
  subscription: { close(): void };
}

class Tab {
  readonly page: Page;

  private constructor(page: Page) {
    this.page = page;
  }

  static async open(before: string = ""): Promise<Tab> {
    const page = await context.newPage();
    await page.addInitScript(before);
    const watching = await watched(page, `http://127.0.0.1:${(modules.address() as AddressInfo).port}/`);
    complaints.push(watching.complaints);
    return new Tab(page);
  }

  /** Opens a tab that subscribes. */
  static async following(url: string, options: object = {}, before = ""): Promise<Tab> {
    const tab = await Tab.open(before);
    await tab.follow(url, options);
    return tab;
  }

  /** Opens a tab that subscribes, and waits until it is live. */
  static async live(url: string, options: object = {}): Promise<Tab> {
    const tab = await Tab.following(url, options);
    await tab.state("live");
    return tab;
  }

  async follow(url: string, options: object = {}): Promise<void> {
    await this.page.evaluate(
      ([url, timing, { tokenIn, ...given }]) => {
        const globals = globalThis as unknown as Globals;
        const told: Told = { ids: [], states: [], errors: [], resets: [], via: [] };
        const subscription = globals.subscribe(url, {
          timing,
          share: "tabs",
          ...(tokenIn === undefined ? {} : { token: () => localStorage.getItem(tokenIn) }),
          ...given,
          onEvent: (row: { id: number }, { via }: { via: string }) => {
            told.ids.push(row.id);
            told.via.push(via);
          },
          onStatus: ({ state }: { state: string }) => told.states.push(state),
          onReset: ({ reason }: { reason: string }) => told.resets.push(reason),
          onError: ({ code }: { code: string }) => told.errors.push(code),
        });
        Object.assign(globals, { told, subscription });
      },
      [url, QUICK, options as { tokenIn?: string }] as const,
    );
  }

  told(): Promise<Told> {
    return this.page.evaluate(() => (globalThis as unknown as Globals).told);
  }

  async state(state: string): Promise<void> {
    await expect.poll(async () => (await this.told()).states.at(-1), { timeout: 90_000, interval: 20 }).toBe(state);
  }

  /** Waits for the last of the rows, and expects just these. */
  async rows(ids: Array<number | string>): Promise<void> {
    await expect.poll(async () => (await this.told()).ids.at(-1), { timeout: 90_000, interval: 20 }).toBe(ids.at(-1));
    expect((await this.told()).ids).toEqual(ids);
  }

  /** The end of a tab whose program is torn down: nothing of the page runs any more. */
  async crash(): Promise<void> {
    const session = await context.newCDPSession(this.page);
    const crashed = this.page.waitForEvent("crash");
    session.send("Page.crash").catch(() => {});
    await crashed;
  }

  /** What a page is told before the browser stops it, and when that is over; a browser without a window stops none itself. */
  async tellOf(event: "freeze" | "resume"): Promise<void> {
    await this.page.evaluate((event) => void document.dispatchEvent(new Event(event)), event);
  }

  /** Nothing in the page runs for so long. */
  async standStill(ms: number): Promise<void> {
    await this.page.evaluate((ms) => {
      const end = performance.now() + ms;
      while (performance.now() < end);
    }, ms);
  }
}

describe("on the daemon", () => {
  let daemon: Daemon;

  beforeEach(async () => {
    daemon = await new Daemon().start();
  });

  afterEach(() => daemon.remove());

  async function connections(): Promise<number> {
    const text = await (await fetch(`${daemon.http}/metrics`)).text();
    return Number(/^walcast_ws_connections_active (\d+)$/m.exec(text)![1]);
  }

  const oneConnection = () => expect.poll(connections, { timeout: 90_000, interval: 20 }).toBe(1);

  test("three tabs have one connection, and each all rows", async () => {
    const tabs = [await Tab.live(daemon.url), await Tab.live(daemon.url), await Tab.live(daemon.url)];
    expect(await connections()).toBe(1);
    for (let row = 1; row <= 5; row += 1) daemon.insert({ alertname: `one ${row}` });
    daemon.insert(...rows(6, 505).map(() => ({ alertname: "burst" })));
    for (const tab of tabs) await tab.rows(numbers(1, 505));
    expect(await connections()).toBe(1);
    for (const tab of tabs) expect(new Set((await tab.told()).via)).toEqual(new Set(["socket"]));
  });

  test.each([
    ["is closed", (tab: Tab) => tab.page.close()],
    ["crashes", (tab: Tab) => tab.crash()],
    ["goes elsewhere", async (tab: Tab) => void (await tab.page.goto("about:blank"))],
    ["unsubscribes", async (tab: Tab) => void (await tab.page.evaluate(() => (globalThis as unknown as Globals).subscription.close()))],
  ])("when the tab with the connection %s another takes over, and no row is lost", async (_, end) => {
    const [first, ...others] = [await Tab.live(daemon.url), await Tab.live(daemon.url), await Tab.live(daemon.url)];
    let written = 0;
    let over = false;
    const writing = (async () => {
      for (; !over || written < 30; written += 3) {
        daemon.insert({}, {}, {});
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    })();
    await until(() => written > 10, () => "some rows");
    await end(first!);
    await oneConnection();
    over = true;
    await writing;
    for (const tab of others) await tab.rows(numbers(1, written));
    for (const tab of others) expect((await tab.told()).errors).toEqual([]);
    await oneConnection();
  });

  test("a daemon that goes and comes is told to all, who come back over one connection", async () => {
    const tabs = [await Tab.live(daemon.url), await Tab.live(daemon.url), await Tab.live(daemon.url)];
    daemon.insert({}, {});
    for (const tab of tabs) await tab.rows([1, 2]);
    await daemon.stop();
    for (const tab of tabs) await tab.state("polling");
    daemon.insert({});
    await daemon.start();
    for (const tab of tabs) await tab.state("live");
    daemon.insert({});
    for (const tab of tabs) await tab.rows([1, 2, 3, 4]);
    await oneConnection();
  });

  test("no table to read is told to all", async () => {
    const tabs = [await Tab.live(daemon.url), await Tab.live(daemon.url)];
    daemon.insert({});
    for (const tab of tabs) await tab.rows([1]);
    daemon.write([["ALTER TABLE remediation_events RENAME TO put_aside"]]);
    for (const tab of tabs) await tab.state("waiting");
    const later = await Tab.following(daemon.url);
    await later.state("waiting");
    daemon.write([["DROP TABLE remediation_events"], ["ALTER TABLE put_aside RENAME TO remediation_events"]]);
    for (const tab of [...tabs, later]) await tab.state("live");
    daemon.insert({});
    for (const tab of tabs) await expect.poll(async () => (await tab.told()).ids.at(-1)).toBe(2);
    await oneConnection();
  });
});

describe("on a feed by a script", () => {
  let feed: ScriptedFeed;

  beforeEach(async () => {
    feed = await new ScriptedFeed().start();
  });

  afterEach(() => feed.stop());

  const oneSocket = () => until(() => feed.sockets.size === 1, () => `one socket; there are ${feed.sockets.size}`);

  test.each<[string, object]>([
    ["filters", { filters: { tenant: "b" } }],
    ["headers", { headers: { "X-User-Roles": "ops" } }],
    ["token", { token: "another" }],
    ["sharing", { share: "page" }],
  ])("tabs with another %s have another connection", async (_, other) => {
    await Tab.live(feed.url, { token: "t" });
    await Tab.live(feed.url, { token: "t", ...other });
    expect(feed.connections.length).toBe(2);
  });

  test("without locks each page has its own", async () => {
    const bare = "Object.defineProperty(navigator, 'locks', { value: undefined })";
    for (const tab of [await Tab.following(feed.url, {}, bare), await Tab.following(feed.url, {}, bare)]) await tab.state("live");
    expect(feed.connections.length).toBe(2);
  });

  test("each begins where it asked to", async () => {
    feed.rows = rows(1, 9);
    const tabs = [await Tab.live(feed.url, { last: 5 }), await Tab.live(feed.url, { last: 3 }), await Tab.live(feed.url), await Tab.live(feed.url, { since: 6, epoch: "first" })];
    expect(feed.connections.length).toBe(1);
    feed.insert(...rows(10, 10));
    await tabs[0]!.rows(numbers(5, 10));
    await tabs[1]!.rows(numbers(7, 10));
    await tabs[2]!.rows([10]);
    await tabs[3]!.rows(numbers(7, 10));
  });

  test("who is further back than the recent rows catches up by itself, then joins", async () => {
    feed.rows = rows(1, 50);
    const live = await Tab.live(feed.url);
    feed.script = (socket, query) => {
      feed.greet(socket, query);
      feed.insert(...rows(51, 53));
      return true;
    };
    const back = await Tab.following(feed.url, { since: "earliest" });
    await back.rows(numbers(1, 53));
    feed.script = () => undefined;
    await oneSocket();
    feed.insert(...rows(54, 55));
    await live.rows(numbers(51, 55));
    await back.rows(numbers(1, 55));
    expect(feed.connections.map(({ query }) => query.get("since"))).toEqual(["now", "0"]);
    expect((await back.told()).states).toEqual(["connecting", "replaying", "live"]);
  });

  test("a tab that stands still loses the connection to another, and follows when it is back", async () => {
    const first = await Tab.live(feed.url);
    const others = [await Tab.live(feed.url), await Tab.live(feed.url)];
    const still = first.standStill(4_000);
    await until(() => feed.connections.length > 1, () => "another connection");
    feed.insert(...rows(1, 3));
    for (const tab of others) await tab.rows([1, 2, 3]);
    await still;
    await oneSocket();
    feed.insert(...rows(4, 4));
    for (const tab of [first, ...others]) await tab.rows([1, 2, 3, 4]);
    await oneSocket();
  });

  test("a tab that is to be frozen hands the connection over at once", async () => {
    const first = await Tab.live(feed.url);
    const others = [await Tab.live(feed.url), await Tab.live(feed.url)];
    const before = feed.connections.length;
    await first.tellOf("freeze");
    await until(() => feed.connections.length > before, () => "another connection");
    feed.insert(...rows(1, 3));
    for (const tab of others) await tab.rows([1, 2, 3]);
    await first.tellOf("resume");
    await oneSocket();
    feed.insert(...rows(4, 4));
    for (const tab of [first, ...others]) await tab.rows([1, 2, 3, 4]);
  });

  test("a tab that takes nothing is dropped, and gets all when it does again", async () => {
    const live = await Tab.live(feed.url);
    const slow = await Tab.live(feed.url);
    const still = slow.standStill(3_000);
    for (let first = 1; first <= 9_001; first += 1_000) feed.insert(...rows(first, first + 999));
    await live.rows(numbers(1, 10_000));
    await still;
    await slow.rows(numbers(1, 10_000));
    await oneSocket();
  });

  test("an expired token: all come back with the fresh one, over one connection", async () => {
    const first = await Tab.open();
    await first.page.evaluate(() => localStorage.setItem("token", "t1"));
    await first.follow(feed.url, { tokenIn: "token" });
    const tabs = [first, await Tab.following(feed.url, { tokenIn: "token" })];
    for (const tab of tabs) await tab.state("live");
    expect(feed.connections.length).toBe(1);
    await first.page.evaluate(() => localStorage.setItem("token", "t2"));
    for (const socket of feed.sockets) socket.close(4401);
    await until(() => feed.connections.length === 2, () => "the next connection");
    for (const tab of tabs) await tab.state("live");
    feed.insert(...rows(1, 1));
    for (const tab of tabs) await tab.rows([1]);
    expect(feed.connections.map(({ protocol }) => protocol)).toEqual(["walcast.v1, walcast.bearer.t1", "walcast.v1, walcast.bearer.t2"]);
    for (const tab of tabs) expect((await tab.told()).errors).toEqual([]);
  });

  test("a final close code ends all", async () => {
    const tabs = [await Tab.live(feed.url), await Tab.live(feed.url)];
    for (const socket of feed.sockets) socket.close(4504, "gone");
    for (const tab of tabs) await tab.state("closed");
    for (const tab of tabs) expect((await tab.told()).errors).toEqual(["feed_gone"]);
  });

  test("a refusal is told to all", async () => {
    const tabs = [await Tab.live(feed.url), await Tab.live(feed.url)];
    feed.refuseUpgrade = 404;
    feed.historyAnswer = { status: 404, body: '{"error":{"code":"unknown_feed","message":"there is no feed nowhere"}}' };
    for (const socket of feed.sockets) socket.terminate();
    for (const tab of tabs) await tab.state("refused");
    feed.refuseUpgrade = feed.historyAnswer = null;
    for (const tab of tabs) await tab.state("live");
    await oneSocket();
  });

  test("a malformed frame is asked for again for all, then skipped by all", async () => {
    const tabs = [await Tab.live(feed.url, { since: "earliest" }), await Tab.live(feed.url, { since: "earliest" })];
    const malformed = async (times: number): Promise<void> => {
      feed.broadcast("{oops");
      const errors = Array(times).fill("malformed_frame");
      for (const tab of tabs) await expect.poll(async () => (await tab.told()).errors, { timeout: 90_000 }).toEqual(errors);
    };
    const before = feed.connections.length;
    await malformed(1);
    await until(() => feed.connections.length > before && feed.sockets.size === 1, () => "another connection");
    // A tab is told of a frame that is skipped once it has joined the other's connection.
    for (const tab of tabs) await tab.state("live");
    await malformed(2);
    feed.insert(...rows(1, 1));
    for (const tab of tabs) await tab.rows([1]);
    await oneSocket();
  });

  test("another history begins for all at once", async () => {
    feed.rows = rows(1, 3);
    const tabs = [await Tab.live(feed.url, { since: "earliest" }), await Tab.live(feed.url)];
    feed.epoch = "second";
    feed.rows = [];
    feed.broadcast({ type: "reset", epoch: "second", reason: "database_replaced", head: 4, earliest: 1 });
    feed.insert(...rows(1, 4));
    feed.broadcast({ type: "live", id: 4 });
    await tabs[0]!.rows([1, 2, 3, 1, 2, 3, 4]);
    await tabs[1]!.rows([1, 2, 3, 4]);
    expect(feed.connections.length).toBe(1);
  });

  test("another history, of which the connection has the newest rows only: who is owed all gets all", async () => {
    feed.rows = rows(1, 3);
    const newest = await Tab.live(feed.url, { last: 2 });
    const all = await Tab.live(feed.url, { since: 2, epoch: "first" });
    expect(feed.connections.length).toBe(1);
    feed.epoch = "second";
    feed.rows = rows(1, 4);
    feed.broadcast({ type: "reset", epoch: "second", reason: "database_replaced", head: 4, earliest: 1 });
    for (const row of rows(3, 4)) feed.broadcast(JSON.parse(rowFrame(row)));
    feed.broadcast({ type: "live", id: 4 });
    await newest.rows([2, 3, 3, 4]);
    await all.rows([3, 1, 2, 3, 4]);
    await oneSocket();
    feed.insert(...rows(5, 5));
    await newest.rows([2, 3, 3, 4, 5]);
    await all.rows([3, 1, 2, 3, 4, 5]);
  });

  test("another history after there was nothing to read begins for those too that came meanwhile", async () => {
    const first = await Tab.live(feed.url);
    feed.broadcast({ type: "waiting", reason: "no_table", message: "no table any more" });
    await first.state("waiting");
    const second = await Tab.following(feed.url);
    await second.state("waiting");
    feed.epoch = "second";
    feed.broadcast({ type: "reset", epoch: "second", reason: "table_recreated", head: 0, earliest: null });
    feed.broadcast({ type: "live", id: 0 });
    for (const tab of [first, second]) await tab.state("live");
    feed.insert(...rows(1, 2));
    for (const tab of [first, second]) await tab.rows([1, 2]);
    expect(feed.connections.length).toBe(1);
  });

  // Whatever comes together, each tab's rows are a gapless piece of the table from where it began.
  test.each([1, 2, 3])("at random (%i)", async (seed) => {
    let state = seed * 7919;
    const random = (below: number): number => {
      state = (state * 1103515245 + 12345) % 2 ** 31;
      return Math.floor((state / 2 ** 31) * below);
    };
    const tabs: Array<{ tab: Tab; begins: number | null }> = [];
    let next = 1;
    for (let step = 0; step < 60; step += 1) {
      const choice = random(12);
      if (choice < 5) feed.insert(...rows(next, (next += 1 + random(400)) - 1));
      else if (choice < 8 && tabs.length < 6) {
        const since = random(next);
        const begin = random(3);
        const options = begin === 0 ? {} : begin === 1 ? { since, epoch: "first" } : { last: 1 + random(200) };
        tabs.push({ tab: await Tab.following(feed.url, options), begins: begin === 1 ? since : null });
      } else if (choice < 9) for (const socket of feed.sockets) socket.terminate();
      else if (choice < 10 && tabs.length > 1) {
        const [gone] = tabs.splice(random(tabs.length), 1);
        await (random(2) === 0 ? gone!.tab.page.close() : gone!.tab.crash());
      } else if (choice < 11) void tabs[random(tabs.length || 1)]?.tab.standStill(random(900)).catch(() => {});
      else await new Promise((resolve) => setTimeout(resolve, random(200)));
    }
    for (const { tab } of tabs) await tab.state("live");
    feed.insert(...rows(next, next));
    for (const { tab, begins } of tabs) {
      await expect.poll(async () => (await tab.told()).ids.at(-1), { timeout: 90_000 }).toBe(next);
      const { ids, resets } = await tab.told();
      expect(ids).toEqual(numbers(begins === null ? Number(ids[0]) : begins + 1, next));
      expect(resets).toEqual([]);
    }
    await oneSocket();
  });
});
