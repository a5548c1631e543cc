// The dashboard in a real Chromium, against the real daemon and a real Python writer.
// Waits on conditions only; how long they took is reported, not judged.

import assert from 'node:assert/strict';
import { readFile, rm, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Daemon, FOREIGN_HOST, Writer, misconfiguredProxy, openPage, quit, workspace } from './daemon.mjs';

after(quit);

const live = (page) => page.locator('#dot[title="Live"]').waitFor();
const polling = (page) => page.locator('#dot[title="Polling"]').waitFor();
const disconnected = (page) => page.locator('#dot[title="Disconnected"]').waitFor();
const row = (page, id) => page.locator(`.row[data-id="${id}"]`);
const total = (page, n) => page.waitForFunction((text) => document.querySelector('#tiles .value')?.textContent === text, n.toLocaleString('en-US'));

/** The ids the page holds, newest first, as its own export gives them. */
async function exported(page) {
  return JSON.parse(await download(page, '#export-json')).map(({ id }) => id);
}

async function download(page, button) {
  const [file] = await Promise.all([page.waitForEvent('download'), page.click(button)]);
  return readFile(await file.path(), 'utf8');
}

const descending = (from, to) => Array.from({ length: from - to + 1 }, (_, i) => from - i);

async function setUp(t, args) {
  const dir = await workspace(t);
  const daemon = await Daemon.start(t, dir, args);
  return { dir, daemon, writer: Writer.start(t, daemon.db) };
}

test('a committed event appears, fades in and loses its mark', async (t) => {
  const { daemon, writer } = await setUp(t);
  const page = await openPage(t, daemon.url);
  await live(page);
  await page.evaluate(() => {
    window.seen = new Map();
    new MutationObserver(() => {
      for (const { dataset } of document.querySelectorAll('.row')) if (!window.seen.has(dataset.id)) window.seen.set(dataset.id, Date.now());
    }).observe(document.getElementById('grid-body'), { childList: true });
  });
  const delays = [];
  for (let i = 0; i < 10; i += 1) {
    const { id, committed } = await writer.event();
    await row(page, id).waitFor();
    if (i === 0) assert.ok(await row(page, id).evaluate((element) => element.classList.contains('new')));
    delays.push((await page.evaluate((key) => window.seen.get(key), String(id))) - committed);
  }
  t.diagnostic(`commit to DOM, ms: ${delays.map(Math.round).join(' ')}`);
  await page.waitForFunction(() => document.querySelectorAll('.row').length === 10 && !document.querySelector('.row.new'));
  await total(page, 10);
});

