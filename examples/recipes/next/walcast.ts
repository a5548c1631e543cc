// What the server knows of the daemon. Nothing here reaches a browser.
import { readFile } from "node:fs/promises";
import type { RemediationEvent } from "walcast-client";

/** Without a slash at its end. */
export const WALCAST_URL = (process.env.WALCAST_URL ?? "http://127.0.0.1:8010").replace(/\/$/, "");

/** Rows as the server rendered them, and from where a subscription goes on. */
export interface Page {
  /** Newest first. */
  items: RemediationEvent[];
  /** The highest id there was. */
  head: RemediationEvent["id"];
  /** The history the ids belong to. */
  epoch: string | null;
}

/** The token to read with, from a file that is read anew each time so that it can be renewed. */
export async function readToken(): Promise<string> {
  const file = process.env.WALCAST_TOKEN_FILE ?? "token";
  // Not a file of the project that a build should trace and take along.
  return (await readFile(/*turbopackIgnore: true*/ file, "utf8")).trim();
}

/** The newest rows of the stock feed. */
export async function readNewest(limit: number): Promise<Page> {
  const headers = { Authorization: `Bearer ${await readToken()}` };
  const answer = await fetch(`${WALCAST_URL}/api/feeds/remediation/events?limit=${limit}`, { headers, cache: "no-store" });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error?.message ?? `the daemon answers ${answer.status}`);
  return body;
}
