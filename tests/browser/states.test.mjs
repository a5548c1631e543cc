// What the page says of a database it can't read or that is not there, how any table's columns share the window, and what
// the address says of the filters.

import assert from 'node:assert/strict';
import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Daemon, Writer, launch, openPage, quit, workspace } from './daemon.mjs';

// Started before the first page waits for it.
await launch();
after(quit);

const live = (page) => page.locator('#dot[title="Live"]').waitFor();
const row = (page, id) => page.locator(`#row-${id}`);

/** A daemon that serves the table `things` of these columns, with these rows in it. */
async function things(t, columns, rows) {
  const dir = await workspace(t);
  const config = join(dir, 'walcast.toml');
  await writeFile(config, '[feeds.things]\ntable = "things"\n');
  const writer = Writer.start(t, join(dir, 'events.db'));
  await writer.sql(`create table things(id integer primary key, ${columns})`);
  for (const one of rows) await writer.insert(one, 'things');
  return { dir, writer, daemon: await Daemon.start(t, dir, ['--config', config]) };
}

test('a file that is no database is called that, not a busy daemon', async (t) => {
  const dir = await workspace(t);
  await writeFile(join(dir, 'events.db'), 'This is no database at all, just text.\n'.repeat(400));
  const daemon = await Daemon.start(t, dir);
  const page = await openPage(t, daemon.url, { script: (one) => { one.expectsOutage = true; } });
  await page.getByText('The database can’t be read').waitFor();
  await page.locator('#dot[title="Unreadable"]').waitFor();
  assert.equal(await page.getByText(/busy/).count(), 0);
  assert.equal(await page.locator('#tiles').isVisible(), false, 'nothing is counted');
});

test('a database that is taken away under the page is not called live', async (t) => {
  const dir = await workspace(t);
  const daemon = await Daemon.start(t, dir);
  const writer = Writer.start(t, daemon.db);
  const { id } = await writer.event();
  const page = await openPage(t, daemon.url);
  await live(page);
  await row(page, id).waitFor();
  for (const end of ['', '-wal', '-shm']) await rename(`${daemon.db}${end}`, join(dir, `away.db${end}`)).catch(() => {});
  await page.locator('#dot[title="Waiting"]').waitFor();
  assert.equal(await page.locator('#dot.live').count(), 0);
});

test('the webhooks of a feed are told, and which of them fails', async (t) => {
  const dir = await workspace(t);
  const config = join(dir, 'walcast.toml');
  const secret = join(dir, 'secret');
  await writeFile(secret, `whsec_${Buffer.alloc(32, 7).toString('base64')}\n`, { mode: 0o600 });
  // Nobody listens at the port of the discard service.
  await writeFile(config, `[feeds.remediation]\n[sinks.billing]\nfeed = "remediation"\nwebhook = "http://127.0.0.1:9/hook"\nsecret_file = "${secret}"\n`);
  const daemon = await Daemon.start(t, dir, ['--config', config]);
  const page = await openPage(t, daemon.url);
  await live(page);
  await page.locator('#sinks').getByText('billing live', { exact: true }).waitFor();
  await Writer.start(t, daemon.db).event();
  await page.locator('#sinks.warn').getByText(/^billing failing/).waitFor();
  assert.match(await page.locator('#sinks').getAttribute('title'), /^billing → http:\/\/127\.0\.0\.1:9: no connection/);
});

test('whether a feed is published is told', async (t) => {
  const dir = await workspace(t);
  const config = join(dir, 'walcast.toml');
  await writeFile(config, '[feeds.remediation]\n[publish]\nnats = "nats://127.0.0.1:9"\n');
  const daemon = await Daemon.start(t, dir, ['--config', config]);
  const page = await openPage(t, daemon.url);
  await live(page);
  await page.locator('#sinks.warn').getByText(/^NATS /).waitFor();
  assert.match(await page.locator('#sinks').getAttribute('title'), /^NATS → nats:\/\/127\.0\.0\.1:9: .*no connection/);
});

