// What the browser tests stand on: the real daemon on a file of its own, a real Python writer, a real Chromium.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import { get } from 'node:https';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
export const BINARY = process.env.WALCAST_BIN ?? here('../../target/debug/walcast');
const CHROMIUM = process.env.CHROMIUM_BIN ?? '/usr/bin/chromium';
/** How long any condition may take before a test fails: a bound for a busy machine, not a promise. */
export const PATIENCE_MS = 60_000;

/** Has the changes of a table logged; `options` are those of `walcast capture install`. */
export async function capture(db, table, options = []) {
  await promisify(execFile)(BINARY, ['capture', 'install', '--db', db, ...options, table]);
}

/** A token of walcast's own, or a JWT, with its secret. */
const CREDENTIAL = /wct_[a-z0-9]{8}_[\w-]{16}|eyJ[\w-]*\.[\w-]+\.[\w-]{16}/;

const deferred = new WeakMap();

/** Undoes things when the test is over, the last one first (`t.after` goes from the first): pages close before their daemon. */
export function defer(t, undo) {
  const stack = deferred.get(t) ?? [];
  if (stack.push(undo) > 1) return;
  deferred.set(t, stack);
  t.after(async () => {
    const errors = [];
    while (stack.length > 0) await Promise.resolve().then(stack.pop()).catch((error) => errors.push(error));
    if (errors.length > 0) throw errors[0];
  });
}

/** A directory that is removed when the test is over. */
export async function workspace(t) {
  const dir = await mkdtemp(join(tmpdir(), 'walcast-browser-'));
  defer(t, () => rm(dir, { recursive: true, force: true }));
  return dir;
}

export class Daemon {
  /** Starts on `dir/events.db` and a free port; `args` are further arguments, `ca` who vouches for it over TLS. Stopped with the test. */
  static async start(t, dir, args = [], ca = undefined) {
    const daemon = new Daemon(dir, args, ca);
    defer(t, () => daemon.kill());
    await daemon.up();
    return daemon;
  }

  constructor(dir, args, ca) {
    this.dir = dir;
    this.args = args;
    this.ca = ca;
    this.db = join(dir, 'events.db');
    this.port = 0;
    this.log = '';
  }

  get url() {
    return this.ca ? `https://localhost:${this.port}/` : `http://127.0.0.1:${this.port}/`;
  }

