// The package as npm publishes it: what is in it, and whether a fresh project can use it.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import manifest from "../../package.json" with { type: "json" };

const PACKAGE = fileURLToPath(new URL("../..", import.meta.url));
const project = mkdtempSync(join(tmpdir(), "walcast-pack-"));
let files: string[];

beforeAll(() => {
  const [packed] = JSON.parse(npm(PACKAGE, "pack", "--json", "--ignore-scripts", "--pack-destination", project));
  files = packed.files.map(({ path }: { path: string }) => path);
  writeFileSync(join(project, "package.json"), JSON.stringify({ name: "fresh", private: true, type: "module" }));
  npm(project, "install", "--no-audit", "--no-fund", "--ignore-scripts", join(project, packed.filename));
  install("typescript");
}, 300_000);

afterAll(() => rmSync(project, { recursive: true, force: true }));

test("holds the built modules with their types, the readme, and nothing else", () => {
  for (const entry of Object.values(manifest.exports).flatMap((target) => (typeof target === "string" ? [target] : Object.values(target)))) {
    expect(files).toContain(entry.replace("./", ""));
  }
  expect(files).toEqual(expect.arrayContaining(["README.md", "LICENSE-MIT", "LICENSE-APACHE"]));
  expect(files.filter((path) => !/^(dist\/.*\.(js|d\.ts)|README\.md|LICENSE.*|package\.json)$/.test(path))).toEqual([]);
  for (const path of files.filter((name) => name.endsWith(".js"))) expect(files).toContain(path.replace(/js$/, "d.ts"));
});

test("needs no other package, React only for its own part", () => {
  expect(manifest).not.toHaveProperty("dependencies");
  const installed = npm(project, "ls", "--all", "--parseable").split("\n").filter((line) => /node_modules\/(?!walcast-client$|typescript$)/.test(line));
  expect(installed.filter((line) => !line.includes("/@typescript/"))).toEqual([]);
});

test("types check without a DOM, and the module loads", () => {
  writeFileSync(
    join(project, "plain.ts"),
    `import { compareIds, FeedError, subscribe, type RemediationEvent, type Subscription } from "walcast-client";
     const feed: Subscription<RemediationEvent> = subscribe<RemediationEvent>("ws://127.0.0.1:8010/ws/remediation", {
       since: 9007199254740993n, filters: { tenant: ["acme", "globex"] }, token: async () => "t", headers: { "X-User-Roles": "ops" },
       onEvent: (row, meta) => { const name: string | null = row.alertname; compareIds(row.id, meta.id); void name; },
       onStatus: ({ state }) => { const known: "live" | "polling" | string = state; void known; },
       onReset: ({ reason, earliest }) => void [reason, earliest],
       onError: (error: FeedError) => { if (error.fatal) feed.close(); },
     });
     for await (const row of feed) { const ts: string = row.ts; void ts; }
     // @ts-expect-error: a misspelt option
     subscribe("ws://x/ws/y", { onEvents: () => {} });
    `,
  );
  install("@types/node");
  typecheck(["plain.ts"], "ES2022", false);
  const loaded = execFileSync("node", ["-e", "import('walcast-client').then((m) => console.log(Object.keys(m).join()))"], { cwd: project, encoding: "utf8" });
  expect(loaded.trim()).toBe("FeedError,compareIds,subscribe,subscribeTable");
});

test("types of the React part check, and its module loads", () => {
  install("react", "@types/react");
  writeFileSync(
    join(project, "console.tsx"),
    `import { RecentRemediations, useFeed, useRemediationWebSocket, type RemediationEvent } from "walcast-client/react";
     export function Console() {
       const { lastEvent, isConnected } = useRemediationWebSocket("/ws/remediation");
       const { events, status, total, error } = useFeed<RemediationEvent>("/ws/remediation", { limit: 10, filters: { status: "failed" } });
       return <main title={status.message}>{isConnected && lastEvent?.alertname}{events.length}{total}{error?.message}<RecentRemediations roles={["ops"]} /></main>;
     }
    `,
  );
  typecheck(["console.tsx"], "ES2022,DOM", true);
  const loaded = execFileSync("node", ["-e", "import('walcast-client/react').then((m) => console.log(Object.keys(m).join()))"], { cwd: project, encoding: "utf8" });
  expect(loaded.trim()).toBe("RecentRemediations,useFeed,useRemediationWebSocket,useTable");
});

test("a console keeps its own type of event", () => {
  writeFileSync(
    join(project, "own.tsx"),
    `import { useEffect, useState } from "react";
     import { useFeed, useRemediationWebSocket } from "walcast-client/react";
     interface OwnEvent { id: number; ts: string; alertname: string; tenant: string; action: string; status: string; details: string }
     export function Own() {
       const [events, setEvents] = useState<OwnEvent[]>([]);
       const { lastEvent, isConnected } = useRemediationWebSocket<OwnEvent>();
       useEffect(() => { if (lastEvent) setEvents((known) => [lastEvent, ...known].slice(0, 10)); }, [lastEvent]);
       const feed = useFeed<OwnEvent>("/ws/remediation", { onEvent: (event) => void event.id.toFixed() });
       const newest: OwnEvent | undefined = feed.events[0];
       return <p title={newest?.alertname.trim()}>{isConnected ? events.map((event) => event.details.length) : null}</p>;
     }
    `,
  );
  typecheck(["own.tsx"], "ES2022,DOM", true);
});

test("types are found by projects that resolve modules in the old way", () => {
  writeFileSync(join(project, "old.ts"), `import { subscribe } from "walcast-client"; import { useFeed } from "walcast-client/react"; void [subscribe, useFeed];`);
  const tsc = join(project, "node_modules/typescript/bin/tsc");
  const options = ["--noEmit", "--strict", "--skipLibCheck", "--target", "ES2022", "--module", "CommonJS", "--moduleResolution", "node10", "--ignoreDeprecations", "5.0"];
  execFileSync("node", [tsc, ...options, "old.ts"], { cwd: project, encoding: "utf8", stdio: "pipe" });
});

test("React Server Components take the hooks for client code", () => {
  const built = files.filter((path) => /^dist\/react\/.*\.js$/.test(path) && path !== "dist/react/connection-key.js");
  expect(built.length).toBeGreaterThan(3);
  for (const path of built) {
    const source = readFileSync(join(project, "node_modules/walcast-client", path), "utf8");
    expect(source.startsWith('"use client";'), path).toBe(true);
  }
});

// Without skipLibCheck, so that the package's own declarations are checked too.
function typecheck(sources: string[], lib: string, jsx: boolean): void {
  const options = ["--noEmit", "--strict", "--exactOptionalPropertyTypes", "--target", "ES2022", "--module", "NodeNext", "--lib", lib];
  const tsc = join(project, "node_modules/typescript/bin/tsc");
  try {
    execFileSync("node", [tsc, ...options, ...(jsx ? ["--jsx", "react-jsx"] : []), ...sources], { cwd: project, encoding: "utf8", stdio: "pipe" });
  } catch (error) {
    throw new Error((error as { stdout: string }).stdout);
  }
}

/** Adds packages to the fresh project, in the versions that this package is developed with. */
function install(...names: Array<keyof typeof manifest.devDependencies>): void {
  npm(project, "install", "--no-audit", "--no-fund", "--ignore-scripts", ...names.map((name) => `${name}@${manifest.devDependencies[name]}`));
}

function npm(cwd: string, ...options: string[]): string {
  return execFileSync("npm", options, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}
