// The one file that pages load without a build step, as it is committed.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { afterAll, expect, test } from "vitest";

const PACKAGE = fileURLToPath(new URL("..", import.meta.url));
const COMMITTED = join(PACKAGE, "browser/walcast.js");
const directory = mkdtempSync(join(tmpdir(), "walcast-bundle-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

test("it is what the sources make (else: npm run bundle)", () => {
  const made = join(directory, "walcast.js");
  execFileSync("npm", ["run", "--silent", "bundle", "--", `--outfile=${made}`], { cwd: PACKAGE, stdio: "pipe" });
  expect(readFileSync(COMMITTED, "utf8")).toBe(readFileSync(made, "utf8"));
});

test("it is as large as the README says", () => {
  const [, plain, packed] = /\((\d+) KB, (\d+) KB gzipped\)/.exec(readFileSync(join(PACKAGE, "README.md"), "utf8"))!;
  const bundle = readFileSync(COMMITTED);
  const off = (bytes: Uint8Array, said: string | undefined) => Math.abs(bytes.length / 1000 - Number(said));
  expect(off(bundle, plain)).toBeLessThanOrEqual(0.5);
  // Versions of zlib differ by some bytes.
  expect(off(gzipSync(bundle), packed)).toBeLessThanOrEqual(0.6);
});

test("it exports what the package exports, and imports nothing", async () => {
  const [bundle, sources] = await Promise.all([import(COMMITTED), import("../src/index.js")]);
  expect(Object.keys(bundle).sort()).toEqual(Object.keys(sources).sort());
  expect(readFileSync(COMMITTED, "utf8")).not.toMatch(/\bimport\b[^.]/);
});