test('the page comes with a policy that allows nothing inline', async (t) => {
  const { daemon } = await setUp(t);
  const answer = await fetch(daemon.url);
  const policy = answer.headers.get('content-security-policy');
  for (const rule of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"]) assert.ok(policy.includes(rule), policy);
  const html = await answer.text();
  assert.doesNotMatch(html, /<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|https?:\/\//);
  for (const [, path] of html.matchAll(/(?:src|href)="([^"]+)"/g)) assert.equal((await fetch(new URL(path, daemon.url))).status, 200, path);
});

test('three tabs show the same rows', async (t) => {
  const { daemon, writer } = await setUp(t);
  const pages = await Promise.all([1, 2, 3].map(() => openPage(t, daemon.url)));
  await Promise.all(pages.map(live));
  const { id } = await writer.event({ alertname: 'SeenThrice' });
  await Promise.all(pages.map((page) => row(page, id).getByText('SeenThrice').waitFor()));
  await pages[0].waitForFunction(() => document.getElementById('subscribers').textContent === '3');
});

test('a burst of 100 arrives whole and in order', async (t) => {
  const { daemon, writer } = await setUp(t);
  const page = await openPage(t, daemon.url);
  await live(page);
  for (let i = 0; i < 100; i += 1) await writer.event({ details: `event ${i}` });
  await total(page, 100);
  await row(page, 100).waitFor();
  const visible = await page.$$eval('.row', (rows) => rows.map(({ dataset }) => Number(dataset.id)));
  assert.deepEqual(visible, descending(100, 100 - visible.length + 1));
  assert.deepEqual(await exported(page), descending(100, 1));
});

for (const [name, end] of [['stopped', 'stop'], ['killed with -9', 'kill']]) {
  test(`a daemon ${name} and started again costs no row`, async (t) => {
    const { daemon, writer } = await setUp(t);
    for (let i = 0; i < 5; i += 1) await writer.event();
    const page = await openPage(t, daemon.url);
    await live(page);
    await total(page, 5);
    page.expectsOutage = true;
    await daemon[end]();
    await disconnected(page);
    await page.getByText('walcast can’t be reached').waitFor();
    for (let i = 0; i < 20; i += 1) await writer.event();
    await daemon.up();
    await live(page);
    await writer.event();
    await total(page, 26);
    await page.getByText('walcast can’t be reached').waitFor({ state: 'detached' });
    assert.deepEqual(await exported(page), descending(26, 1));
  });
}

test('a replaced database is told, and only its rows are shown', async (t) => {
  const { dir, daemon, writer } = await setUp(t);
  for (let i = 0; i < 12; i += 1) await writer.event({ tenant: 'old' });
  const page = await openPage(t, daemon.url);
  await live(page);
  await total(page, 12);
  const other = join(dir, 'other.db');
  const elsewhere = Writer.start(t, other);
  for (let i = 0; i < 3; i += 1) await elsewhere.event({ tenant: 'new', ts: `2030-01-0${i + 1}T00:00:00Z` });
  for (const suffix of ['-wal', '-shm']) await rm(daemon.db + suffix, { force: true });
  await rename(other, daemon.db);
  await page.getByText('The database was replaced').waitFor();
  await live(page);
  await total(page, 3);
  assert.deepEqual(await exported(page), [3, 2, 1]);
  assert.deepEqual(await page.$$eval('#filters select[data-column=tenant] option', (all) => all.map((one) => one.textContent)), ['All', 'new']);
});

test('hostile content in every column is text and nothing else', async (t) => {
  const { daemon, writer } = await setUp(t);
  const page = await openPage(t, daemon.url);
  await live(page);
  const evil = [
    '<script>document.title="owned"</script>', '"><img src=x onerror=alert(1)>', `'";--\\`, '𝕬😀\u{1F9D1}\u200D\u{1F692} \u202Etxt.exe',
    'two\nlines\r\nthree', '=HYPERLINK("http://x","y")', '{{7*7}}${7*7}', '',
  ];
  const columns = ['ts', 'alertname', 'tenant', 'action', 'status', 'details'];
  for (const text of evil) await writer.insert(Object.fromEntries(columns.map((name) => [name, text])));
  await writer.insert({ ts: 'only the time' });
  await total(page, evil.length + 1);
  await row(page, evil.length + 1).locator('.null').first().waitFor();
  assert.equal(await row(page, evil.length + 1).locator('.null').count(), 5);
  assert.equal(await page.locator('#panel script, #panel .grid img').count(), 0);
  assert.equal(await page.title(), 'remediation · walcast');
  await row(page, 1).click();
  const shown = await page.$$eval('#detail-fields dd', (all) => all.map((one) => one.textContent));
  assert.deepEqual(shown, ['1', ...columns.map(() => evil[0])]);
  await page.keyboard.press('Escape');
  const csv = await download(page, '#export-csv');
  assert.ok(csv.includes(`"'=HYPERLINK(""http://x"",""y"")"`), 'a formula is made inert');
  assert.ok(csv.includes('"two\nlines\r\nthree"'), 'line breaks are quoted');
  assert.deepEqual(JSON.parse(await download(page, '#export-json')).slice(1).map(({ details }) => details), evil.toReversed());
  await page.selectOption('#filters select[data-column=tenant]', { label: evil[0] });
  await total(page, 1);
  await row(page, 1).waitFor();
});

test('10,000 rows scroll with a few dozen elements', async (t) => {
  const { daemon, writer } = await setUp(t);
  await writer.event();
  await writer.sql(`INSERT INTO remediation_events (ts, alertname, tenant, action, status, details)
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)
    SELECT strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '-' || (10000 - i) || ' seconds'), 'Alert' || (i % 7), 'tenant' || (i % 3),
      'restart', CASE WHEN i % 10 THEN 'success' ELSE 'failed' END, 'row ' || i FROM n`);
  const page = await openPage(t, daemon.url);
  await live(page);
  await total(page, 10_000);
  assert.deepEqual(await exported(page), descending(10_000, 1));
  const started = Date.now();
  await page.focus('#grid');
  await page.keyboard.press('End');
  await row(page, 1).waitFor();
  t.diagnostic(`to the last of 10,000 rows, ms: ${Date.now() - started}`);
  assert.ok((await page.locator('.row').count()) < 100);
  // What is being read stays in place when a new row comes above it.
  const before = await row(page, 1).boundingBox();
  await writer.event({ alertname: 'WhileScrolled' });
  await page.getByText('1 new row').waitFor();
  // The log is bounded: the oldest row made room for the newest.
  const second = await row(page, 2).boundingBox();
  assert.ok(Math.abs(second.y - (before.y - before.height)) < before.height + 1);
  await page.click('#fresh');
  await row(page, 10_001).getByText('WhileScrolled').waitFor();
});

test('filters, pause and resume', async (t) => {
  const { daemon, writer } = await setUp(t);
  await writer.event({ tenant: 'acme', status: 'failed' });
  await writer.event({ tenant: 'globex', status: 'success' });
  await writer.event({ tenant: 'globex', status: 'failed' });
  const page = await openPage(t, daemon.url);
  await live(page);
  const tiles = async (expected) => page.waitForFunction(
    (wanted) => JSON.stringify([...document.querySelectorAll('#tiles .value')].map((one) => one.textContent)) === wanted, JSON.stringify(expected));
  await tiles(['3', '33.3%', '1', '2']);
  await page.selectOption('#filters select[data-column=tenant]', { label: 'globex' });
  await live(page);
  await tiles(['2', '50.0%', '1', '1']);
  await page.selectOption('#filters select[data-column=status]', { label: 'failed' });
  await tiles(['1', '0.0%', '0', '1']);
  await live(page);
  await writer.event({ tenant: 'acme', status: 'failed' });
  await writer.event({ tenant: 'globex', status: 'failed' });
  await row(page, 5).waitFor();
  assert.equal(await row(page, 4).count(), 0);
  await page.reload();
  await tiles(['2', '0.0%', '0', '2']);
  await page.click('#clear');
  await tiles(['5', '20.0%', '1', '4']);
  await live(page);
  await page.click('#pause');
  await writer.event();
  await page.getByText('1 new row · resume').waitFor();
  assert.equal(await row(page, 6).count(), 0);
  await page.click('#pause');
  await row(page, 6).waitFor();
});

test('the keyboard reaches a row, its details and back', async (t) => {
  const { daemon, writer } = await setUp(t);
  for (let i = 1; i <= 4; i += 1) await writer.event({ details: `{"step":${i}}` });
  const page = await openPage(t, daemon.url);
  await live(page);
  await row(page, 4).waitFor();
  for (let i = 0; i < 30 && (await page.evaluate(() => document.activeElement.id)) !== 'grid'; i += 1) await page.keyboard.press('Tab');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Enter');
  const title = page.locator('#detail-title');
  await page.locator('#detail[open]').waitFor();
  assert.equal(await title.textContent(), 'remediation_events · id 3');
  assert.equal(await page.locator('#detail-fields pre').textContent(), '{\n  "step": 3\n}');
  await page.keyboard.press('ArrowRight');
  assert.equal(await title.textContent(), 'remediation_events · id 2');
  await page.keyboard.press('Escape');
  await page.locator('#detail').waitFor({ state: 'hidden' });
  assert.equal(await page.evaluate(() => document.activeElement.id), 'grid');
});

test('any table is served, with its own columns and ids beyond 2^53', async (t) => {
  const dir = await workspace(t);
  const config = join(dir, 'walcast.toml');
  await writeFile(config, '[feeds.remediation]\ntable = "remediation_events"\nws = "/ws/remediation"\n\n[feeds.orders]\ntable = "orders"\n');
  const daemon = await Daemon.start(t, dir, ['--config', config]);
  const writer = Writer.start(t, daemon.db);
  await writer.sql('CREATE TABLE orders (number INTEGER PRIMARY KEY, customer TEXT, amount REAL, "a ""b"" <c>" BLOB)');
  await writer.insert({ number: 7, customer: 'Ada', amount: 12.5 }, 'orders');
  const page = await openPage(t, `${daemon.url}#/orders`);
  await live(page);
  await row(page, 7).getByText('12.5').waitFor();
  assert.deepEqual(await page.$$eval('#grid-head .cell', (all) => all.map((one) => one.textContent)), ['number', 'customer', 'amount', 'a "b" <c>']);
  await writer.sql("INSERT INTO orders (number, customer) VALUES (9007199254740993, 'beyond'), (9007199254740994, 'further')");
  await row(page, '9007199254740994').getByText('further').waitFor();
  await row(page, '9007199254740993').getByText('beyond').waitFor();
  await page.getByRole('link', { name: 'remediation' }).click();
  await page.locator('#tiles').getByText('Success rate').waitFor();
});

test('a database that is not there yet is said so, and its first row shows by itself', async (t) => {
  const dir = await workspace(t);
  const config = join(dir, 'walcast.toml');
  await writeFile(config, '[feeds.remediation]\ntable = "remediation_events"\nws = "/ws/remediation"\ncreate = false\n');
  const daemon = await Daemon.start(t, dir, ['--config', config]);
  const page = await openPage(t, daemon.url);
  await page.getByText('is not there yet').waitFor();
  await page.locator('#dot[title="Waiting"]').waitFor();
  await Writer.start(t, daemon.db).event({ alertname: 'FirstEver' });
  await row(page, 1).getByText('FirstEver').waitFor();
  await live(page);
});

test('without a socket the history is polled, and why is said', async (t) => {
  const { daemon, writer } = await setUp(t);
  let open = false;
  const page = await openPage(t, daemon.url, {
    script: (one) => one.routeWebSocket(/\/ws\//, (socket) => (open ? socket.connectToServer() : socket.close({ code: 1013, reason: 'full' }))),
  });
  await page.getByText('The daemon is full').waitFor();
  await polling(page);
  const { id } = await writer.event();
  await row(page, id).waitFor();
  await polling(page);
  open = true;
  await live(page);
  await page.getByText('The daemon is full').waitFor({ state: 'detached' });
  await writer.event();
  await total(page, 2);
  assert.deepEqual(await exported(page), [2, 1]);
});

test('a refused origin is named, and the history serves meanwhile', async (t) => {
  const { daemon, writer } = await setUp(t);
  const address = await misconfiguredProxy(t, daemon);
  const page = await openPage(t, 'about:blank');
  page.expectsOutage = true;
  await page.goto(address);
  await page.locator('#notices').getByText(FOREIGN_HOST).first().waitFor();
  await page.getByText('Access refused').waitFor();
  const { id } = await writer.event();
  await row(page, id).waitFor();
  await polling(page);
});

test('an unknown feed in the address is said so, and another one is shown', async (t) => {
  const { daemon } = await setUp(t);
  const page = await openPage(t, `${daemon.url}#/nosuch`);
  await page.getByText('There is no feed “nosuch” here.').waitFor();
  await live(page);
});

test('a huge row is shown, and that it was cut', async (t) => {
  const dir = await workspace(t);
  const config = join(dir, 'walcast.toml');
  await writeFile(config, '[feeds.files]\ntable = "files"\n');
  const daemon = await Daemon.start(t, dir, ['--config', config]);
  const writer = Writer.start(t, daemon.db);
  await writer.sql("CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT, content TEXT); INSERT INTO files (name, content) VALUES ('before', hex(zeroblob(1500000)))");
  const page = await openPage(t, daemon.url);
  await live(page);
  await writer.sql("INSERT INTO files (name, content) VALUES ('after', hex(zeroblob(1500000)))");
  for (const id of [2, 1]) {
    await row(page, id).click();
    await page.getByText('Cut: the row was too large').waitFor();
    await page.click('#detail-close');
  }
});

test('a malformed frame is reported and costs no row', async (t) => {
  const { daemon, writer } = await setUp(t);
  const page = await openPage(t, daemon.url, {
    script: (one) => one.routeWebSocket(/\/ws\//, (socket) => {
      const server = socket.connectToServer();
      server.onMessage((text) => socket.send(text.includes('"garble"') ? text.slice(0, 40) : text));
    }),
  });
  await live(page);
  await writer.event();
  await writer.event({ details: 'garble' });
  await page.getByText('could not be read').waitFor();
  await writer.event();
  await total(page, 3);
  assert.deepEqual(await exported(page), [3, 2, 1]);
});

/** WCAG contrast of each element's text on the nearest ground that is painted; of all at once, for some are replaced with the next row. */
function contrasts(elements) {
  const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b]
    .map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const clear = (one) => (channels(getComputedStyle(one).backgroundColor)[3] ?? 1) === 0;
  return elements.map((element) => {
    let ground = element;
    while (clear(ground) && ground.parentElement) ground = ground.parentElement;
    const [a, b] = [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor].map((c) => luminance(channels(c)));
    return { name: `${element.className} "${element.textContent}"`, ratio: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) };
  });
}

