// What the page offers to be pasted works as pasted, with and without filters and a token; and a test event is sent from it.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { BINARY, Daemon, PATIENCE_MS, Writer, capture, defer, launch, openPage, quit, workspace } from './daemon.mjs';

// Started before the first page waits for it.
await launch();
after(quit);

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
/** A Python that has the walcast package; tests/run makes it. */
const PYTHON = process.env.WALCAST_PYTHON ?? here('../../target/python-client/bin/python');
const CLIENT = here('../../web/client');

const live = (page) => page.locator('#dot[title="Live"]').waitFor();

/** A daemon that asks for tokens, and one that is good. */
async function secured(t) {
  const dir = await workspace(t);
  const config = join(dir, 'walcast.toml');
  await writeFile(config, `[auth]
tokens = ${JSON.stringify(join(dir, 'tokens.toml'))}

[feeds.remediation]
table = "remediation_events"
message = { type = "remediation_event", body = "event" }
create = true
scope = "none"
`);
  const add = ['token', 'add', 'reader', '--feed', 'remediation', '--config', config];
  const token = execFileSync(BINARY, add, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  return { token, daemon: await Daemon.start(t, dir, ['--config', config]) };
}

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

/** A page that shows the component `name` of a module, built as its readers build theirs. */
async function rendered(t, module, name, props = {}) {
  const dir = await project(t);
  for (const each of ['react', 'react-dom']) await symlink(join(CLIENT, 'node_modules', each), join(dir, 'node_modules', each));
  await writeFile(join(dir, 'feed.jsx'), module);
  await writeFile(join(dir, 'main.jsx'), `import { createRoot } from "react-dom/client";
import { ${name} } from "./feed.jsx";
createRoot(document.querySelector("main")).render(<${name} {...${JSON.stringify(props)}} />);
`);
  const args = ['main.jsx', '--bundle', '--format=esm', '--jsx=automatic', '--outfile=page.js', '--log-level=warning'];
  const built = spawn(join(CLIENT, 'node_modules/.bin/esbuild'), args, { cwd: dir, stdio: 'inherit' });
  assert.deepEqual(await once(built, 'exit'), [0, null]);
  const script = await readFile(join(dir, 'page.js'), 'utf8');
  const server = createServer((request, response) => {
    const isScript = request.url === '/page.js';
    response.setHeader('Content-Type', isScript ? 'text/javascript' : 'text/html');
    response.end(isScript ? script : '<!doctype html><link rel=icon href=data:,><main></main><script type=module src=/page.js></script>');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  defer(t, () => server.close());
  return openPage(t, `http://127.0.0.1:${server.address().port}/`);
}

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

for (const [way, run] of Object.entries(RUN)) {
  test(`what is offered for ${way} works with a token`, async (t) => {
    const { daemon, token } = await secured(t);
    await Writer.start(t, daemon.db).event({ details: 'came before' });
    const page = await openPage(t, `${daemon.url}#/remediation?token=${token}`);
    await live(page);
    await run(t, await offered(page, way), 'came before', { ...process.env, WALCAST_TOKEN: token });
  });
}

test('what is offered for a browser works with a token', async (t) => {
  const { daemon, token } = await secured(t);
  await Writer.start(t, daemon.db).event({ details: 'came before' });
  const page = await openPage(t, `${daemon.url}#/remediation?token=${token}`);
  await live(page);
  const script = await offered(page, 'Browser');
  assert.match(script, /"wct_…"/);
  // The browser asks for an icon there, and is refused.
  const other = await openPage(t, `${daemon.url}healthz`, { script: (one) => { one.expectsOutage = true; } });
  const row = other.waitForEvent('console', (message) => message.type() === 'log');
  await other.addScriptTag({ content: script.replace('wct_…', token) });
  assert.equal((await (await row).args()[0].jsonValue()).details, 'came before');
});

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

test('what is offered for React works in a page, with filters and a token', async (t) => {
  const { daemon, token } = await secured(t);
  const writer = Writer.start(t, daemon.db);
  await writer.event({ tenant: "it's & co", details: 'came before' });
  await writer.event({ tenant: 'globex' });
  const filters = new URLSearchParams([['tenant', "it's & co"], ['tenant', 'acme']]);
  const page = await openPage(t, `${daemon.url}#/remediation?${filters}&token=${token}`);
  await live(page);
  const shown = await rendered(t, await offered(page, 'React'), 'Remediation', { token });
  await shown.locator('ol[aria-label=live]').waitFor({ state: 'attached' });
  await shown.getByText('came before').waitFor();
  await writer.event({ tenant: 'acme', details: 'came live' });
  await shown.getByText('came live').waitFor();
  assert.deepEqual(await shown.locator('li').evaluateAll((rows) => rows.map((row) => JSON.parse(row.textContent).id)), [3, 1]);
});

test('what is offered for React works in a page, for a feed with a name and a key of its own', async (t) => {
  const dir = await workspace(t);
  const writer = Writer.start(t, join(dir, 'events.db'));
  await writer.sql('CREATE TABLE "2nd order-lines" (n INTEGER PRIMARY KEY, what TEXT)');
  const config = join(dir, 'walcast.toml');
  await writeFile(config, 'feeds = "*"\n');
  const daemon = await Daemon.start(t, dir, ['--config', config]);
  const [{ name }] = (await daemon.json('api/feeds')).feeds;
  const page = await openPage(t, `${daemon.url}#/${name}`);
  await live(page);
  const script = await offered(page, 'React');
  const shown = await rendered(t, script, /export function (\w+)/.exec(script)[1]);
  await shown.locator('ol[aria-label=live]').waitFor({ state: 'attached' });
  await writer.insert({ what: 'two dozen' }, '2nd order-lines');
  await shown.getByText('two dozen').waitFor();
});

/** A daemon with a captured table of two customers' orders, and a page that shows the changes of one. */
async function changes(t) {
  const dir = await workspace(t);
  const config = join(dir, 'walcast.toml');
  const db = join(dir, 'events.db');
  await writeFile(config, '[feeds.orders]\ntable = "orders"\ncapture = "keys"\ncapture_filters = ["customer"]\n');
  const writer = Writer.start(t, db);
  await writer.sql("CREATE TABLE orders (region TEXT, n INTEGER, customer TEXT, PRIMARY KEY (region, n)); INSERT INTO orders VALUES ('eu', 1, 'it''s me'), ('eu', 2, 'globex')");
  await capture(db, 'orders', ['--filter', 'customer']);
  const daemon = await Daemon.start(t, dir, ['--config', config]);
  const page = await openPage(t, `${daemon.url}#/orders?${new URLSearchParams({ customer: "it's me" })}`);
  await live(page);
  return { daemon, page, writer };
}

for (const way of ['JavaScript', 'Python']) {
  test(`of a feed of changes ${way} is offered a copy of the table, as its reader asked for it`, async (t) => {
    const { page } = await changes(t);
    const script = await offered(page, way);
    assert.match(script, /table/i);
    await RUN[way](t, script, 'whole', process.env);
  });
}

test('of a feed of changes a browser is offered a copy of the table', async (t) => {
  const { daemon, page, writer } = await changes(t);
  const script = await offered(page, 'Browser');
  const other = await openPage(t, `${daemon.url}healthz`, { script: (one) => { one.expectsOutage = true; } });
  const told = [];
  other.on('console', (message) => message.type() === 'log' && told.push(message.text()));
  const whole = other.waitForEvent('console', (message) => message.text().startsWith('whole'));
  await other.addScriptTag({ content: script });
  assert.match((await whole).text(), / 1$/);
  const change = other.waitForEvent('console', (message) => message.text().startsWith('d'));
  await writer.sql('DELETE FROM orders WHERE n = 1');
  assert.match((await change).text(), / 0$/);
  assert.equal(told.length, 2);
});

test('of a feed of changes React is offered the table as it is', async (t) => {
  const { page, writer } = await changes(t);
  const shown = await rendered(t, await offered(page, 'React'), 'Orders');
  await shown.locator('ul[aria-label=live]').waitFor({ state: 'attached' });
  await shown.getByText('"n":1').waitFor();
  await writer.sql("UPDATE orders SET customer = 'it''s me' WHERE n = 2; DELETE FROM orders WHERE n = 1");
  await shown.getByText('"n":2').waitFor();
  await shown.getByText('"n":1').waitFor({ state: 'detached' });
  assert.equal(await shown.locator('li').count(), 1);
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