  /** Starts the process, on the port it had before if it ran already. */
  async up() {
    const state = join(this.dir, 'state');
    await mkdir(state, { recursive: true });
    const args = ['serve', '--db', this.db, '--listen', `127.0.0.1:${this.port}`, '--state-dir', state, ...this.args];
    this.process = spawn(BINARY, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    this.gone = once(this.process, 'exit');
    const address = Promise.withResolvers ? Promise.withResolvers() : withResolvers();
    this.process.on('error', address.reject);
    this.process.stderr.setEncoding('utf8').on('data', (text) => {
      this.log += text;
      const port = /https?:\/\/127\.0\.0\.1:(\d+)/.exec(this.log)?.[1];
      if (port) address.resolve(Number(port));
    });
    this.gone.then(([code]) => address.reject(new Error(`walcast exited with ${code}:\n${this.log}`)));
    this.port = await address.promise;
    await this.ready();
  }

  /** The port is bound before the routes answer. */
  async ready() {
    const end = Date.now() + PATIENCE_MS;
    for (;;) {
      try {
        if (await this.#isWell()) return;
      } catch (error) {
        if (Date.now() > end) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async #isWell() {
    const url = new URL('healthz', this.url);
    if (!this.ca) return (await fetch(url)).ok;
    const [answer] = await once(get(url, { ca: this.ca, agent: false }), 'response');
    answer.resume();
    return answer.statusCode === 200;
  }

  /** An orderly end: goodbye, drain, exit. */
  async stop() {
    this.process.kill('SIGTERM');
    await this.over();
  }

  /** `kill -9`. */
  async kill() {
    if (this.process?.exitCode === null && this.process.signalCode === null) this.process.kill('SIGKILL');
    await this.over();
  }

  /** When it has ended: a log tells no token and no JWT. */
  async over() {
    await this.gone;
    const log = this.log;
    this.log = '';
    if (CREDENTIAL.test(log)) throw new Error(`a credential is in the log:\n${log}`);
  }

  async json(path) {
    return (await fetch(new URL(path, this.url))).json();
  }
}

function withResolvers() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}

export class Writer {
  /** A Python process that writes to `db` until the test is over. */
  static start(t, db) {
    const writer = new Writer(db);
    defer(t, () => writer.process.kill());
    return writer;
  }

  constructor(db) {
    this.process = spawn('python3', [here('writer.py'), db], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.answers = createInterface({ input: this.process.stdout })[Symbol.asyncIterator]();
  }

  async #order(order) {
    this.process.stdin.write(`${JSON.stringify(order)}\n`);
    const { value, done } = await this.answers.next();
    if (done) throw new Error('the writer ended');
    return JSON.parse(value);
  }

  /** Commits one row; resolves with its id and the moment the commit had returned. */
  insert(row, table = 'remediation_events') {
    return this.#order({ table, row });
  }

  /** Commits one event of the stock table. */
  event(fields = {}) {
    return this.insert({
      ts: new Date().toISOString(), alertname: 'DiskFull', tenant: 'acme', action: 'clean_disk', status: 'success', details: 'freed 3 GB',
      ...fields,
    });
  }

  sql(script) {
    return this.#order({ sql: script });
  }
}

/** A host that is neither loopback nor the daemon's own, as far as the browser can tell. */
export const FOREIGN_HOST = 'console.test';
/** The site of the manual. */
export const SITE = 'console.example.com';

/**
 * A reverse proxy as people set it up wrongly: it names the daemon's own address as `Host`, so that the
 * daemon can't know the page's origin for its own. Resolves with the proxy's address under `FOREIGN_HOST`.
 */
export async function misconfiguredProxy(t, daemon) {
  const headers = (incoming) => ({ ...incoming.headers, host: `127.0.0.1:${daemon.port}` });
  const ask = (incoming) => request({ host: '127.0.0.1', port: daemon.port, method: incoming.method, path: incoming.url, headers: headers(incoming) });
  const server = createServer((incoming, outgoing) => {
    const asked = ask(incoming);
    asked.on('response', (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers);
      answer.pipe(outgoing);
    });
    asked.on('error', () => outgoing.destroy());
    incoming.pipe(asked);
  });
  server.on('upgrade', (incoming, socket) => {
    const upstream = connect(daemon.port, '127.0.0.1');
    const lines = Object.entries(headers(incoming)).map(([name, value]) => `${name}: ${value}\r\n`);
    upstream.write(`${incoming.method} ${incoming.url} HTTP/1.1\r\n${lines.join('')}\r\n`);
    upstream.pipe(socket).pipe(upstream);
    for (const end of [upstream, socket]) end.on('error', () => upstream.destroy() && socket.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  defer(t, () => {
    server.close();
    server.closeAllConnections();
  });
  return `http://${FOREIGN_HOST}:${server.address().port}/`;
}

let browser;

/** One Chromium for the whole file; it is closed with the last test. `home` is where it looks whom it may believe. */
export async function launch(home = undefined) {
  browser ??= await chromium.launch({
    executablePath: CHROMIUM,
    env: home ? { ...process.env, HOME: home } : process.env,
    args: [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
      `--host-resolver-rules=MAP ${FOREIGN_HOST} 127.0.0.1, MAP ${SITE} 127.0.0.1`,
    ],
  });
  return browser;
}

export async function quit() {
  await browser?.close();
  browser = undefined;
}

// What Chromium itself prints of a request that found no daemon.
const NETWORK = /^Failed to load resource|^WebSocket connection to /;

/**
 * A page in a context of its own that fails the test on any error in its console.
 * `page.expectsOutage = true` excuses the browser's own words on a daemon that is down.
 */
export async function openPage(t, url, { script, ...options } = {}) {
  const context = await (await launch()).newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.expectsOutage = false;
  page.faults = [];
  page.on('pageerror', (error) => page.faults.push(`exception: ${error.stack}`));
  page.on('dialog', (dialog) => {
    page.faults.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on('console', (message) => {
    if (!['error', 'warning'].includes(message.type())) return;
    if (page.expectsOutage && NETWORK.test(message.text())) return;
    page.faults.push(`${message.type()}: ${message.text()}`);
  });
  defer(t, async () => {
    await context.close();
    if (page.faults.length > 0) throw new Error(`the page complained:\n${page.faults.join('\n')}`);
  });
  if (script) await script(page);
  await page.goto(url);
  return page;
}
