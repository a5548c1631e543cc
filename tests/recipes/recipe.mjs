// A recipe of examples/recipes as its readers run it, a daemon behind it, and what must come to its page.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Daemon, Writer, defer, openPage, workspace } from '../browser/daemon.mjs';

export const RECIPES = fileURLToPath(new URL('../../examples/recipes/', import.meta.url));
const CLIENT = fileURLToPath(new URL('../../web/client/', import.meta.url));
/** A server that prepares a page for the first time, on a busy machine. */
const FIRST_PAGE_MS = 120_000;

/** Installs what a recipe's lock file says, and the client as it is now. */
export function install(name) {
  npm(`${RECIPES}${name}`, ['ci']);
}

/** Builds the client that the recipes install. */
export function buildClient() {
  npm(CLIENT, ['ci']);
  npm(CLIENT, ['run', 'build']);
}

/** Builds a recipe as it would be for production. */
export function build(name, environment = {}) {
  npm(`${RECIPES}${name}`, ['run', 'build'], environment);
}

function npm(cwd, args, environment = {}) {
  try {
    execFileSync('npm', [...args, '--no-audit', '--no-fund', '--loglevel=error'], {
      cwd, stdio: 'pipe', encoding: 'utf8', env: { ...process.env, NEXT_TELEMETRY_DISABLED: '1', ...environment },
    });
  } catch (error) {
    throw new Error(`npm ${args.join(' ')} in ${cwd}:\n${error.stdout}\n${error.stderr}`);
  }
}

/** Starts a recipe's web server, which prints its address; resolves with that. Stopped with the test. */
export async function serve(t, name, command, environment = {}) {
  const [program, ...args] = command;
  const server = spawn(program, args, {
    cwd: `${RECIPES}${name}`, stdio: ['ignore', 'pipe', 'pipe'],
    // A group of its own, for it may have children.
    detached: true,
    env: { ...process.env, NO_COLOR: '1', PYTHONUNBUFFERED: '1', NEXT_TELEMETRY_DISABLED: '1', ...environment },
  });
  const gone = once(server, 'exit');
  defer(t, async () => {
    if (server.exitCode === null && server.signalCode === null) process.kill(-server.pid, 'SIGKILL');
    await gone;
  });
  let output = '';
  const address = new Promise((resolve, reject) => {
    server.on('error', reject);
    for (const stream of [server.stdout, server.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        output += text;
        const found = /http:\/\/127\.0\.0\.1:\d+\/?/.exec(output);
        if (found) resolve(found[0]);
      });
    }
  });
  return Promise.race([address, gone.then(([code]) => { throw new Error(`${name} ended with ${code}:\n${output}`); })]);
}

const named = (first, last) => Array.from({ length: last - first + 1 }, (_, index) => `alert ${first + index}`);

/**
 * What each recipe must do: rows that were there, rows as they come, and after a restart of the daemon those that were
 * written meanwhile; each once, newest first. `start(daemon)` resolves with the page's address; `args` are the daemon's.
 */
export async function shows(t, start, args = () => []) {
  const dir = await workspace(t);
  const daemon = await Daemon.start(t, dir, await args(dir));
  const writer = Writer.start(t, daemon.db);
  const insert = async (...names) => {
    for (const alertname of names) await writer.event({ alertname });
  };
  await insert(...named(1, 3), '<b>bold</b>');

  const page = await openPage(t, 'about:blank');
  page.expectsOutage = true;
  await page.goto(await start(daemon, dir), { timeout: FIRST_PAGE_MS });
  const listed = async (last) => {
    const wanted = Array.from({ length: last }, (_, index) => last - index);
    await page.locator(`#events li[data-id="${last}"]`).waitFor();
    const ids = await page.locator('#events li').evaluateAll((items) => items.map((item) => Number(item.dataset.id)));
    assert.deepEqual(ids, wanted);
  };
  await listed(4);
  assert.match(await page.locator('#events li').first().textContent(), /^\s*<b>bold<\/b> · acme · success\s*$/);

  await insert('one, then silence');
  await listed(5);
  await insert(...named(6, 25));
  await listed(25);

  await daemon.stop();
  await insert(...named(26, 35));
  await daemon.up();
  await listed(35);
  await insert('after the restart');
  await listed(36);
  return { page, daemon, insert, listed };
}
