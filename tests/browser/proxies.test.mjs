// Pages behind the proxies of the manual: each user's own rows, and what becomes of a token there.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { get } from 'node:http';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { promisify } from 'node:util';
import { BINARY, Daemon, SITE, Writer, launch, openPage, quit, workspace } from './daemon.mjs';
import { doorman, missing, proxy, proxyThatAuthenticates } from './proxy.mjs';

// Started before the first page waits for it.
await launch();
after(quit);

const run = promisify(execFile);
const live = (page) => page.locator('#dot[title="Live"]').waitFor();
const AUTH = {
  proxy: () => '[auth.proxy]\nuser = "X-Auth-User"\n[feeds.orders]\nscope = { customer = "header:X-Tenant" }\n',
  tokens: (dir, keys = '') => `[auth]\ntokens = ${JSON.stringify(join(dir, 'tokens.toml'))}\n${keys}[feeds.orders]\nscope = { customer = "claim:customer" }\n`,
};

/** A daemon that is behind a proxy, with orders 1 and 3 of acme and 2 of globex; `order` writes one more and gives its id. */
async function shop(t, auth) {
  const dir = await workspace(t);
  const config = join(dir, 'walcast.toml');
  await writeFile(config, `hosts = ["${SITE}"]\ntrusted_proxies = ["127.0.0.1"]\n${auth(dir)}`);
  const token = async (...args) => (await run(BINARY, ['token', ...args, '--config', config])).stdout.trim();
  const mint = (name, customer, ...more) => token('add', name, '--feed', 'orders', '--where', `customer=${customer}`, ...more);
  const writer = Writer.start(t, join(dir, 'events.db'));
  await writer.sql('CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, what TEXT)');
  const order = async (customer) => (await writer.insert({ customer, what: 'tea' }, 'orders')).id;
  for (const customer of ['acme', 'globex', 'acme']) await order(customer);
  const start = () => Daemon.start(t, dir, ['--config', config]);
  return { order, token, mint, start };
}

const cookie = (name, value, url) => ({ script: (page) => page.context().addCookies([{ name, value, url }]) });

/** The ids of the rows that a page shows. */
async function shown(page) {
  const ids = await page.locator('.row').locator('visible=true').evaluateAll((rows) => rows.map(({ id }) => Number(id.replace('row-', ''))));
  return ids.sort((a, b) => a - b);
}

/** What an EventSource of the page is sent, up to the row with this id. */
function streamed(page, last) {
  return page.evaluate((last) => new Promise((resolve, reject) => {
    const events = new EventSource('/sse/orders?since=earliest');
    const ids = [];
    events.onerror = () => reject(new Error('the stream broke'));
    events.onmessage = ({ data }) => {
      ids.push(JSON.parse(data).event.id);
      if (ids.at(-1) < last) return;
      events.close();
      resolve(ids);
    };
  }), last);
}

