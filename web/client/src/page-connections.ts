// The shared connections of this page, each found by what its users ask for.
import type { Target } from "./options.js";
import { SharedConnection } from "./shared-connection.js";

// Weakly, so that a connection and its recent rows go with the last subscription that holds it.
const connections = new Map<string, WeakRef<SharedConnection>>();
const forgotten = new FinalizationRegistry<string>((key) => {
  if (connections.get(key)?.deref() === undefined) connections.delete(key);
});

/** The connection for all that ask for this, with the same credentials. */
export function sharedConnection(target: Target): SharedConnection {
  const key = keyOf(target);
  const known = connections.get(key)?.deref();
  if (known) return known;
  const connection = new SharedConnection();
  connections.set(key, new WeakRef(connection));
  forgotten.register(connection, key);
  return connection;
}

function keyOf(target: Target): string {
  const token = target.credentials.identity;
  return JSON.stringify([askedBy(target), target.share, numberOf(target.WebSocket), typeof token === "function" ? numberOf(token) : [token]]);
}

/** What subscriptions have to have in common, beside their credentials, to be served by one connection. */
export function askedBy({ socketUrl, sseUrl, multiplexUrl, filters, headers, timing }: Target): string {
  const sorted = (pairs: ReadonlyArray<readonly [string, unknown]>) => pairs.map((pair) => JSON.stringify(pair)).sort();
  return JSON.stringify([socketUrl.href, sseUrl?.href, multiplexUrl?.href, sorted(filters), sorted(Object.entries(headers)), sorted(Object.entries(timing))]);
}

const numbers = new WeakMap<object, number>();
let count = 0;

/** A number for a class or a function, the same each time. */
export function numberOf(thing: object): number {
  const known = numbers.get(thing);
  if (known !== undefined) return known;
  count += 1;
  numbers.set(thing, count);
  return count;
}
