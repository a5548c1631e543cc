// All feeds at a glance: what goes on in those that are not shown, and the way to them among fifty.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Daemon, Writer, launch, openPage, quit, workspace } from './daemon.mjs';

// Started before the first page waits for it.
await launch();
after(quit);

const live = (page) => page.locator('#dot[title="Live"]').waitFor();
const feed = (page, name) => page.locator(`a.feed[data-feed="${name}"]`);

/** A daemon that serves every table there is; `n` of them are made, `t00` and so on. */
async function tables(t, n) {
  const dir = await workspace(t);
  const config = join(dir, 'walcast.toml');
  await writeFile(config, 'feeds = "*"\n');
  const writer = Writer.start(t, join(dir, 'events.db'));
  const names = Array.from({ length: n }, (_, i) => `t${String(i).padStart(2, '0')}`);
  await writer.sql(names.map((name) => `CREATE TABLE ${name} (id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT);`).join('\n'));
  return { writer, daemon: await Daemon.start(t, dir, ['--config', config]) };
}

test('what came to another feed is counted until it is looked at', async (t) => {
  const { writer, daemon } = await tables(t, 3);
  await writer.insert({ what: 'old' }, 't01');
  const page = await openPage(t, `${daemon.url}#/t00`);
  await live(page);
  await feed(page, 't01').waitFor();
  assert.equal(await feed(page, 't01').locator('.badge').textContent(), '', 'what was there before is not news');
  for (let i = 0; i < 3; i += 1) await writer.insert({ what: 'new' }, 't01');
  await feed(page, 't01').locator('.badge').getByText('3', { exact: true }).waitFor();
  await feed(page, 't01').locator('.rate').getByText('/s').waitFor();
  await feed(page, 't01').click();
  await page.locator('#row-4').waitFor();
  assert.equal(await feed(page, 't01').locator('.badge').textContent(), '');
  assert.equal(await page.locator('a.feed[aria-current=page]').getAttribute('data-feed'), 't01');
  await page.goBack();
  await page.locator('a.feed[aria-current=page][data-feed=t00]').waitFor();
});

test('a feed that comes while the page is open is listed, and one that can’t be read says so', async (t) => {
  const { writer, daemon } = await tables(t, 1);
  const page = await openPage(t, daemon.url);
  await live(page);
  assert.equal(await page.locator('#feeds').isVisible(), false, 'a single feed needs no list');
  await writer.sql('CREATE TABLE later (id INTEGER PRIMARY KEY, what TEXT)');
  await feed(page, 'later').waitFor();
  assert.equal(await feed(page, 'later').textContent(), 'later');
});

test('among fifty feeds the shown one is in sight, and any is found', async (t) => {
  const { daemon } = await tables(t, 50);
  const page = await openPage(t, `${daemon.url}#/t40`, { viewport: { width: 1280, height: 700 } });
  await live(page);
  const inSight = (name) => feed(page, name).evaluate((link) => {
    const [box, list] = [link.getBoundingClientRect(), document.getElementById('feed-list').getBoundingClientRect()];
    return box.top >= list.top - 1 && box.bottom <= list.bottom + 1 && link.contains(document.elementFromPoint(box.left + 20, box.top + 10));
  });
  assert.ok(await inSight('t40'));
  for (const top of [0, 100_000]) {
    await page.$eval('#feed-list', (list, to) => { list.scrollTop = to; }, top);
    assert.ok(await inSight('t40'), `scrolled to ${top}`);
  }
  await page.fill('#feed-find', 't07');
  assert.deepEqual(await page.$$eval('#feed-list li:not([hidden])', (all) => all.map((one) => one.textContent)), ['t07', 't40']);
  await page.press('#feed-find', 'Enter');
  await page.locator('a.feed[aria-current=page][data-feed=t07]').waitFor();
  assert.equal(await page.locator('#feed-list li:not([hidden])').count(), 50);
  assert.equal((await daemon.json('api/feeds')).feeds.reduce((sum, { subscribers }) => sum + subscribers, 0), 1, 'one socket, whatever is listed');
});

test('a table is named and found in its own letters', async (t) => {
  const { writer, daemon } = await tables(t, 12);
  await writer.sql('CREATE TABLE "Zażółć Gęślą" (id INTEGER PRIMARY KEY); CREATE TABLE "Order Lines" (id INTEGER PRIMARY KEY)');
  const page = await openPage(t, `${daemon.url}#/t00`);
  await live(page);
  const shown = () => page.$$eval('#feed-list li:not([hidden])', (all) => all.map((one) => one.textContent));
  await feed(page, 'za_____g__l_').waitFor();
  assert.equal(await feed(page, 'order_lines').textContent(), 'order_lines');
  assert.equal(await feed(page, 'order_lines').getAttribute('title'), 'order_lines, the table Order Lines');
  await page.fill('#feed-find', 'gęś');
  assert.deepEqual(await shown(), ['t00', 'Zażółć Gęślą za_____g__l_']);
  await page.fill('#feed-find', 'r lin');
  assert.deepEqual(await shown(), ['t00', 'order_lines']);
  await page.press('#feed-find', 'Enter');
  await page.locator('a.feed[aria-current=page][data-feed=order_lines]').waitFor();
});

test('on a phone the feeds are in a sheet', async (t) => {
  const { daemon } = await tables(t, 12);
  const page = await openPage(t, `${daemon.url}#/t11`, { viewport: { width: 375, height: 740 }, hasTouch: true, isMobile: true });
  await live(page);
  assert.equal(await page.locator('#feeds-nav').isVisible(), false);
  await page.tap('#feeds-open');
  await feed(page, 't03').tap();
  await page.locator('#feeds-sheet').waitFor({ state: 'hidden' });
  await page.locator('#feeds-button-name').getByText('t03').waitFor();
  await live(page);
});

test('a hidden tab asks for nothing', async (t) => {
  const { daemon } = await tables(t, 3);
  const page = await openPage(t, daemon.url);
  await live(page);
  await page.clock.install();
  await page.evaluate(() => {
    Object.defineProperty(document, 'hidden', { get: () => true });
    document.dispatchEvent(new Event('visibilitychange'));
  });
  const asked = [];
  page.on('request', (request) => asked.push(request.url()));
  await page.clock.runFor(60_000);
  assert.deepEqual(asked, []);
});
