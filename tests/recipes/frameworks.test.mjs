// The recipes whose frameworks take a while to install.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { BINARY, PATIENCE_MS, launch, quit } from '../browser/daemon.mjs';
import { build, buildClient, install, serve, shows } from './recipe.mjs';

before(async () => {
  buildClient();
  await launch();
});
after(quit);

for (const [title, name] of [['Vue', 'vue'], ['Svelte', 'svelte'], ['TanStack Query', 'tanstack-query']]) {
  test(title, async (t) => {
    install(name);
    build(name);
    await shows(t, (daemon) => serve(t, name, ['node', 'node_modules/vite/bin/vite.js', '--port', '0'], { WALCAST_URL: daemon.url }));
  });
}

test('Next, rendered by the server, with a token', async (t) => {
  install('next');
  let dir;
  const tokens = (verb, ...args) => {
    const command = ['token', verb, ...args, '--feed', 'remediation', '--tokens', join(dir, 'tokens.toml')];
    return execFileSync(BINARY, command, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  };
  const asking = async (workspace) => {
    dir = workspace;
    await writeFile(join(dir, 'walcast.toml'), `[auth]\ntokens = "${join(dir, 'tokens.toml')}"\n`);
    await writeFile(join(dir, 'token'), tokens('add', 'console'));
    return ['--config', join(dir, 'walcast.toml')];
  };
  const next = (daemon) => {
    const environment = { WALCAST_URL: daemon.url, WALCAST_TOKEN_FILE: join(dir, 'token') };
    build('next', environment);
    return serve(t, 'next', ['node', 'node_modules/next/dist/bin/next', 'start', '--hostname', '127.0.0.1', '--port', '0'], environment);
  };
  const { daemon, insert, listed } = await shows(t, next, asking);

  // The first token shows nothing any more. The page is told that it stands for something else, asks for another, and goes on.
  const first = await readFile(join(dir, 'token'), 'utf8');
  await writeFile(join(dir, 'token'), tokens('add', 'fresh'));
  tokens('set', 'console', '--where', 'tenant=nobody');
  const seenByFirst = async () => {
    const answer = await fetch(new URL('api/feeds/remediation/events?limit=1', daemon.url), { headers: { Authorization: `Bearer ${first}` } });
    return (await answer.json()).total;
  };
  for (const end = Date.now() + PATIENCE_MS; await seenByFirst() !== 0; await setTimeout(50)) {
    assert.ok(Date.now() < end, 'the first token still reads rows');
  }
  await insert('with another token');
  await listed(37);
});
