// The recipes that need next to nothing.

import { after, before, test } from 'node:test';
import { launch, quit } from '../browser/daemon.mjs';
import { build, buildClient, install, serve, shows } from './recipe.mjs';

before(async () => {
  buildClient();
  await launch();
});
after(quit);

test('Vite with a proxy', async (t) => {
  install('vite');
  await shows(t, (daemon) => serve(t, 'vite', ['node', 'node_modules/vite/bin/vite.js', '--port', '0'], { WALCAST_URL: daemon.url }));
  build('vite');
});
