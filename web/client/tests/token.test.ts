// Tokens: against a scripted server, and against a daemon that asks for them.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import type { SubscribeOptions } from "../src/index.js";
import { Daemon, daemonBinary } from "./harness/daemon.js";
import { Ledger, until } from "./harness/ledger.js";
import { rows, ScriptedFeed } from "./harness/scripted-feed.js";

const opened: Array<{ close(): void }> = [];
afterEach(() => {
  for (const each of opened.splice(0)) each.close();
});

function follow(url: string, options: SubscribeOptions): Ledger {
  const ledger = new Ledger(url, options);
  opened.push(ledger.subscription);
  return ledger;
}

describe("with a scripted server", () => {
  let feed: ScriptedFeed;
  const expired = { status: 401, body: JSON.stringify({ error: { code: "token_expired", message: "the token has expired" } }) };
  beforeEach(async () => {
    feed = await new ScriptedFeed().start();
  });
  afterEach(() => feed.stop());

  test("4401 after the hello: the same token once more, for it may stand for something else now", async () => {
    feed.rows = rows(1, 2);
    feed.script = (socket, query, attempt) => {
      feed.greet(socket, query);
      if (attempt === 1) socket.close(4401);
      return true;
    };
    const ledger = follow(feed.url, { since: "earliest", token: "t" });
    await until(() => feed.connections.length === 2 && ledger.subscription.status.state === "live", () => "the next connection");
    expect(ledger.statuses.map(({ message }) => message)).toContain("The token has expired; coming back with a fresh one.");
    expect(ledger.codes).toEqual([]);
    expect(ledger.ids).toEqual([1, 2]);
  });

  test("4401 at once: final when the function gives the same one again", async () => {
    feed.script = (socket) => {
      socket.close(4401);
      return true;
    };
    let asked = 0;
    const ledger = follow(feed.url, { token: () => `t${Math.min((asked += 1), 3)}`, historyUrl: false });
    expect(await ledger.error("token_expired")).toMatchObject({ fatal: true });
    expect(feed.connections.map(({ protocol }) => protocol)).toEqual(["t1", "t2", "t3"].map((token) => `walcast.v1,walcast.bearer.${token}`));
    expect(ledger.subscription.status.state).toBe("closed");
    expect(asked).toBe(4);
  });

  test("the history's 401 token_expired: asked again at once with a fresh token", async () => {
    feed.refuseUpgrade = 503;
    feed.rows = rows(1, 3);
    feed.historyAnswer = expired;
    let asked = 0;
    const ledger = follow(feed.url, {
      since: "earliest",
      token: () => {
        if ((asked += 1) === 3) feed.historyAnswer = null;
        return `t${asked}`;
      },
    });
    await ledger.count(3);
    const presented = feed.historyRequests.map(({ headers }) => headers.authorization);
    expect(presented).toEqual([...new Set(presented)]);
    expect(ledger.codes).not.toContain("unauthorized");
  });

  test("the history's 401 token_expired for the one token there is: final", async () => {
    feed.refuseUpgrade = 401;
    feed.historyAnswer = expired;
    const ledger = follow(feed.url, { token: "t" });
    expect(await ledger.error("token_expired")).toMatchObject({ fatal: true });
    expect(feed.historyRequests.length).toBe(1);
  });

  test("tokens that all are expired: refused, and tried again", async () => {
    feed.refuseUpgrade = 401;
    feed.historyAnswer = expired;
    let asked = 0;
    const ledger = follow(feed.url, { token: () => `t${(asked += 1)}` });
    await ledger.state("refused");
    expect((await ledger.error("unauthorized")).message).toContain("the token has expired");
    feed.refuseUpgrade = feed.historyAnswer = null;
    await ledger.state("live");
  });

  test.each(["token_invalid", "token_missing", "claim_missing"])("the history's 401 %s: final, in the server's words", async (code) => {
    feed.refuseUpgrade = 401;
    feed.historyAnswer = { status: 401, body: JSON.stringify({ error: { code, message: "ask for another" } }) };
    const ledger = follow(feed.url, { token: "t" });
    expect(await ledger.error("token_refused")).toMatchObject({ fatal: true, message: expect.stringContaining("ask for another") });
    expect(ledger.subscription.status.state).toBe("closed");
  });
});

