// Takes the README's picture of the dashboard anew: node picture.mjs, in this directory.

import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Daemon, Writer, launch, quit, workspace } from './daemon.mjs';

const PICTURE = fileURLToPath(new URL('../../docs/dashboard.png', import.meta.url));
const ALERTS = [
  ['DiskAlmostFull', 'rotate_logs', '11 % free on /var after removing rotated logs'],
  ['PodCrashLooping', 'restart_pod', 'restarted after 5 crashes in ten minutes'],
  ['CertificateExpiring', 'renew_certificate', '6 days were left'],
  ['HighMemory', 'scale_out', 'one replica added at 91 % of memory'],
];
const TENANTS = ['acme', 'globex', 'initech'];

const undo = [];
const test = { after: (step) => undo.push(step) };
try {
  const dir = await workspace(test);
  const writer = Writer.start(test, `${dir}/events.db`);
  const event = (n, ts) => {
    const [alertname, action, details] = ALERTS[(n * 7) % 4];
    return { ts: ts.toISOString(), alertname, action, details, tenant: TENANTS[(n * 5) % 3], status: n % 6 === 4 ? 'failed' : 'success' };
  };
  // Denser towards now, as where something begins to go wrong.
  for (let n = 0; n < 60; n++) await writer.event(event(n, new Date(Date.now() - 58 * 60_000 * ((59 - n) / 59) ** 1.6)));
  const others = ['alerts', 'audit_log', 'deployments', 'orders', 'payments'];
  await writer.sql(others.map((name) => `CREATE TABLE ${name} (id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT);`).join('\n'));
  const config = `${dir}/walcast.toml`;
  await writeFile(config, 'feeds = "*"\n');
  const daemon = await Daemon.start(test, dir, ['--config', config]);
  const page = await (await launch()).newPage({ viewport: { width: 1280, height: 680 }, colorScheme: 'light' });
  await page.goto(`${daemon.url}#/remediation`);
  await page.getByText('Live', { exact: true }).first().waitFor();
  for (let n = 60; n < 64; n++) await writer.event(event(n, new Date()));
  await page.getByText('64', { exact: true }).first().waitFor();
  await page.getByText('64 events').first().waitFor();
  for (let n = 0; n < 12; n++) await writer.insert({ what: 'news' }, ['orders', 'orders', 'payments'][n % 3]);
  await page.locator('a.feed[data-feed=orders] .badge').getByText('8', { exact: true }).waitFor();
  await page.screenshot({ path: PICTURE, animations: 'disabled' });
} finally {
  for (const step of undo.reverse()) await step();
  await quit();
}
