// axe-core finds nothing to say of the page: in each state, in both themes, at the widths of a desk, a tablet and a phone.

import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Daemon, Writer, launch, openPage, quit, workspace } from './daemon.mjs';

// Started before the first page waits for it.
await launch();
after(quit);

const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const mode = (name) => (page) => page.locator(`#dot[title="${name}"]`).waitFor();

/**
 * What axe-core objects to, as lines of words. A look takes a while, in which the page draws its numbers anew: what is wrong
 * with the page is still there at a second look.
 */
async function violations(page) {
  await page.evaluate(AXE);
  const look = async () => {
    const { violations: found } = await page.evaluate(() => globalThis.axe.run());
    return found.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id} ${target}: ${failureSummary}`));
  };
  const first = await look();
  if (first.length === 0) return first;
  const second = new Set(await look());
  return first.filter((line) => second.has(line));
}

/** Name → what makes the daemon's directory, the page's address, and what must be seen before the look. */
const STATES = {
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

for (const [name, { rows = 0, config, garbage, sql, script, hash = '', seen }] of Object.entries(STATES)) {
  test(`nothing stands in the way: ${name}`, async (t) => {
    const dir = await workspace(t);
    const file = join(dir, 'walcast.toml');
    await writeFile(file, (config ?? '').replace('TOKENS', join(dir, 'tokens.toml')));
    if (config?.includes('TOKENS')) await writeFile(join(dir, 'tokens.toml'), '', { mode: 0o600 });
    if (garbage) await writeFile(join(dir, 'events.db'), 'This is no database at all, just text.\n'.repeat(400));
    const daemon = await Daemon.start(t, dir, ['--config', file]);
    if (rows > 0) {
      const writer = Writer.start(t, daemon.db);
      if (sql) await writer.sql(sql);
      for (let i = 0; i < rows; i += 1) await writer.event({ status: ['success', 'failed', 'pending', 'other'][i % 4], details: i % 3 ? 'freed' : null });
    }
    const page = await openPage(t, daemon.url + hash, { reducedMotion: 'reduce', script: async (one) => {
      one.expectsOutage = true;
      await script?.(one);
    } });
    await seen(page, daemon);
    for (const width of [1440, 768, 375]) {
      for (const colorScheme of ['light', 'dark']) {
        await page.setViewportSize({ width, height: 800 });
        await page.emulateMedia({ colorScheme });
        assert.deepEqual(await violations(page), [], `${width} px, ${colorScheme}`);
      }
    }
  });
}