for (const colorScheme of ['light', 'dark']) {
  test(`the ${colorScheme} theme follows the system, can be read, and can be switched`, async (t) => {
    const { daemon, writer } = await setUp(t);
    for (const status of ['success', 'failed', 'pending', null]) await writer.event({ status });
    const page = await openPage(t, daemon.url, { colorScheme, reducedMotion: 'reduce' });
    await live(page);
    await row(page, 4).waitFor();
    const theme = () => page.evaluate(() => document.documentElement.dataset.theme);
    assert.equal(await theme(), colorScheme);
    const selectors = '.tile dt, .tile .value, .tile .note, .health dt, .health dd, .cell, .cell > span, .pill, #filters span, #pause, .feed-name, .chart-readout, .mode';
    const found = await page.evaluate(`(${contrasts})([...document.querySelectorAll(${JSON.stringify(selectors)})])`);
    assert.ok(found.length > 20, `${found.length} texts`);
    for (const { name, ratio } of found) assert.ok(ratio >= 4.5, `${name}: ${ratio.toFixed(2)}`);
    const other = colorScheme === 'light' ? 'dark' : 'light';
    await page.click('#theme');
    assert.equal(await theme(), other);
    await page.reload();
    assert.equal(await theme(), other);
  });
}

test('a phone of 375 px needs no sideways scrolling', async (t) => {
  const { daemon, writer } = await setUp(t);
  const long = 'x'.repeat(300);
  for (let i = 0; i < 40; i += 1) await writer.event({ details: long, tenant: long.slice(0, 80), alertname: `Alert${i}${long}` });
  const page = await openPage(t, daemon.url, { viewport: { width: 375, height: 760 }, hasTouch: true, isMobile: true });
  await live(page);
  await row(page, 40).waitFor();
  const width = () => page.evaluate(() => document.documentElement.scrollWidth);
  assert.equal(await width(), 375);
  for (const box of await page.$$eval('button:not([hidden]), select, .row, .tile', (all) => all.filter((one) => one.offsetParent).map((one) => one.getBoundingClientRect().toJSON()))) {
    assert.ok(box.left >= 0 && box.right <= 375, JSON.stringify(box));
  }
  await row(page, 40).tap();
  await page.locator('#detail[open]').waitFor();
  assert.equal(await width(), 375);
  await page.click('#detail-close');
  await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
  await row(page, 1).waitFor();
});
