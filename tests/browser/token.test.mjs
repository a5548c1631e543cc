// A page for those who hold a token: by a link, by hand, and what it says when one is refused, runs out or is taken away.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { promisify } from 'node:util';
import { BINARY, Daemon, Writer, launch, openPage, quit, workspace } from './daemon.mjs';

// Started before the first page waits for it.
await launch();
after(quit);

const run = promisify(execFile);
const mode = (page, name) => page.locator(`#dot[title="${name}"]`).waitFor();
/** What the browser prints of a refusal is expected here. */
const refused = { script: (page) => { page.expectsOutage = true; } };

/**
 * A daemon that asks for tokens, two rows of acme and one of globex; `token(...)` runs `walcast token`. Tokens made before it
 * starts are known at once: name → what it may do.
 */
async function office(t, grants = { acme: ['--feed', 'orders', '--where', 'customer=acme'] }) {
  const dir = await workspace(t);
  const config = join(dir, 'walcast.toml');
  const tokens = join(dir, 'tokens.toml');
  await writeFile(config, `[auth]\ntokens = ${JSON.stringify(tokens)}\n\n[feeds.orders]\ntable = "orders"\nscope = { customer = "claim:customer" }\n\n[feeds.jobs]\ntable = "jobs"\nscope = "none"\n`);
  const token = async (...args) => (await run(BINARY, ['token', ...args, '--config', config])).stdout.trim();
  const writer = Writer.start(t, join(dir, 'events.db'));
  await writer.sql('CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, what TEXT); CREATE TABLE jobs (id INTEGER PRIMARY KEY, customer TEXT, what TEXT)');
  for (const customer of ['acme', 'globex', 'acme']) await writer.insert({ customer, what: 'tea' }, 'orders');
  const made = {};
  for (const [name, grant] of Object.entries(grants)) made[name] = await token('add', name, ...grant);
  return { writer, token, ...made, daemon: await Daemon.start(t, dir, ['--config', config]) };
}

test('a link with a token opens the page, and the token leaves the address', async (t) => {
  const { writer, link, daemon } = await office(t, { link: ['--feed', 'orders', '--where', 'customer=acme', '--link', 'http://walcast.test/'] });
  const page = await openPage(t, link.replace('http://walcast.test/', daemon.url));
  await mode(page, 'Live');
  await page.locator('#row-3').waitFor();
  assert.ok(!page.url().includes('token'), page.url());
  assert.equal(await page.locator('#row-2').count(), 0, 'a row of another customer');
  const { id } = await writer.insert({ customer: 'acme', what: 'milk' }, 'orders');
  await page.locator(`#row-${id}`).waitFor();
  const used = await page.evaluate(() => performance.getEntriesByType('resource').map(({ name }) => name));
  assert.deepEqual(used.filter((name) => name.includes('wct_')), [], 'no address carries the token');
  await page.reload();
  await mode(page, 'Live');
  // What is offered to be pasted takes a token, and holds none.
  await page.click('#connect-open');
  for (const way of ['curl', 'JavaScript', 'Browser', 'React', 'Python', 'tail']) {
    await page.getByRole('tab', { name: way, exact: true }).click();
    assert.doesNotMatch(await page.locator('#connect-code').textContent(), /wct_\w/);
  }
  await page.locator('#connect-secret').waitFor();
});

test('a link goes to the feed it names', async (t) => {
  const { both, daemon } = await office(t, { both: ['--feed', 'orders', '--feed', 'jobs', '--where', 'customer=acme', '--link', 'http://walcast.test/#/jobs'] });
  const page = await openPage(t, both.replace('http://walcast.test/', daemon.url));
  await mode(page, 'Live');
  assert.equal(await page.locator('#feed-name').textContent(), 'jobs');
  assert.equal(new URL(page.url()).hash, '#/jobs');
});

test('without a token it is asked for; a wrong one is told, and presented no second time', async (t) => {
  const { acme, daemon } = await office(t);
  const page = await openPage(t, daemon.url, refused);
  await page.getByText('A token is needed').waitFor();
  await page.fill('#token-input', 'two words');
  await page.click('#token button[type=submit]');
  await page.getByText('characters that no token has').waitFor();
  const asked = [];
  page.on('request', (request) => asked.push(request.url()));
  await page.fill('#token-input', acme.replace(/.$/, (last) => (last === 'A' ? 'B' : 'A')));
  await page.click('#token button[type=submit]');
  await page.getByText('The token is not good here').waitFor();
  assert.equal(asked.length, 1);
  await page.fill('#token-input', acme);
  await page.click('#token button[type=submit]');
  await mode(page, 'Live');
  await page.locator('#row-3').waitFor();
});

test('a token that is revoked ends what is shown, and another goes on', async (t) => {
  const grant = (customer) => ['--feed', 'orders', '--where', `customer=${customer}`];
  const { token, acme, globex, daemon } = await office(t, { acme: grant('acme'), globex: grant('globex') });
  const page = await openPage(t, `${daemon.url}#token=${acme}`, refused);
  await mode(page, 'Live');
  await token('revoke', 'acme');
  await page.getByText('The token is no longer valid').waitFor();
  assert.equal(await page.locator('.row').locator('visible=true').count(), 0);
  // Another link, pasted into the same tab.
  await page.goto(`${daemon.url}#token=${globex}`);
  await page.locator('#row-2').waitFor();
  await mode(page, 'Live');
});

test('a token that runs out is told as that', async (t) => {
  const { short, daemon } = await office(t, { short: ['--feed', 'orders', '--where', 'customer=acme', '--expires', '4s'] });
  const page = await openPage(t, `${daemon.url}#token=${short}`, refused);
  await page.locator('#row-3').waitFor();
  await page.getByText('The token has expired').waitFor();
  assert.equal(await page.locator('.row').locator('visible=true').count(), 0);
});

test('a grant that is changed goes on with what it is now; a feed that is taken away is gone', async (t) => {
  const { token, acme, daemon } = await office(t);
  const page = await openPage(t, `${daemon.url}#/orders#token=${acme}`, refused);
  await mode(page, 'Live');
  await token('set', 'acme', '--feed', 'orders', '--feed', 'jobs', '--where', 'customer=acme');
  await page.locator('a.feed[data-feed=jobs]').waitFor();
  await mode(page, 'Live');
  await token('set', 'acme', '--feed', 'jobs');
  await page.getByText('There is no feed “orders” here.').waitFor();
  await page.locator('#feed-name').getByText('jobs').waitFor();
  await page.click('#token-open');
  await page.getByText('Another token').waitFor();
  await page.click('#token-forget');
  await page.getByText('A token is needed').waitFor();
});
