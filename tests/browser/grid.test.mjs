// The rows: searched, sorted, filtered by their own values, with the columns one wants, passed on by a link, without a mouse.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Daemon, Writer, launch, openPage, quit, workspace } from './daemon.mjs';

// Started before the first page waits for it.
await launch();
after(quit);

const live = (page) => page.locator('#dot[title="Live"]').waitFor();
const row = (page, id) => page.locator(`#row-${id}`);
const TEAS = ['assam', 'bancha', 'ceylon', 'darjeeling'];

/** Eight teas of growing price, and a page that shows them. */
async function teas(t, { hash = '', ...options } = {}) {
  const dir = await workspace(t);
  const config = join(dir, 'walcast.toml');
  await writeFile(config, '[feeds.teas]\ntable = "teas"\n');
  const writer = Writer.start(t, join(dir, 'events.db'));
  await writer.sql('CREATE TABLE teas (id INTEGER PRIMARY KEY, name TEXT, price REAL, note TEXT)');
  for (let i = 0; i < 8; i += 1) await writer.insert({ name: TEAS[i % 4], price: [3, 20, 100, 1.5][i % 4] + i, note: i === 5 ? null : `cup ${i}` }, 'teas');
  const daemon = await Daemon.start(t, dir, ['--config', config]);
  const page = await openPage(t, daemon.url + hash, options);
  await live(page);
  return { page, writer, daemon };
}

/** Waits until the rows on the screen, from top to bottom, are those of these ids. */
const shows = (page, ids) => page.waitForFunction((wanted) => {
  const tops = [...document.querySelectorAll('.row')].filter((one) => one.offsetParent).map((one) => [one.getBoundingClientRect().top, Number(one.dataset.id)]);
  return JSON.stringify(tops.sort((a, b) => a[0] - b[0]).map(([, id]) => id)) === wanted;
}, JSON.stringify(ids));

/** Opens the menu on a value as a mouse does. */
async function menuOn(page, id, column) {
  await row(page, id).locator(`[data-column="${column}"]`).hover();
  await page.click('#value-open');
  await page.locator('#value-menu:popover-open').waitFor();
}