describe.skipIf(daemonBinary() === null)("with a daemon that asks for tokens", () => {
  let daemon: Daemon;
  beforeEach(async () => {
    daemon = new Daemon();
    await daemon.start(...(await daemon.askForTokens()));
  });
  afterEach(() => daemon.remove());

  /** A socket as a page opens it: with an origin, so that a refusal comes as a close code. */
  class OfAPage extends WebSocket {
    constructor(url: string, protocols?: string[]) {
      super(url, protocols, { origin: daemon.http });
    }
  }

  const soon = () => new Date(Date.now() + 4_000).toISOString().replace(/\.\d+Z/, "Z");
  let made = 0;
  const make = (...options: string[]) => daemon.token("add", `token${(made += 1)}`, "--feed", "remediation", ...options);
  const some = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, index) => ({ alertname: `a${first + index}` }));

  test.each([["Node.js", WebSocket], ["a page", OfAPage]] as const)("in %s: expiry costs no row where a fresh token comes", async (_, Socket) => {
    let current = await make("--expires", soon());
    const used: string[] = [];
    const ledger = follow(daemon.url, {
      since: "earliest",
      WebSocket: Socket,
      token: async () => {
        // The first is asked for to connect with, the second when that has expired.
        if (used.length === 1) current = await make();
        used.push(current);
        return current;
      },
    });
    await ledger.state("live");
    let written = 0;
    while (used.length < 2) {
      daemon.insert(...some(written + 1, (written += 3)));
      await ledger.count(written);
    }
    daemon.insert(...some(written + 1, (written += 3)));
    await ledger.state("live");
    daemon.insert(...some(written + 1, (written += 3)));
    await ledger.count(written);
    expect(ledger.ids).toEqual(Array.from({ length: written }, (_, index) => index + 1));
    expect(new Set(used).size).toBe(2);
    expect([ledger.codes, ledger.resets]).toEqual([[], []]);
  });

  test.each([["Node.js", WebSocket], ["a page", OfAPage]] as const)("in %s: the one token there is expires: final", async (_, Socket) => {
    const ledger = follow(daemon.url, { WebSocket: Socket, token: await make("--expires", soon()) });
    await ledger.state("closed");
    expect(ledger.codes).toEqual(["token_expired"]);
  });

  test.each([["Node.js", WebSocket], ["a page", OfAPage]] as const)("in %s: a token that is none is final, and so is none at all", async (_, Socket) => {
    for (const about of [{ token: "wct_nobody" }, {}]) {
      const ledger = follow(daemon.url, { WebSocket: Socket, ...about });
      expect(await ledger.error("token_refused")).toMatchObject({ fatal: true });
    }
  });

  test("a token that is revoked while it is used: final", async () => {
    const ledger = follow(daemon.url, { token: await make() });
    await ledger.state("live");
    await daemon.token("revoke", `token${made}`);
    expect(await ledger.error("token_refused")).toMatchObject({ fatal: true });
  });

  test("a feed that is taken from the token: final; with other rights it goes on", async () => {
    const ledger = follow(daemon.url, { since: "earliest", token: await make() });
    await ledger.state("live");
    await daemon.token("set", `token${made}`, "--feed", "remediation", "--metrics");
    await until(() => ledger.statuses.some(({ message }) => message.startsWith("The token has expired")), () => `4401; ${ledger.log.join()}`);
    await ledger.state("live");
    daemon.insert(...some(1, 2));
    await ledger.count(2);
    await daemon.token("set", `token${made}`, "--feed", "other");
    expect(await ledger.error("feed_gone")).toMatchObject({ fatal: true });
    expect(ledger.ids).toEqual([1, 2]);
  });
});
