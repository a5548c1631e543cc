// The recipes that need next to nothing.

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, quit } from '../browser/daemon.mjs';
import { RECIPES, build, buildClient, install, serve, shows } from './recipe.mjs';

before(async () => {
  buildClient();
  await launch();
});
after(quit);

test('a page with nothing but a script of the daemon', async (t) => {
  const source = await readFile(join(RECIPES, 'plain/index.html'), 'utf8');
  await shows(t, async (daemon, dir) => {
    const site = join(dir, 'site');
    await mkdir(site);
    await writeFile(join(site, 'index.html'), source.replaceAll('http://127.0.0.1:8010/', daemon.url));
    return serve(t, 'plain', ['python3', '-m', 'http.server', '0', '--bind', '127.0.0.1', '--directory', site]);
  });
});

test('Vite with a proxy', async (t) => {
  install('vite');
  await shows(t, (daemon) => serve(t, 'vite', ['node', 'node_modules/vite/bin/vite.js', '--port', '0'], { WALCAST_URL: daemon.url }));
  build('vite');
});
