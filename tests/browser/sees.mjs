// What somebody who has a page open sees: node sees.mjs ADDRESS. Each line of stdin is waited for on the page, and said again.

import { createInterface } from 'node:readline';
import { PATIENCE_MS, launch, quit } from './daemon.mjs';

try {
  const page = await (await launch()).newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  await page.goto(process.argv[2]);
  for await (const text of createInterface({ input: process.stdin })) {
    await page.getByText(text, { exact: true }).locator('visible=true').first().waitFor();
    console.log(text);
  }
} finally {
  await quit();
}
