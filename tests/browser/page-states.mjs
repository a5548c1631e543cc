// Every state the page can be in, for whoever looks at it: axe-core, and eyes (pictures.mjs).

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Daemon, Writer, capture, openPage, workspace } from './daemon.mjs';

/** Of a desk, a tablet and a phone. */
export const WIDTHS = [1280, 768, 375];

const mode = (name) => (page) => page.locator(`#dot[title="${name}"]`).waitFor();

/** A table of orders whose changes are logged in full. */
const ORDERS = {
  captured: 'CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, state TEXT, total REAL, lines TEXT)',
  config: '[feeds.orders]\ntable = "orders"\ncapture = "full"\n',
};

/** Inserts, updates and deletes orders, and waits until all of that is seen. */
async function order(page, writer) {
  await mode('Live')(page);
  const lines = (n) => JSON.stringify({ tea: 'assam', cups: n });
  await writer.sql(`INSERT INTO orders VALUES (1, 'ann', 'new', 10, '${lines(2)}'), (2, 'bob', NULL, 4.5, NULL), (3, 'cleo', 'new', 7, NULL)`);
  await writer.sql(`UPDATE orders SET state = 'paid', lines = '${lines(3)}' WHERE id = 1; UPDATE orders SET id = 20, state = 'new' WHERE id = 2`);
  await writer.sql('DELETE FROM orders WHERE id = 3');
  await page.locator('#row-6').waitFor();
}

/** Name → what makes the daemon's directory, the page's address, and what must be seen before the look. */
export const STATES = {
  live: { rows: 8, seen: mode('Live') },
  'a row opened': {
    rows: 8,
    seen: async (page) => {
      await page.locator('.row').first().click();
      await page.locator('#detail[open]').waitFor();
    },
  },
  'an opened row’s menu': {
    rows: 8,
    seen: async (page) => {
      await page.locator('.row').first().click();
      await page.getByRole('button', { name: 'Filter or copy tenant' }).click();
      await page.locator('#value-menu:popover-open').waitFor();
    },
  },
  'a feed of changes': { ...ORDERS, seen: (page, _daemon, writer) => order(page, writer) },
  'a change opened': {
    ...ORDERS,
    seen: async (page, _daemon, writer) => {
      await order(page, writer);
      await page.click('#row-4');
      await page.locator('#detail[open]').waitFor();
    },
  },
  'connect open': {
    rows: 3,
    config: '[feeds.remediation]\ntable = "remediation_events"\ningest = true\n',
    seen: async (page) => {
      await mode('Live')(page);
      await page.click('#connect-open');
      await page.locator('#connect-test').waitFor();
    },
  },
  'help open': { rows: 3, seen: async (page) => {
    await mode('Live')(page);
    await page.click('#help-open');
  } },
  'searched, sorted, view open': {
    rows: 8,
    seen: async (page) => {
      await mode('Live')(page);
      await page.fill('#search', 'freed');
      await page.getByText(/loaded rows contain/).waitFor();
      await page.locator('[role=columnheader][data-column=status] button').click();
      await page.click('#view-open');
    },
  },
  'filter form open': { rows: 3, seen: async (page) => {
    await mode('Live')(page);
    await page.click('#add-filter');
  } },
  'feeds in a list or a sheet': {
    rows: 3,
    config: 'feeds = "*"\n',
    sql: Array.from({ length: 12 }, (_, i) => `CREATE TABLE t${i} (id INTEGER PRIMARY KEY, what TEXT);`).join(''),
    hash: '#/t3',
    seen: async (page) => {
      await page.locator('a.feed[aria-current=page]').waitFor();
      await page.setViewportSize({ width: 768, height: 800 });
      await page.click('#feeds-open');
      await page.fill('#feed-find', 't1');
    },
  },
  'a token asked for': { config: '[auth]\ntokens = "TOKENS"\n', seen: (page) => page.getByText('A token is needed').waitFor() },
  'a filter the daemon refuses': {
    rows: 2,
    script: (page) => page.route(/events\?/, (route) => route.fulfill({ status: 400, contentType: 'application/json', body: '{"error":{"code":"bad_filter","message":"tenant can’t be compared"}}' })),
    hash: '#/remediation?tenant=acme',
    seen: (page) => page.getByText('The daemon answered with an error').waitFor(),
  },
  polling: { rows: 2, script: (page) => page.routeWebSocket(/\/ws\//, (socket) => socket.close({ code: 1013 })), seen: mode('Polling') },
  'two filters': { rows: 8, hash: '#/remediation?tenant=acme&status=success', seen: mode('Live') },
  'several values of a filter': { rows: 8, hash: '#/remediation?status=success&status=failed&alertname=DiskFull', seen: mode('Live') },
  'fifty feeds': {
    rows: 8,
    config: 'feeds = "*"\n',
    sql: Array.from({ length: 50 }, (_, i) => `CREATE TABLE ${i % 7 ? 't' : 'a_table_with_quite_a_long_name_'}${i} (id INTEGER PRIMARY KEY, what TEXT);`).join(''),
    hash: '#/remediation?tenant=acme&status=success',
    seen: async (page) => {
      await mode('Live')(page);
      await page.locator('a.feed[data-feed=t1]').waitFor({ state: 'attached' });
    },
  },
  'no row matches': { rows: 2, hash: '#/remediation?tenant=nobody', seen: (page) => page.getByText('No row matches').waitFor() },
  empty: { rows: 0, seen: (page) => page.getByText('No rows yet').waitFor() },
  waiting: { config: '[feeds.remediation]\ntable = "remediation_events"\ncreate = false\n', seen: mode('Waiting') },
  unreadable: { garbage: true, seen: mode('Unreadable') },
  disconnected: { rows: 2, seen: async (page, daemon) => {
    await mode('Live')(page);
    await daemon.kill();
    await mode('Disconnected')(page);
  } },
};

/** A page in the state of this name, until the test is over. */
export async function pageIn(t, name) {
  const { rows = 0, config, garbage, captured, sql, script, hash = '', seen } = STATES[name];
  const dir = await workspace(t);
  const file = join(dir, 'walcast.toml');
  await writeFile(file, (config ?? '').replace('TOKENS', join(dir, 'tokens.toml')));
  if (config?.includes('TOKENS')) await writeFile(join(dir, 'tokens.toml'), '', { mode: 0o600 });
  if (garbage) await writeFile(join(dir, 'events.db'), 'This is no database at all, just text.\n'.repeat(400));
  const db = join(dir, 'events.db');
  const writer = rows > 0 || captured ? Writer.start(t, db) : null;
  if (captured) {
    await writer.sql(captured);
    await capture(db, 'orders', ['--full']);
  }
  const daemon = await Daemon.start(t, dir, ['--config', file]);
  if (rows > 0) {
    if (sql) await writer.sql(sql);
    for (let i = 0; i < rows; i += 1) await writer.event({ status: ['success', 'failed', 'pending', 'other'][i % 4], details: i % 3 ? 'freed' : null });
  }
  const page = await openPage(t, daemon.url + hash, { reducedMotion: 'reduce', script: async (one) => {
    one.expectsOutage = true;
    await script?.(one);
  } });
  await seen(page, daemon, writer);
  return page;
}
