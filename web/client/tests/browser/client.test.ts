// The client in Chromium, where a page learns less of a failed connection than Node.js does.
import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { openBrowser, openPage } from "../harness/browser.js";
import { rows, ScriptedFeed } from "../harness/scripted-feed.js";

const PAGE = `<!doctype html><link rel=icon href=data:,><script type=module>import { subscribe } from "/index.js"; globalThis.subscribe = subscribe;</script>`;
const DIST = new URL("../../dist/", import.meta.url);

let browser: Browser;
let modules: Server;
let feed: ScriptedFeed;
let page: Page;

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
  feed = await new ScriptedFeed().start();
  ({ page } = await openPage(browser, `http://127.0.0.1:${(modules.address() as AddressInfo).port}/`));
});

afterEach(async () => {
  await page.close();
  await feed.stop();
});

/** Subscribes in the page; what it is told is in `window.told`. */
async function follow(options: object = {}): Promise<void> {
  await page.evaluate(
    ([url, given]) => {
      const { subscribe } = globalThis as unknown as { subscribe: (url: string, options: object) => unknown };
      const told = { ids: [] as unknown[], errors: [] as string[], state: "" };
      const timing = { pollIntervalMs: 60, backoffMinMs: 10, backoffMaxMs: 40 };
      const subscription = subscribe(url, {
        timing,
        ...given,
        onEvent: (row: { id: unknown }) => told.ids.push(row.id),
        onStatus: ({ state }: { state: string }) => (told.state = state),
        onError: ({ code }: { code: string }) => told.errors.push(code),
      });
      Object.assign(globalThis, { told, subscription });
    },
    [feed.url, options] as const,
  );
}

interface Told {
  ids: unknown[];
  errors: string[];
  state: string;
}

async function told(expected: Partial<Told>): Promise<void> {
  const read = () => page.evaluate(() => (globalThis as unknown as { told: Told }).told);
  await expect.poll(read, { timeout: 90_000, interval: 20 }).toMatchObject(expected);
}

test("live, lost, polling with a header of its own, live again", async () => {
  await follow({ since: "earliest", headers: { "X-User-Roles": "ops" }, token: "secret" });
  await told({ state: "live" });
  feed.insert(...rows(1, 3));
  await told({ ids: [1, 2, 3] });
  feed.refuseUpgrade = 503;
  for (const socket of feed.sockets) socket.terminate();
  feed.rows.push(...rows(4, 5));
  await told({ ids: [1, 2, 3, 4, 5], state: "polling" });
  expect(feed.connections[0]!.protocol).toBe("walcast.v1, walcast.bearer.secret");
  expect(feed.historyRequests.at(-1)!.headers).toMatchObject({ authorization: "Bearer secret", "x-user-roles": "ops" });
  feed.refuseUpgrade = null;
  await told({ state: "live" });
});

test("an origin that is refused, and a server that is gone, are told apart", async () => {
  feed.allowsOrigins = false;
  feed.refuseUpgrade = 403;
  await follow();
  await told({ errors: ["origin_refused"], state: "refused" });
  await feed.stop();
  await told({ errors: ["origin_refused", "unreachable"] });
  feed.allowsOrigins = true;
  feed.refuseUpgrade = null;
  await feed.start();
  await told({ state: "live" });
});

test("an unknown feed, in the server's words", async () => {
  feed.refuseUpgrade = 404;
  feed.historyAnswer = { status: 404, body: '{"error":{"code":"unknown_feed","message":"there is no feed nowhere"}}' };
  await follow();
  await told({ errors: ["unknown_feed"], state: "refused" });
});

test("a wait is cut short when the network is back", async () => {
  await feed.stop();
  const patience = { pollIntervalMs: 600_000, backoffMinMs: 600_000, backoffMaxMs: 600_000 };
  await follow({ timing: patience });
  await told({ errors: ["unreachable"] });
  await feed.start();
  await page.context().setOffline(true);
  await page.context().setOffline(false);
  await told({ state: "live" });
});