test('the search looks at what is loaded, says so, and takes in what comes', async (t) => {
  const { page, writer } = await teas(t);
  await page.fill('#search', 'CEYLON');
  await shows(page, [7, 3]);
  await page.getByText('2 of 8 loaded rows contain “CEYLON”.').waitFor();
  await writer.insert({ name: 'ceylon', price: 5 }, 'teas');
  await writer.insert({ name: 'assam', price: 5 }, 'teas');
  await shows(page, [9, 7, 3]);
  await page.getByText('3 of 10 loaded rows contain “CEYLON”.').waitFor();
  await page.fill('#search', 'coffee');
  await page.getByText('Nothing found').waitFor();
  await page.press('#search', 'Escape');
  await shows(page, [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
});

test('a click on a column’s name sorts what is loaded, downwards, upwards, and not', async (t) => {
  const { page, writer } = await teas(t);
  const name = page.locator('[role=columnheader][data-column=price] button');
  await name.click();
  await shows(page, [7, 3, 6, 2, 8, 5, 4, 1]);
  await page.getByText('8 loaded rows, sorted by price, highest first.').waitFor();
  assert.equal(await page.locator('[aria-sort=descending]').getAttribute('data-column'), 'price');
  await writer.insert({ name: 'oolong', price: 50 }, 'teas');
  await shows(page, [7, 3, 9, 6, 2, 8, 5, 4, 1]);
  await name.click();
  await shows(page, [1, 4, 5, 8, 2, 6, 9, 3, 7]);
  await name.click();
  await shows(page, [9, 8, 7, 6, 5, 4, 3, 2, 1]);
  await page.locator('#arranged').waitFor({ state: 'hidden' });
});

test('a value filters, others join it, and it is let go', async (t) => {
  const { page } = await teas(t);
  await menuOn(page, 8, 'name');
  await page.getByRole('button', { name: 'Only name = darjeeling' }).click();
  await shows(page, [8, 4]);
  await page.goBack();
  await shows(page, [8, 7, 6, 5, 4, 3, 2, 1]);
  await page.goForward();
  await shows(page, [8, 4]);
  // In an opened row the same, for those without a mouse. No column is too seldom for it.
  await row(page, 8).click();
  await page.getByRole('button', { name: 'Filter or copy price' }).click();
  await page.getByRole('button', { name: 'Only price = 8.5' }).click();
  await shows(page, [8]);
  await page.selectOption('#filters select[data-column=name]', { label: 'All' });
  await page.click('#add-filter');
  await page.selectOption('#filter-column', 'price');
  await page.fill('#filter-value', '3');
  await page.press('#filter-value', 'Enter');
  await shows(page, [8, 1]);
  await menuOn(page, 1, 'price');
  await page.getByRole('button', { name: 'Without 3' }).click();
  await shows(page, [8]);
  await menuOn(page, 8, 'price');
  await page.getByRole('button', { name: 'Any price' }).click();
  await shows(page, [8, 7, 6, 5, 4, 3, 2, 1]);
  await menuOn(page, 6, 'note');
  await page.getByText('NULL can’t be filtered by.').waitFor();
});

test('columns are left out and widened, and stay so', async (t) => {
  const { page } = await teas(t);
  const names = () => page.$$eval('#grid-head .cell', (cells) => cells.map((one) => one.dataset.column));
  const width = () => page.locator('#grid-head [data-column=name]').evaluate((cell) => cell.offsetWidth);
  await page.click('#view-open');
  await page.getByRole('checkbox', { name: 'note' }).uncheck();
  await page.keyboard.press('Escape');
  const before = await width();
  const edge = await page.locator('[data-column=name] .edge').boundingBox();
  await page.mouse.move(edge.x + 4, edge.y + 10);
  await page.mouse.down();
  await page.mouse.move(edge.x + 104, edge.y + 10, { steps: 4 });
  await page.mouse.up();
  const wide = await width();
  assert.ok(Math.abs(wide - before - 100) < 3, `${before} px, ${wide} px`);
  await page.reload();
  await live(page);
  await row(page, 8).waitFor();
  assert.deepEqual(await names(), ['id', 'name', 'price']);
  assert.equal(await width(), wide);
  await page.locator('#grid-head [data-column=name] button').press('Shift+ArrowLeft');
  assert.ok((await width()) < wide);
  await page.click('#view-open');
  await page.click('#view-reset');
  assert.deepEqual(await names(), ['id', 'name', 'price', 'note']);
  assert.equal(await width(), before);
});

test('a link opens its row, one that is not loaded too, and says when there is none', async (t) => {
  const { page, writer, daemon } = await teas(t);
  await row(page, 3).click();
  const { epoch } = (await daemon.json('api/feeds')).feeds[0];
  assert.equal(new URL(page.url()).hash, `#/teas/3?epoch=${epoch}`);
  const passedOn = await openPage(t, page.url());
  await passedOn.locator('#detail-title').getByText('teas · id 3').waitFor();
  await page.click('#detail-close');
  await page.waitForFunction(() => location.hash === '#/teas');
  await writer.sql("INSERT INTO teas (name) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) SELECT 'n' || i FROM n");
  const other = await openPage(t, `${daemon.url}#/teas/3?name=ceylon&name=assam`);
  await other.locator('#detail-title').getByText('teas · id 3').waitFor();
  const far = await openPage(t, `${daemon.url}#/teas/5`);
  await far.locator('#detail-title').getByText('teas · id 5').waitFor();
  const none = await openPage(t, `${daemon.url}#/teas/4?name=assam`);
  await none.getByText('There is no row 4 here.').waitFor();
  await none.waitForFunction(() => location.hash === '#/teas?name=assam');
});

test('a link to a row opens no row of another history', async (t) => {
  const { page, writer, daemon } = await teas(t);
  await row(page, 3).click();
  const link = page.url();
  await writer.sql('DELETE FROM teas');
  page.expectsOutage = true;
  await daemon.stop();
  for (let i = 0; i < 3; i += 1) await writer.insert({ name: 'oolong' }, 'teas');
  await daemon.up();
  const other = await openPage(t, link);
  await other.getByText('Row 3 is not here any more.').waitFor();
  await other.waitForFunction(() => location.hash === '#/teas');
  assert.equal(await other.locator('#detail').isVisible(), false);
  // Nor does the page that had it open take the other for it.
  await page.getByText('Row 3 is not here any more.').waitFor();
  assert.equal(await page.locator('#detail').isVisible(), false);
});

test('beside the list of feeds what the rows are worked on with is one line', async (t) => {
  const dir = await workspace(t);
  const config = join(dir, 'walcast.toml');
  await writeFile(config, 'feeds = "*"\n');
  const writer = Writer.start(t, join(dir, 'events.db'));
  const alerts = ['CertificateExpiring', 'PodCrashLooping', 'DiskAlmostFull'];
  for (let i = 0; i < 9; i += 1) await writer.event({ alertname: alerts[i % 3], tenant: ['acme', 'globex'][i % 2], action: ['renew_certificate', 'restart_pod'][i % 2], status: ['success', 'failed'][i % 2] });
  await writer.sql('CREATE TABLE orders (id INTEGER PRIMARY KEY, what TEXT)');
  const daemon = await Daemon.start(t, dir, ['--config', config]);
  const page = await openPage(t, `${daemon.url}#/remediation`);
  await live(page);
  await page.waitForFunction(() => document.querySelectorAll('.filter').length >= 4);
  const lines = () => page.evaluate(() => new Set([...document.querySelectorAll('.toolbar button, .toolbar input, .toolbar .filter')].filter((one) => one.offsetParent).map((one) => Math.round(one.getBoundingClientRect().top))).size);
  assert.equal(await lines(), 1);
  await page.locator('.filter select').first().selectOption({ index: 1 });
  await page.locator('#clear').waitFor();
  assert.equal(await lines(), 1);
});

test('a box that is open stays in the window when that becomes narrower', async (t) => {
  const { page } = await teas(t);
  await page.click('#add-filter');
  for (const width of [1280, 768, 375]) {
    await page.setViewportSize({ width, height: 800 });
    await page.waitForFunction(() => {
      const { left, right } = document.querySelector('#filter-form').getBoundingClientRect();
      return left >= 0 && right <= innerWidth;
    });
  }
});

test('keys move, open, search and help, but not while one types', async (t) => {
  const { page } = await teas(t);
  const active = () => page.locator('.row.active').getAttribute('data-id');
  await row(page, 8).waitFor();
  await page.keyboard.press('j');
  assert.equal(await active(), '8');
  await page.keyboard.press('j');
  await page.keyboard.press('j');
  await page.keyboard.press('k');
  assert.equal(await active(), '7');
  await page.keyboard.press('Enter');
  await page.locator('#detail-title').getByText('teas · id 7').waitFor();
  await page.keyboard.press('j');
  await page.locator('#detail-title').getByText('teas · id 6').waitFor();
  await page.keyboard.press('Escape');
  await page.keyboard.press('/');
  await page.keyboard.type('j?k');
  assert.equal(await page.inputValue('#search'), 'j?k');
  await page.keyboard.press('Escape');
  await page.keyboard.press('Escape');
  await page.keyboard.press('?');
  await page.locator('#help[open]').waitFor();
  await page.uncheck('#keys-toggle');
  await page.keyboard.press('Escape');
  await page.focus('#grid');
  await page.keyboard.press('/');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'grid');
  await page.reload();
  await live(page);
  await page.click('#help-open');
  assert.equal(await page.isChecked('#keys-toggle'), false);
});
