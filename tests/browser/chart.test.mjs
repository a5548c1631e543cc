// The chart: what it counts, its legend, tooltip and zoom; and that the code it stands on is what npm has.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Daemon, Writer, launch, openPage, quit, workspace } from './daemon.mjs';

// Started before the first page waits for it.
await launch();
after(quit);

const live = (page) => page.locator('#dot[title="Live"]').waitFor();

/** A page on events of the last ten minutes, one a minute, every third of them failed. */
async function tenMinutes(t) {
  const daemon = await Daemon.start(t, await workspace(t));
  const writer = Writer.start(t, daemon.db);
  for (let i = 10; i > 0; i -= 1) await writer.event({ ts: new Date(Date.now() - i * 60_000).toISOString(), status: i % 3 ? 'success' : 'failed' });
  const page = await openPage(t, daemon.url);
  await live(page);
  await page.locator('#chart-readout').getByText('10 events · 3 failed').waitFor();
  return { page, writer };
}

/** Waits until the chart's canvas has pixels of the colour that the style sheet gives this name, or has none. */
const painted = (page, name, wanted = true) => page.waitForFunction(([variable, there]) => {
  const canvas = document.querySelector('#chart-place canvas');
  // Read from copies: a canvas that is read often is drawn in another way from then on.
  const copy = (width, height) => Object.assign(document.createElement('canvas'), { width, height }).getContext('2d', { willReadFrequently: true });
  const probe = copy(1, 1);
  probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(variable);
  probe.fillRect(0, 0, 1, 1);
  const [r, g, b] = probe.getImageData(0, 0, 1, 1).data;
  const picture = copy(canvas.width, canvas.height);
  picture.drawImage(canvas, 0, 0);
  const { data } = picture.getImageData(0, 0, canvas.width, canvas.height);
  let found = false;
  for (let i = 0; i < data.length && !found; i += 4) found = data[i] === r && data[i + 1] === g && data[i + 2] === b;
  return found === there;
}, [name, wanted], { polling: 200 });

test('events are counted by outcome, live, in the colours of the theme', async (t) => {
  const { page, writer } = await tenMinutes(t);
  assert.deepEqual(await page.$$eval('#chart-legend button', (all) => all.map((one) => one.textContent)), ['succeeded', 'failed']);
  for (const name of ['--good-bar', '--bad-bar']) await painted(page, name);
  await page.click('#theme');
  for (const name of ['--good-bar', '--bad-bar']) await painted(page, name);
  await writer.event({ status: 'failed' });
  await page.locator('#chart-readout').getByText('11 events · 4 failed').waitFor();
});

test('the tooltip says what a bar is, and dragging zooms in', async (t) => {
  const { page } = await tenMinutes(t);
  const box = await page.locator('#chart-place .u-over').boundingBox();
  const bars = [];
  for (let x = 1; x < box.width && bars.length === 0; x += 4) {
    await page.mouse.move(box.x + x, box.y + box.height / 2);
    const text = await page.locator('#chart-tip').textContent();
    if (/1 (succeeded|failed)/.test(text)) bars.push(x);
  }
  assert.equal(bars.length, 1, 'a bar says its number');
  await page.mouse.move(box.x + box.width / 2, box.y + 20);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width - 2, box.y + 20, { steps: 5 });
  await page.mouse.up();
  await page.locator('#chart-unzoom').waitFor();
  await page.waitForFunction(() => Number.parseInt(document.getElementById('chart-readout').textContent, 10) < 10);
  await page.click('#chart-unzoom');
  await page.locator('#chart-readout').getByText('10 events · 3 failed').waitFor();
});

test('an outcome can be left out', async (t) => {
  const { page } = await tenMinutes(t);
  const failed = page.getByRole('button', { name: 'failed', exact: true });
  await failed.click();
  assert.equal(await failed.getAttribute('aria-pressed'), 'false');
  await painted(page, '--bad-bar', false);
  await painted(page, '--good-bar');
  await failed.click();
  await painted(page, '--bad-bar');
});

test('the code of the chart is what npm has, and the daemon serves it with its licence', async (t) => {
  const package_ = dirname(createRequire(import.meta.url).resolve('uplot/package.json'));
  const { version } = JSON.parse(await readFile(join(package_, 'package.json'), 'utf8'));
  const vendored = (name) => readFile(fileURLToPath(new URL(`../../web/dashboard/vendor/uPlot/${name}`, import.meta.url)), 'utf8');
  assert.match(await vendored('README.md'), new RegExp(`^# uPlot ${version.replaceAll('.', '\\.')}$`, 'm'));
  const daemon = await Daemon.start(t, await workspace(t));
  for (const [served, name, original] of [
    ['uplot.js', 'uPlot.iife.min.js', 'dist/uPlot.iife.min.js'],
    ['uplot.css', 'uPlot.min.css', 'dist/uPlot.min.css'],
    ['uplot-licence.txt', 'LICENSE', 'LICENSE'],
  ]) {
    const text = await vendored(name);
    assert.equal(text, await readFile(join(package_, original), 'utf8'), name);
    assert.equal(await (await fetch(new URL(`dashboard/${served}`, daemon.url))).text(), text, served);
  }
});
