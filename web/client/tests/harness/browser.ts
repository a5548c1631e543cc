// Pages in a real Chromium, served by the commands that the examples' readers run.
import { spawn, type ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";
import { chromium, type Browser, type Page } from "playwright-core";
import { until } from "./ledger.js";

export const EXAMPLES = fileURLToPath(new URL("../../../../examples/", import.meta.url));

/** A page, and everything it complained of that is not a connection it was meant to lose. */
export interface WatchedPage {
  readonly page: Page;
  readonly complaints: string[];
}

export async function openBrowser(): Promise<Browser> {
  // Without a sandbox, because tests often run as root in a container.
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
}

export async function openPage(browser: Browser, url: string, options: Parameters<Browser["newPage"]>[0] = {}): Promise<WatchedPage> {
  return watched(await browser.newPage(options), url);
}

/** Goes to the address, and writes down what the page complains of. */
export async function watched(page: Page, url: string): Promise<WatchedPage> {
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => {
    const lostConnection = /WebSocket connection to|net::ERR_|Failed to load resource/.test(message.text());
    if (["error", "warning"].includes(message.type()) && !lostConnection) complaints.push(message.text());
  });
  await page.goto(url);
  return { page, complaints };
}

/** A web server that prints its address. */
export class PageServer {
  readonly #process: ChildProcess;
  #output = "";

  constructor(command: string, options: string[], cwd: string, environment: Record<string, string> = {}) {
    this.#process = spawn(command, options, { cwd, env: { ...process.env, NO_COLOR: "1", PYTHONUNBUFFERED: "1", ...environment }, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.#process.stdout!, this.#process.stderr!]) stream.on("data", (text) => (this.#output += text));
  }

  async address(): Promise<string> {
    const pattern = /http:\/\/127\.0\.0\.1:\d+\//;
    await until(() => pattern.test(this.#output) || this.#process.exitCode !== null, () => `an address in: ${this.#output}`);
    const found = pattern.exec(this.#output);
    if (!found) throw new Error(`no address in: ${this.#output}`);
    return found[0];
  }

  stop(): void {
    this.#process.kill();
  }
}
