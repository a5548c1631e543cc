// The dashboard over TLS, from a daemon whose certificate an authority of the browser's own vouches for.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Daemon, Writer, launch, openPage, quit, workspace } from './daemon.mjs';

const run = promisify(execFile);

/** A directory with the authority, the certificate it has signed, and what Chromium believes. */
async function madeHome() {
  const home = await mkdtemp(join(tmpdir(), 'walcast-home-'));
  await run(fileURLToPath(new URL('../peers/authority', import.meta.url)), [home]);
  const store = join(home, '.pki', 'nssdb');
  await mkdir(store, { recursive: true });
  await run('certutil', ['-d', `sql:${store}`, '-N', '--empty-password']);
  await run('certutil', ['-d', `sql:${store}`, '-A', '-t', 'C,,', '-n', 'walcast tests', '-i', join(home, 'ca.pem')]);
  return home;
}

const home = await madeHome();
await launch(home);
after(async () => {
  await quit();
  await rm(home, { recursive: true, force: true });
});

async function start(t) {
  const [dir, ca] = [await workspace(t), await readFile(join(home, 'ca.pem'))];
  const daemon = await Daemon.start(t, dir, ['--tls-cert', join(home, 'cert.pem'), '--tls-key', join(home, 'key.pem')], ca);
  return { daemon, writer: Writer.start(t, daemon.db) };
}

test('the dashboard is live over TLS, and has its files over HTTP/2', async (t) => {
  const { daemon, writer } = await start(t);
  const first = await writer.event({ details: 'before' });
  const page = await openPage(t, daemon.url);
  await page.locator('#dot[title="Live"]').waitFor();
  await page.locator(`#row-${first.id}`).waitFor();
  const second = await writer.event({ details: 'after' });
  await page.locator(`#row-${second.id}`).waitFor();
  const protocols = await page.evaluate(() => performance.getEntries().map(({ nextHopProtocol }) => nextHopProtocol).filter(Boolean));
  assert.ok(protocols.length > 3, String(protocols));
  assert.deepEqual([...new Set(protocols)], ['h2']);
  assert.equal(await page.evaluate(() => window.isSecureContext), true);
});

test('a page goes on after a restart, with every row', async (t) => {
  const { daemon, writer } = await start(t);
  const page = await openPage(t, daemon.url, { script: (page) => { page.expectsOutage = true; } });
  await page.locator('#dot[title="Live"]').waitFor();
  await daemon.stop();
  const { id } = await writer.event({ details: 'meanwhile' });
  await daemon.up();
  await page.locator(`#row-${id}`).waitFor();
  await page.locator('#dot[title="Live"]').waitFor();
});

test('more EventSources than a browser opens connections are all sent rows', async (t) => {
  const { daemon, writer } = await start(t);
  const page = await openPage(t, daemon.url);
  await page.locator('#dot[title="Live"]').waitFor();
  await page.evaluate(() => {
    window.got = Array.from({ length: 12 }, () => []);
    window.opened = Promise.all(window.got.map((ids) => new Promise((resolve, reject) => {
      const events = new EventSource('/sse/remediation');
      events.onopen = resolve;
      events.onerror = () => reject(new Error('the stream broke'));
      events.onmessage = ({ data }) => ids.push(JSON.parse(data).event.id);
    })));
  });
  await page.evaluate(() => window.opened.then(() => true));
  const { id } = await writer.event();
  await page.waitForFunction((id) => window.got.every((ids) => ids.includes(id)), id);
});