for (const name of ['nginx', 'caddy']) {
  test(`behind ${name}, which asks who somebody is, each sees his own rows`, { skip: missing(name) }, async (t) => {
    const { order, start } = await shop(t, AUTH.proxy);
    const door = await doorman(t, { 'session=1': { user: 'alice', tenant: 'acme' }, 'session=2': { user: 'bob', tenant: 'globex' } });
    const url = await proxyThatAuthenticates(t, name, await start(), door);
    const pages = [];
    for (const [session, ids] of [['1', [1, 3]], ['2', [2]]]) {
      const page = await openPage(t, url, cookie('session', session, url));
      await live(page);
      await page.locator(`#row-${ids[0]}`).waitFor();
      assert.deepEqual(await shown(page), ids);
      pages.push(page);
    }
    const [alice, bob] = pages;
    const [globex, acme] = [await order('globex'), await order('acme')];
    await alice.locator(`#row-${acme}`).waitFor();
    await bob.locator(`#row-${globex}`).waitFor();
    assert.deepEqual(await shown(alice), [1, 3, acme]);
    assert.deepEqual(await shown(bob), [2, globex]);
    assert.deepEqual(await streamed(alice, acme), [1, 3, acme]);
    assert.deepEqual(await streamed(bob, globex), [2, globex]);
    // Whoever is not logged in does not even get the page.
    const { host, port } = new URL(url);
    const [answer] = await once(get({ host: '127.0.0.1', port, headers: { Host: host } }), 'response');
    answer.destroy();
    assert.equal(answer.statusCode, 401);
  });

  test(`behind ${name} a token that is revoked ends the page's view`, { skip: missing(name) }, async (t) => {
    const { order, token, mint, start } = await shop(t, AUTH.tokens);
    const [acme, globex] = [await mint('acme', 'acme'), await mint('globex', 'globex')];
    const url = await proxy(t, name, await start());
    const refused = { script: (page) => { page.expectsOutage = true; } };
    const page = await openPage(t, `${url}#token=${acme}`, refused);
    const other = await openPage(t, `${url}#token=${globex}`);
    for (const each of [page, other]) await live(each);
    await page.locator('#row-3').waitFor();
    assert.deepEqual(await shown(page), [1, 3]);
    await token('revoke', 'acme');
    await page.getByText('The token is no longer valid').waitFor();
    assert.deepEqual(await shown(page), []);
    const id = await order('globex');
    await other.locator(`#row-${id}`).waitFor();
    assert.deepEqual(await shown(other), [2, id]);
  });

  test(`behind ${name} a token that expires is followed by a fresh one, and no row is lost`, { skip: missing(name) }, async (t) => {
    const { order, mint, start } = await shop(t, AUTH.tokens);
    const tokens = [await mint('short', 'acme', '--expires', '6s'), await mint('fresh', 'acme')];
    const url = await proxy(t, name, await start());
    const page = await openPage(t, url, { script: (page) => { page.expectsOutage = true; } });
    await page.evaluate(async (tokens) => {
      const { subscribe } = await import('/walcast.js');
      window.got = { ids: [], asked: 0, statuses: [], errors: [] };
      subscribe('/ws/orders', {
        since: 'earliest',
        token: () => tokens[Math.min(window.got.asked++, 1)],
        onEvent: ({ id }) => window.got.ids.push(id),
        onStatus: ({ state, transport, message }) => window.got.statuses.push({ state, transport, message }),
        onError: ({ code }) => window.got.errors.push(code),
      });
    }, tokens);
    await page.waitForFunction(() => window.got.statuses.some(({ state, transport }) => state === 'live' && transport === 'websocket'));
    const written = [await order('acme')];
    await page.waitForFunction(() => window.got.asked > 1);
    await order('globex');
    written.push(await order('acme'));
    await page.waitForFunction((last) => window.got.ids.includes(last), written.at(-1));
    const got = await page.evaluate(() => window.got);
    assert.deepEqual(got.ids, [1, 3, ...written]);
    assert.deepEqual(got.errors, []);
    assert.ok(got.statuses.some(({ message }) => message.includes('expired')), JSON.stringify(got.statuses));
  });
}

test('an EventSource that has a token as a cookie sees its own rows until it is revoked', async (t) => {
  const { order, token, mint, start } = await shop(t, (dir) => AUTH.tokens(dir, 'cookie = "walcast"\n'));
  const acme = await mint('acme', 'acme');
  await mint('globex', 'globex');
  const { url } = await start();
  const page = await openPage(t, url, { script: async (page) => {
    page.expectsOutage = true;
    await cookie('walcast', acme, url).script(page);
  } });
  const ids = streamed(page, 5);
  await order('globex');
  await order('acme');
  assert.deepEqual(await ids, [1, 3, 5]);
  await page.evaluate(() => {
    const events = new EventSource('/sse/orders');
    window.told = new Promise((resolve) => {
      events.onopen = () => { window.opened = true; };
      events.addEventListener('goodbye', ({ data }) => resolve(JSON.parse(data).code));
      // It comes back by itself, and is refused for good then.
      window.refused = new Promise((refused) => { events.onerror = () => events.readyState === EventSource.CLOSED && refused(true); });
    });
  });
  await page.waitForFunction(() => window.opened);
  await token('revoke', 'acme');
  assert.equal(await page.evaluate(() => window.told), 4501);
  assert.equal(await page.evaluate(() => window.refused), true);
});
