// A feed of changes on the page: what happened to which row, what of it changed, and what can be asked for.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Daemon, Writer, capture, launch, openPage, quit, workspace } from './daemon.mjs';

// Started before the first page waits for it.
await launch();
after(quit);

const COLUMNS = 'id INTEGER PRIMARY KEY, customer TEXT, state TEXT, total REAL';
const live = (page) => page.locator('#dot[title="Live"]').waitFor();
const cell = (page, seq, column) => page.locator(`#row-${seq} [data-column="${column}"]`);
const op = async (page, seq) => (await cell(page, seq, 'op').textContent()).replace(/^\W\s*/, '');
/** What the cell strikes through and what it marks as new. */
const marks = async (page, seq, column) => [await cell(page, seq, column).locator('del').allInnerTexts(), await cell(page, seq, column).locator('ins').allInnerTexts()];

/** Orders whose changes are followed, and a page that shows them; `before(writer)` runs before the page is there. */
async function orders(t, mode, { columns = COLUMNS, rows = '', before, hash = '', config = '', options = [], ...page } = {}) {
  const dir = await workspace(t);
  const file = join(dir, 'walcast.toml');
  const db = join(dir, 'events.db');
  await writeFile(file, `[feeds.orders]\ntable = "orders"\ncapture = "${mode}"\n${config}`);
  const writer = Writer.start(t, db);
  await writer.sql(`CREATE TABLE orders (${columns}); ${rows}`);
  await capture(db, 'orders', [...(mode === 'full' ? ['--full'] : []), ...options]);
  const daemon = await Daemon.start(t, dir, ['--config', file]);
  await before?.(writer);
  const shown = await openPage(t, daemon.url + hash, page);
  await live(shown);
  return { page: shown, writer, daemon };
}

test('with the rows before and after, each change says what it did and to what', async (t) => {
  const { page, writer } = await orders(t, 'full');
  await page.getByText('No changes yet').waitFor();
  await writer.sql("INSERT INTO orders VALUES (1, 'ann', 'new', 10), (2, 'bob', NULL, 5)");
  await writer.sql("UPDATE orders SET state = 'paid' WHERE id = 1");
  await writer.sql("UPDATE orders SET id = 20, state = 'late' WHERE id = 2");
  await writer.sql('DELETE FROM orders WHERE id = 1');
  await page.locator('#row-5').waitFor();
  assert.deepEqual(await Promise.all([1, 3, 4, 5].map((seq) => op(page, seq))), ['inserted', 'updated', 'updated', 'deleted']);
  assert.deepEqual(await marks(page, 1, 'state'), [[], []]);
  assert.deepEqual(await marks(page, 3, 'state'), [['new'], ['paid']]);
  assert.deepEqual(await marks(page, 3, 'customer'), [[], []]);
  assert.deepEqual(await marks(page, 4, 'id'), [['2'], ['20']]);
  assert.deepEqual(await marks(page, 4, 'state'), [['NULL'], ['late']]);
  assert.equal(await cell(page, 5, 'state').textContent(), 'paid');
  const tiles = await page.locator('#tiles').textContent();
  assert.match(tiles, /Inserted\s*2\s*of 5 loaded\s*Updated\s*2\s*of 5 loaded\s*Deleted\s*1/);
  // Another page has the same from the history.
  await page.reload();
  await page.locator('#row-5').waitFor();
  assert.deepEqual(await marks(page, 3, 'state'), [['new'], ['paid']]);
});

test('with the keys alone, an update is held against what the page saw of the row before', async (t) => {
  const { page, writer } = await orders(t, 'keys', { before: (one) => one.sql("INSERT INTO orders VALUES (1, 'ann', 'new', 10), (2, 'bob', 'new', 5)") });
  await page.locator('#row-2').waitFor();
  await writer.sql("UPDATE orders SET state = 'paid' WHERE id = 1");
  await page.locator('#row-3').waitFor();
  assert.deepEqual(await marks(page, 3, 'state'), [['new'], ['paid']]);
  await writer.sql('DELETE FROM orders WHERE id = 1');
  await page.locator('#row-4').waitFor();
  assert.equal(await op(page, 4), 'deleted');
  assert.equal(await cell(page, 4, 'id').textContent(), '1');
  assert.equal(await cell(page, 4, 'state').textContent(), 'paid', 'as it was last seen');
  // The history has rows as they are now: of an update nothing is known, and nothing is claimed.
  await writer.sql("UPDATE orders SET state = 'paid' WHERE id = 2");
  await page.reload();
  await page.locator('#row-5').waitFor();
  assert.equal(await cell(page, 5, 'state').textContent(), 'paid');
  assert.deepEqual(await marks(page, 5, 'state'), [[], []]);
  assert.equal(await cell(page, 4, 'state').textContent(), '', 'of a row that is gone only the key');
});

test('a table that was there before its changes is not shown as changes', async (t) => {
  const { page, writer } = await orders(t, 'keys', { rows: "INSERT INTO orders VALUES (1, 'ann', 'new', 10);" });
  await page.getByText('No changes yet').waitFor();
  await writer.sql("UPDATE orders SET state = 'paid' WHERE id = 1");
  await page.locator('#row-1').waitFor();
  assert.equal(await page.locator('.row').count(), 1);
  assert.equal(await page.getByText('could not be read').count(), 0);
});

