// Pictures of every state of the page, at each width and in both themes, to be looked at: node pictures.mjs DIRECTORY [WORD OF A STATE'S NAME]

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { quit } from './daemon.mjs';
import { STATES, WIDTHS, pageIn } from './page-states.mjs';

const [, , directory, word = ''] = process.argv;
await mkdir(directory, { recursive: true });
try {
  for (const name of Object.keys(STATES).filter((each) => each.includes(word))) {
    const undo = [];
    const page = await pageIn({ after: (step) => undo.push(step) }, name);
    for (const width of WIDTHS) {
      for (const colorScheme of ['light', 'dark']) {
        await page.setViewportSize({ width, height: width < 640 ? 812 : 800 });
        await page.emulateMedia({ colorScheme });
        await page.screenshot({ path: join(directory, `${name.replaceAll(/[^a-z]+/g, '-')}-${width}-${colorScheme}.png`), animations: 'disabled' });
      }
    }
    for (const step of undo) await step();
  }
} finally {
  await quit();
}
