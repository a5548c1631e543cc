import { readToken } from "../../walcast";

/**
 * Gives the page a token. Look at the session here, and give each user one of their own: what it may read is decided by
 * whom the daemon takes it for.
 */
export async function POST() {
  return new Response(await readToken(), { headers: { "Cache-Control": "no-store" } });
}
