// axe-core finds nothing to say of the page: in each state, in both themes, at the widths of a desk, a tablet and a phone.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, test } from 'node:test';
import { launch, quit } from './daemon.mjs';
import { STATES, WIDTHS, pageIn } from './page-states.mjs';

// Started before the first page waits for it.
await launch();
after(quit);

const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
/**
 * What axe-core objects to, as lines of words. A look takes a while, in which the page draws its numbers anew: what is wrong
 * with the page is still there at a second look.
 */
async function violations(page) {
  await page.evaluate(AXE);
  const look = async () => {
    const { violations: found } = await page.evaluate(() => globalThis.axe.run());
    return found.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id} ${target}: ${failureSummary}`));
  };
  const first = await look();
  if (first.length === 0) return first;
  const second = new Set(await look());
  return first.filter((line) => second.has(line));
}

for (const name of Object.keys(STATES)) {
  test(`nothing stands in the way: ${name}`, async (t) => {
    const page = await pageIn(t, name);
    for (const width of WIDTHS) {
      for (const colorScheme of ['light', 'dark']) {
        await page.setViewportSize({ width, height: 800 });
        await page.emulateMedia({ colorScheme });
        assert.deepEqual(await violations(page), [], `${width} px, ${colorScheme}`);
      }
    }
  });
}
