// The examples in Chromium, against the real daemon and a real writer.
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { EXAMPLES, openBrowser, openPage, PageServer, type WatchedPage } from "../harness/browser.js";
import { Daemon, daemonBinary } from "../harness/daemon.js";

const CONSOLE = join(EXAMPLES, "react-console");

describe.skipIf(daemonBinary() === null)("in Chromium", () => {
  let browser: Browser;
  let daemon: Daemon;
  let server: PageServer;
  const watched: WatchedPage[] = [];

  beforeAll(async () => {
    // Anew, so that the console has the client as it was just built.
    execFileSync("npm", ["ci", "--no-audit", "--no-fund"], { cwd: CONSOLE, stdio: "pipe" });
    browser = await openBrowser();
  }, 300_000);

  afterAll(() => browser.close());

  beforeEach(async () => {
    daemon = await new Daemon().start();
  });

  afterEach(async () => {
    const complaints = watched.flatMap((each) => each.complaints);
    for (const { page } of watched.splice(0)) await page.close();
    server.stop();
    await daemon.remove();
    expect(complaints).toEqual([]);
  });

  async function show(url: string): Promise<Page> {
    const opened = await openPage(browser, url);
    watched.push(opened);
    return opened.page;
  }

  const HOSTILE = { alertname: "<script>alert(1)</script>", tenant: '"\'&', action: "𝕬\n\u0000", status: null, details: null };
  const named = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, index) => ({ alertname: `a${first + index}`, tenant: "acme" }));

  /** Resolves when the ids in the list are exactly these. */
  async function listed(page: Page, selector: string, ids: number[]): Promise<void> {
    const list = () => page.locator(selector).evaluateAll((items) => items.map((item) => Number((item as HTMLElement).dataset.id)));
    await expect.poll(list, { timeout: 90_000, interval: 20 }).toEqual(ids);
  }

  const descending = (from: number, to: number) => Array.from({ length: from - to + 1 }, (_, index) => from - index);

  test("the React console", async () => {
    daemon.insert(...named(1, 12), HOSTILE);
    server = new PageServer("node", ["node_modules/vite/bin/vite.js", "--port", "0"], CONSOLE, { VITE_WALCAST_URL: daemon.http });
    const page = await show(await server.address());
    const recent = "[data-walcast=recent-remediations] li";
    const dot = (title: string) => page.locator(`[data-walcast=recent-remediations] [title=${title}]`).waitFor();

    await dot("Live");
    await listed(page, recent, descending(13, 4));
    expect(await page.locator(recent).first().textContent()).toContain("<script>alert(1)</script>");
    await page.getByText("13 in the table").waitFor();
    expect(await page.locator("tbody tr").count()).toBe(13);

    daemon.insert(...named(14, 113));
    await listed(page, recent, descending(113, 104));
    await page.getByText("113 in the table").waitFor();
    const column = await page.locator("tbody td:first-child").allTextContents();
    expect(column.map(Number)).toEqual(descending(113, 1));
    await page.getByText("Latest: a113 for acme").waitFor();

    await daemon.stop("SIGKILL");
    await dot("Polling");
    await page.getByText("can't be reached").first().waitFor();
    daemon.insert(...named(114, 120));
    await daemon.start();
    await dot("Live");
    await listed(page, recent, descending(120, 111));

    await page.getByLabel("Tenant").selectOption("acme");
    await page.getByText("119 in the table").waitFor();

    await daemon.stop();
    daemon.removeDatabase();
    daemon.insert({ alertname: "restored", ts: "2026-03-03T00:00:00Z" });
    await daemon.start();
    await listed(page, recent, [1]);
  });

  test("the plain page", async () => {
    daemon.insert(...named(1, 3), HOSTILE);
    server = new PageServer("python3", ["-m", "http.server", "0", "--bind", "127.0.0.1"], join(EXAMPLES, "plain"));
    const page = await show(`${await server.address()}?server=${daemon.http}`);
    await page.locator("[title=Live]").waitFor();
    await listed(page, "#events li", [4, 3, 2, 1]);
    expect(await page.locator("#events li").first().textContent()).toContain("<script>alert(1)</script> · \"'& · 𝕬");

    await daemon.stop("SIGKILL");
    await page.locator("[title='Not connected']").waitFor();
    daemon.insert(...named(5, 6));
    await daemon.start();
    await listed(page, "#events li", [6, 5, 4, 3, 2, 1]);

    execFileSync("python3", [join(EXAMPLES, "writer.py"), daemon.database, "-n", "3", "-i", "0"]);
    await listed(page, "#events li", descending(9, 1));
  });
});
