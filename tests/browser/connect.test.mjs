// What the page offers to be pasted works as pasted, with and without filters and a token; and a test event is sent from it.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { BINARY, Daemon, PATIENCE_MS, Writer, defer, launch, openPage, quit, workspace } from './daemon.mjs';

// Started before the first page waits for it.
await launch();
after(quit);

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
/** A Python that has the walcast package; tests/run makes it. */
const PYTHON = process.env.WALCAST_PYTHON ?? here('../../target/python-client/bin/python');
const CLIENT = here('../../web/client');

const live = (page) => page.locator('#dot[title="Live"]').waitFor();

/** Opens the panel, chooses a way and gives the text that would be copied. */
async function offered(page, way) {
  await page.click('#connect-open');
  await page.getByRole('tab', { name: way, exact: true }).click();
  const text = await page.locator('#connect-code').textContent();
  await page.click('#connect-close');
  return text;
}

/** A directory in which `walcast-client` is installed, as it is built. */
async function project(t) {
  const dir = await workspace(t);
  await access(join(CLIENT, 'dist/index.js')).catch(() => assert.fail('web/client is not built: npm ci && npm run build there, or tests/run browser'));
  await mkdir(join(dir, 'node_modules'));
  await symlink(CLIENT, join(dir, 'node_modules/walcast-client'));
  return dir;
}

/** Runs a program until the test is over; resolves once its output has `text`. */
async function prints(t, text, command, args, options = {}) {
  const program = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  defer(t, async () => {
    program.kill();
    if (program.exitCode === null && program.signalCode === null) await once(program, 'exit');
  });
  let said = '';
  await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${text} within ${PATIENCE_MS} ms:\n${said}`)), PATIENCE_MS);
    const take = (more) => {
      said += more;
      if (said.includes(text)) resolve(clearTimeout(timer));
    };
    program.stdout.setEncoding('utf8').on('data', take);
    program.stderr.setEncoding('utf8').on('data', (more) => { said += more; });
    program.on('error', reject);
    program.on('exit', (code) => reject(new Error(`exit code ${code} before ${text}:\n${said}`)));
  });
  assert.ok(!said.includes('globex'), 'rows the filter leaves out');
}

/** Runs what is offered as its reader would, until it prints `text`. */
const RUN = {
  curl: async (t, script, text, env) => prints(t, text, 'bash', ['-c', `exec ${script}`], { env }),
  tail: async (t, script, text, env) => prints(t, text, 'bash', ['-c', `exec ${script}`], { env: { ...env, PATH: `${dirname(BINARY)}:${env.PATH}` } }),
  JavaScript: async (t, script, text, env) => {
    const dir = await project(t);
    await writeFile(join(dir, 'follow.mjs'), script);
    const flags = Number(process.versions.node.split('.')[0]) < 22 ? ['--experimental-websocket'] : [];
    await prints(t, text, process.execPath, [...flags, 'follow.mjs'], { cwd: dir, env });
  },
  Python: async (t, script, text, env) => {
    const file = join(await workspace(t), 'follow.py');
    await writeFile(file, script);
    await prints(t, text, PYTHON, ['-u', file], { env });
  },
};

for (const [way, run] of Object.entries(RUN)) {
  test(`what is offered for ${way} works as pasted`, async (t) => {
    const daemon = await Daemon.start(t, await workspace(t));
    const writer = Writer.start(t, daemon.db);
    await writer.event({ tenant: "it's & co", details: 'came before' });
    await writer.event({ tenant: 'globex' });
    const filters = new URLSearchParams([['tenant', "it's & co"], ['tenant', 'acme']]);
    const page = await openPage(t, `${daemon.url}#/remediation?${filters}`);
    await live(page);
    await run(t, await offered(page, way), 'came before', process.env);
  });
}

test('what is offered for a browser works in one, and goes on after the daemon was away', async (t) => {
  const daemon = await Daemon.start(t, await workspace(t));
  const writer = Writer.start(t, daemon.db);
  await writer.event({ details: 'came before' });
  await writer.event({ tenant: 'globex' });
  const page = await openPage(t, `${daemon.url}#/remediation?tenant=acme&details=${encodeURIComponent('came before')}&details=${encodeURIComponent('`${1}` "x"')}`);
  await live(page);
  const script = await offered(page, 'Browser');
  const other = await openPage(t, `${daemon.url}healthz`, { script: (one) => { one.expectsOutage = true; } });
  const rows = [];
  other.on('console', async (message) => message.type() === 'log' && rows.push(await message.args()[0].jsonValue()));
  const seen = async (n) => {
    const end = Date.now() + PATIENCE_MS;
    while (rows.length < n && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(rows.length, n, JSON.stringify(rows));
  };
  await other.addScriptTag({ content: script });
  await seen(1);
  page.expectsOutage = true;
  await daemon.stop();
  await writer.event({ details: '`${1}` "x"' });
  await daemon.up();
  await seen(2);
  assert.deepEqual(rows.map(({ id }) => id), [1, 3]);
});

test('a test event fits the columns, and what is wrong with one is said', async (t) => {
  const dir = await workspace(t);
  const config = join(dir, 'walcast.toml');
  await writeFile(config, '[feeds.orders]\ntable = "orders"\ningest = true\n');
  const writer = Writer.start(t, join(dir, 'events.db'));
  await writer.sql('CREATE TABLE orders (id INTEGER PRIMARY KEY, created_at TEXT NOT NULL, n INTEGER NOT NULL, price REAL NOT NULL, b BLOB NOT NULL, what TEXT NOT NULL) STRICT');
  const daemon = await Daemon.start(t, dir, ['--config', config]);
  const page = await openPage(t, daemon.url);
  await live(page);
  await page.getByText('No rows yet').waitFor();
  await page.click('#empty-test');
  await page.click('#connect-send');
  await page.getByText('Committed as id 1.').waitFor();
  // What is there is what comes next: a second one goes as well.
  await page.click('#connect-close');
  await page.locator('#row-1').waitFor();
  await page.click('#connect-open');
  const row = JSON.parse(await page.inputValue('#connect-row'));
  assert.deepEqual(Object.keys(row), ['created_at', 'n', 'price', 'b', 'what']);
  await page.click('#connect-send');
  await page.getByText('Committed as id 2.').waitFor();
  page.expectsOutage = true;
  await page.fill('#connect-row', JSON.stringify({ ...row, n: 'many' }));
  await page.click('#connect-send');
  await page.locator('#connect-result.bad').getByText('"n"').waitFor();
  await page.fill('#connect-row', '{"n":');
  await page.click('#connect-send');
  await page.getByText('This is not JSON').waitFor();
  assert.equal((await daemon.json('api/feeds/orders/events')).total, 2);
});

test('a feed that takes no rows offers none to send', async (t) => {
  const daemon = await Daemon.start(t, await workspace(t));
  const page = await openPage(t, daemon.url);
  await live(page);
  await page.click('#empty-connect');
  await page.locator('#connect[open]').waitFor();
  assert.equal(await page.locator('#connect-test').isVisible(), false);
});