test('only recorded columns can be filtered by; a row that leaves the filter is said to have left', async (t) => {
  const { page, writer } = await orders(t, 'keys', {
    config: 'capture_filters = ["state"]\n', options: ['--filter', 'state'],
    before: (one) => one.sql("INSERT INTO orders VALUES (1, 'ann', 'new', 10), (2, 'bob', 'new', 5)"),
  });
  await page.locator('#row-2').waitFor();
  await page.click('#add-filter');
  assert.deepEqual((await page.locator('#filter-column option').allInnerTexts()).sort(), ['id', 'state']);
  await page.selectOption('#filter-column', 'state');
  await page.fill('#filter-value', 'new');
  await page.keyboard.press('Enter');
  await page.waitForURL(/#\/orders\?state=new$/);
  await live(page);
  await writer.sql("UPDATE orders SET state = 'paid' WHERE id = 1");
  await page.locator('#row-3').waitFor();
  assert.equal(await op(page, 3), 'left');
  await cell(page, 2, 'customer').hover();
  await page.click('#value-open');
  await page.getByText('Changes can’t be filtered by “customer”').waitFor();
});

test('an opened change shows the row before beside the row after, and has an address', async (t) => {
  const { page, writer } = await orders(t, 'full', { columns: 'id INTEGER PRIMARY KEY, state TEXT, lines TEXT' });
  await writer.sql(`INSERT INTO orders VALUES (1, 'new', '{"tea":"assam","cups":2}')`);
  await writer.sql(`UPDATE orders SET state = 'paid', lines = '{"tea":"assam","cups":3}'`);
  await page.click('#row-2');
  const fields = page.locator('#detail-fields');
  assert.deepEqual(await fields.locator('del').allInnerTexts(), ['new', '  "cups": 2']);
  assert.deepEqual(await fields.locator('ins').allInnerTexts(), ['paid', '  "cups": 3']);
  await page.waitForURL(/#\/orders\/2\?epoch=/);
  await page.reload();
  await page.locator('#detail[open]').getByText('orders · seq 2').waitFor();
});

test('a page that had more changes than it holds at first goes on by number, and columns of like names stay apart', async (t) => {
  const { page, writer } = await orders(t, 'full', {
    columns: 'op TEXT PRIMARY KEY, seq INTEGER, at TEXT',
    before: (one) => one.sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1600) INSERT INTO orders SELECT 'op ' || i, 5, 'noon' FROM n"),
  });
  await page.locator('#row-1600').waitFor();
  assert.equal(await cell(page, 1600, 'op').textContent(), 'op 1600');
  assert.match(await cell(page, 1600, 'change op').textContent(), /inserted/);
  await page.getByText('1,100 of 1,600').waitFor();
  const download = page.waitForEvent('download');
  await page.click('#export-json');
  const sent = JSON.parse(await readFile(await (await download).path(), 'utf8'));
  assert.equal(sent.length, 1600);
  assert.deepEqual(sent.at(-1).after, { op: 'op 1', seq: 5, at: 'noon' });
  await writer.sql("UPDATE orders SET seq = 6 WHERE op = 'op 3'");
  await page.locator('#row-1601').waitFor();
  assert.deepEqual(await marks(page, 1601, 'seq'), [['5'], ['6']]);
});

/** Orders with two changes in their log, as a page shows them. */
const twoOrders = (t) => orders(t, 'keys', { before: (one) => one.sql("INSERT INTO orders VALUES (1, 'ann', 'new', 10), (2, 'bob', 'new', 5)") });

/** The page tells of the new log, and shows what comes into it, alone. */
async function beginsAnew({ page, writer }) {
  await page.getByText('The history changed.').waitFor();
  await live(page);
  await writer.sql("UPDATE orders SET state = 'paid' WHERE id = 2");
  await page.locator('.row').getByText('updated').waitFor();
  assert.equal(await page.locator('.row').count(), 1);
  assert.equal(await page.getByText('could not be read').count(), 0);
}

test('a log that begins anew is shown anew, and goes on', async (t) => {
  const { page, writer } = await twoOrders(t);
  await page.locator('#row-2').waitFor();
  // As a migration does that builds the table anew, in one transaction: its triggers are lost.
  await writer.sql(`BEGIN; CREATE TABLE anew (${COLUMNS}); INSERT INTO anew SELECT * FROM orders; DROP TABLE orders; ALTER TABLE anew RENAME TO orders; COMMIT`);
  await beginsAnew({ page, writer });
});

test('while the table is away its changes stay in sight, and when it is back they are shown anew', async (t) => {
  const { page, writer } = await twoOrders(t);
  await page.locator('#row-2').waitFor();
  await writer.sql('CREATE TABLE kept AS SELECT * FROM orders; DROP TABLE orders');
  await page.getByText('The table orders is not there any more').waitFor();
  await page.locator('#dot[title="Waiting"]').waitFor();
  assert.equal(await page.locator('.row').count(), 2);
  await writer.sql(`BEGIN; CREATE TABLE orders (${COLUMNS}); INSERT INTO orders SELECT * FROM kept; COMMIT`);
  await beginsAnew({ page, writer });
  assert.equal(await page.getByText('is not there').count(), 0);
});