test('a table without a time column has no chart, one that tells the time has', async (t) => {
  const { daemon, writer } = await things(t, 'n integer, at text', [{ n: 1 }, { n: 2 }]);
  const page = await openPage(t, daemon.url);
  await live(page);
  await row(page, 2).waitFor();
  assert.equal(await page.locator('#chart').isVisible(), false);
  await writer.insert({ n: 3, at: new Date().toISOString() }, 'things');
  await page.locator('#chart-readout').getByText('1 event', { exact: true }).waitFor();
});

test('words are shown whole, and numbers stand beside them', async (t) => {
  const rows = ['webhook', 'mmmmmmm', 'WWWWWWW'].map((source, i) => ({ event: 'order.paid', source, value: 0.1 + i / 7, n: i }));
  const { daemon } = await things(t, 'event text, source text, value real, n integer', rows);
  const page = await openPage(t, daemon.url, { viewport: { width: 1440, height: 800 } });
  await live(page);
  await row(page, 3).waitFor();
  const cut = await page.$$eval('.cell', (cells) => cells.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.textContent));
  assert.deepEqual(cut, []);
  const right = await page.$$eval('#row-3 .cell', (cells) => cells.at(-1).getBoundingClientRect().right);
  assert.ok(right < 720, `the last number ends at ${right} px, beyond half of the window`);
});

test('the room that is left goes to the texts, not to the time', async (t) => {
  const rows = Array.from({ length: 5 }, (_, i) => ({ ts: `2019-11-2${i}T10:11:12.123456Z`, details: 'freed 3 GB of old and rotated logs', n: i }));
  const { daemon } = await things(t, 'ts text, details text, n integer', rows);
  const page = await openPage(t, daemon.url, { viewport: { width: 1440, height: 800 } });
  await live(page);
  await row(page, 5).waitFor();
  const [, ts, details] = await page.$$eval('#row-5 .cell', (cells) => cells.map((one) => ({ width: one.clientWidth, cut: one.scrollWidth > one.clientWidth })));
  assert.deepEqual([ts.cut, details.cut], [false, false]);
  assert.ok(ts.width < details.width, `${ts.width} px for the time, ${details.width} px for the details`);
});

test('a phone shows rows on its first screen', async (t) => {
  const dir = await workspace(t);
  const daemon = await Daemon.start(t, dir);
  const writer = Writer.start(t, daemon.db);
  for (let i = 0; i < 10; i += 1) await writer.event({ tenant: ['acme', 'globex'][i % 2], status: ['success', 'failed'][i % 2] });
  const page = await openPage(t, daemon.url, { viewport: { width: 375, height: 740 }, hasTouch: true, isMobile: true });
  await live(page);
  await row(page, 10).waitFor();
  const seen = await page.$$eval('.row', (rows) => rows.filter((one) => one.getBoundingClientRect().bottom <= innerHeight).length);
  assert.ok(seen >= 4, `${seen} rows in sight`);
});

/** Of what the rows are worked on with: what reaches over an edge, its own or that of what it stands in. */
const cut = (page) => page.evaluate(() => [...document.querySelectorAll('.bar button, .feed-title, .toolbar, .toolbar button, .toolbar input, .filter, .filter > *, .health > div, .tile')]
  .filter((one) => one.checkVisibility() && one.offsetParent)
  .filter((one) => {
    const [box, around] = [one.getBoundingClientRect(), one.parentElement.closest('.filter, .filters, .toolbar, .health, .tiles, .panel, .bar').getBoundingClientRect()];
    return one.scrollWidth > one.offsetWidth || box.left < around.left - 1 || box.right > around.right + 1 || box.right > innerWidth;
  })
  .map((one) => `${one.tagName} ${one.id} ${one.className} ${one.textContent}`));
const tops = (page, selector) => page.$$eval(selector, (all) => all.filter((one) => one.offsetParent).map((one) => Math.round(one.getBoundingClientRect().top)));

/** Rows whose tenant, status and action make lists to choose from. */
async function remediations(t, hash, viewport) {
  const dir = await workspace(t);
  const daemon = await Daemon.start(t, dir);
  const writer = Writer.start(t, daemon.db);
  for (let i = 0; i < 12; i += 1) {
    await writer.event({ tenant: ['acme', 'globex'][i % 2], status: ['success', 'failed'][i % 2], action: ['clean_disk', 'restart_service'][i % 2] });
  }
  const page = await openPage(t, daemon.url + hash, viewport);
  await live(page);
  await row(page, 12).waitFor();
  return page;
}

const PHONE = { viewport: { width: 375, height: 740 }, hasTouch: true, isMobile: true };
const TABLET = { viewport: { width: 768, height: 800 } };

test('on a phone the first row is in the upper half, also under two filters, and nothing is cut', async (t) => {
  for (const [hash, on] of [['', 0], ['#/remediation?tenant=globex&status=failed', 2]]) {
    const page = await remediations(t, hash, PHONE);
    await page.locator('#chart').waitFor();
    assert.equal(await page.locator('.filter.on:visible').count(), on);
    assert.deepEqual(await cut(page), []);
    const [first] = await tops(page, '#row-12');
    assert.ok(first <= 300, `the first row begins at ${first} px`);
    if (on > 0) assert.equal(new Set(await tops(page, '#clear, .filter.on')).size, 1, 'Clear stands beside the filters');
  }
});

test('on a tablet no filter is cut, and the controls are one line, the filters in force another', async (t) => {
  const page = await remediations(t, '', TABLET);
  assert.deepEqual(await cut(page), []);
  assert.equal(new Set(await tops(page, '.toolbar button, .toolbar input, .filter')).size, 1);
  await page.goto(`${new URL(page.url()).origin}/#/remediation?action=restart_service&tenant=globex&status=failed`);
  await page.locator('#clear').waitFor();
  assert.equal(await page.locator('.filter.on:visible').count(), 3);
  assert.deepEqual(await cut(page), []);
  assert.equal(new Set(await tops(page, '.filter.on, #clear')).size, 1);
  assert.equal(new Set(await tops(page, '#search, #add-filter, #view-open, #pause, #export-json, #export-csv')).size, 1);
});

test('on a phone rows are exported from the box of the view', async (t) => {
  const page = await remediations(t, '', PHONE);
  assert.equal(await page.locator('#export-csv').isVisible(), false);
  await page.click('#view-open');
  const [file] = await Promise.all([page.waitForEvent('download'), page.click('#export-csv')]);
  assert.match(file.suggestedFilename(), /\.csv$/);
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.keyboard.press('Escape');
  await page.locator('.toolbar #export-csv').waitFor();
});

test('several values of a filter are shown as such, and Back goes back', async (t) => {
  const dir = await workspace(t);
  const daemon = await Daemon.start(t, dir);
  const writer = Writer.start(t, daemon.db);
  for (const tenant of ['acme', 'globex', 'initech']) await writer.event({ tenant });
  const page = await openPage(t, `${daemon.url}#/remediation?tenant=acme&tenant=globex`);
  await live(page);
  const choice = page.locator('select[data-column="tenant"]');
  const chosen = () => choice.evaluate((select) => select.selectedOptions[0].textContent);
  const held = (n) => page.waitForFunction((rows) => document.querySelectorAll('.row').length === rows, n);
  await held(2);
  assert.equal(await chosen(), 'acme or globex');
  await choice.selectOption('=initech');
  await held(1);
  await row(page, 3).waitFor();
  assert.equal(await chosen(), 'initech');
  await page.goBack();
  await held(2);
  assert.equal(await chosen(), 'acme or globex');
  await page.goForward();
  await row(page, 3).waitFor();
  await held(1);
});
