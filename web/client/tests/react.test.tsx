// @vitest-environment jsdom
// The hooks and the component, rendered by React.
import { StrictMode, useEffect, type ReactNode } from "react";
import { createRoot, type Root } from "react-dom/client";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { RecentRemediations, useFeed, useRemediationWebSocket, useTable, type Feed, type Table, type UseFeedOptions } from "../src/react/index.js";
import type { Row } from "../src/index.js";
import { QUICK, until } from "./harness/ledger.js";
import { rows, ScriptedFeed } from "./harness/scripted-feed.js";

let feed: ScriptedFeed;
let root: Root;
let page: HTMLElement;

beforeEach(async () => {
  feed = await new ScriptedFeed().start();
  page = document.body.appendChild(document.createElement("main"));
  root = createRoot(page);
});

afterEach(async () => {
  vi.unstubAllGlobals();
  root.unmount();
  page.remove();
  await feed.stop();
});

describe("useFeed", () => {
  let shown: Feed | undefined;
  let rendered = 0;
  beforeEach(() => {
    shown = undefined;
    rendered = 0;
  });

  function Probe({ options = {}, url = feed.url }: { options?: UseFeedOptions<Row>; url?: string }): ReactNode {
    shown = useFeed(url, { timing: QUICK, ...options });
    rendered += 1;
    return null;
  }
  const ids = () => shown?.events.map(({ id }) => id);

  test("shows the newest rows, newest first, and how many there are", async () => {
    feed.rows = rows(1, 150);
    root.render(<Probe />);
    await until(() => shown?.status.state === "live" && shown.total === 150, () => "a count");
    expect(ids()).toEqual(rows(51, 150).map(({ id }) => id).reverse());
    feed.insert(...rows(151, 152));
    await until(() => shown!.total === 152, () => "the rows in the count");
    expect(ids()!.slice(0, 2)).toEqual([152, 151]);
  });

  test("loses nothing of a burst between two renders, and does not render for each row", async () => {
    root.render(<Probe options={{ limit: 5_000 }} />);
    await until(() => shown?.status.state === "live", () => "live");
    rendered = 0;
    feed.insert(...rows(1, 3_000));
    await until(() => shown!.events.length === 3_000, () => "all rows");
    expect(ids()).toEqual(rows(1, 3_000).map(({ id }) => id).reverse());
    expect(rendered).toBeLessThan(3_000);
  });

  test("options given anew on each render keep the subscription, others change it", async () => {
    const filters = (tenant: string) => ({ filters: { tenant: [tenant] }, headers: { "X-User-Roles": "ops" } });
    root.render(<Probe options={filters("a")} />);
    await until(() => shown?.status.state === "live", () => "live");
    const before = rendered;
    root.render(<Probe options={filters("a")} />);
    await until(() => rendered > before, () => "another render");
    expect(feed.connections.length).toBe(1);
    root.render(<Probe options={filters("b")} />);
    await until(() => feed.connections.length === 2, () => "another subscription");
    expect(feed.connections[1]!.query.get("tenant")).toBe("b");
    await until(() => feed.sockets.size === 1, () => "the end of the first");
  });

  test("in strict mode there is one subscription, and after unmounting none", async () => {
    feed.rows = rows(1, 3);
    root.render(
      <StrictMode>
        <Probe />
      </StrictMode>,
    );
    await until(() => shown?.status.state === "live", () => "live");
    expect(ids()).toEqual([3, 2, 1]);
    expect(feed.connections.length).toBe(1);
    root.unmount();
    await until(() => feed.sockets.size === 0, () => "the socket's end");
  });

  test("says what is wrong, and takes it back when it is over", async () => {
    await feed.stop();
    root.render(<Probe />);
    await until(() => shown?.error !== null && shown?.error !== undefined, () => "an error");
    expect(shown!.error!.message).toContain("can't be reached");
    expect(shown!.status.state).toBe("polling");
    await feed.start();
    await until(() => shown!.status.state === "live" && shown!.error === null, () => "recovery");
  });

  test("drops the rows of another history", async () => {
    feed.rows = rows(1, 3);
    root.render(<Probe />);
    await until(() => shown?.status.state === "live", () => "live");
    feed.epoch = "second";
    feed.rows = rows(1, 1);
    for (const socket of feed.sockets) socket.terminate();
    await until(() => shown!.events.length === 1 && shown!.total === 1, () => "the new history");
  });

  test("options that can't work are an error on the page, not an exception", async () => {
    root.render(<Probe options={{ last: 0 }} />);
    await until(() => shown?.status.state === "closed", () => "a refusal");
    expect(shown!.error!.message).toMatch(/^last: 0/);
  });
});

describe("useRemediationWebSocket", () => {
  test("each event of a burst is the last one for a render, in order", async () => {
    const seen: unknown[] = [];
    let connected = false;
    function Console(): ReactNode {
      const { lastEvent, isConnected } = useRemediationWebSocket(feed.url, { timing: QUICK });
      connected = isConnected;
      useEffect(() => {
        if (lastEvent) seen.push(lastEvent.id);
      }, [lastEvent]);
      return null;
    }
    root.render(
      <StrictMode>
        <Console />
      </StrictMode>,
    );
    await until(() => connected, () => "a connection");
    feed.insert(...rows(1, 500));
    await until(() => seen.length >= 500, () => "every event");
    await feed.stop();
    await until(() => !connected, () => "the loss");
    feed.rows.push(...rows(501, 510));
    await feed.start();
    await until(() => connected && seen.length >= 510, () => "what was missed");
    expect(seen).toEqual(rows(1, 510).map(({ id }) => id));
  });
});

describe("RecentRemediations", () => {
  const dot = () => page.querySelector("[role=img]");
  const items = () => [...page.querySelectorAll("li")].map((item) => item.dataset.id);

  test("the last ten, a dot, NULL in every column", async () => {
    feed.rows = rows(1, 12);
    root.render(<RecentRemediations url={feed.url} />);
    await until(() => dot()?.getAttribute("title") === "Live", () => "a green dot");
    await until(() => items().length === 10, () => "ten events");
    expect(items()).toEqual(["12", "11", "10", "9", "8", "7", "6", "5", "4", "3"]);
    expect(page.querySelector("[data-new=true]")).toBeNull();
    feed.insert({ id: 13, ts: null, alertname: "<b>x</b>", tenant: null, action: null, status: null, details: { embedded: true } });
    await until(() => items()[0] === "13", () => "the new event");
    expect(page.querySelector("li")!.dataset.new).toBe("true");
    expect(page.querySelector("li")!.textContent).toContain("<b>x</b> — —");
    expect(page.querySelector("li")!.textContent).toContain('{"embedded":true}');
  });

  test("polls with the user's roles while there is no socket", async () => {
    feed.rows = rows(1, 2);
    feed.refuseUpgrade = 503;
    root.render(<RecentRemediations url={feed.url} historyUrl="/ops/remediate/history" roles={["ops", "dev"]} />);
    await until(() => items().length === 2, () => "two events");
    expect(dot()!.getAttribute("title")).toBe("Polling");
    expect(feed.historyRequests.every(({ headers }) => headers["x-user-roles"] === "ops,dev")).toBe(true);
    expect(page.querySelector("[role=status]")!.textContent).toContain("opens no WebSocket");
  });

  test("asks for permission on a click only, and notifies while the page is hidden", async () => {
    const notified: string[] = [];
    class FakeNotification {
      static permission = "default";
      static requestPermission = vi.fn(async () => (FakeNotification.permission = "granted"));
      constructor(title: string, options: { body: string }) {
        notified.push(`${title}: ${options.body}`);
      }
    }
    vi.stubGlobal("Notification", FakeNotification);
    feed.rows = rows(1, 1);
    root.render(<RecentRemediations url={feed.url} />);
    await until(() => dot()?.getAttribute("title") === "Live", () => "live");
    expect(FakeNotification.requestPermission).not.toHaveBeenCalled();
    page.querySelector("button")!.click();
    await until(() => page.querySelector("button") === null, () => "the permission");
    feed.insert(...rows(2, 2));
    await until(() => items().length === 2, () => "a seen event");
    const hidden = vi.spyOn(document, "hidden", "get").mockReturnValue(true);
    feed.insert({ id: 3, alertname: "Disk", tenant: null, action: "rotate", status: "success" });
    await until(() => items().length === 3, () => "an unseen event");
    expect(notified).toEqual(["Disk (—): rotate: success"]);
    hidden.mockRestore();
  });
});

describe("useTable", () => {
  let shown: Table | undefined;

  function Probe(): ReactNode {
    shown = useTable(feed.url, { timing: QUICK });
    return null;
  }

  test("shows the table when it is whole, and each change of it", async () => {
    const send: Array<(change: object) => void> = [];
    feed.script = (socket) => {
      feed.sockets.add(socket);
      const frames = [
        { type: "hello", feed: "orders", kind: "changes", key: "seq", epoch: "e", head: 9, earliest: 3, since: 0, recovered: true, snapshot: true },
        { type: "orders_change", change: { op: "r", key: { id: 1 }, after: { id: 1, n: "a" } } },
      ];
      send.push((frame) => socket.send(JSON.stringify(frame)));
      for (const frame of frames) send.at(-1)!(frame);
      return true;
    };
    root.render(<StrictMode><Probe /></StrictMode>);
    await until(() => shown?.status.state === "replaying", () => "the snapshot");
    expect(shown!.rows).toBeNull();
    send.at(-1)!({ type: "live", id: 9 });
    await until(() => shown!.rows?.length === 1, () => "the row");
    const before = shown!.rows;
    send.at(-1)!({ type: "orders_change", change: { seq: 10, op: "u", key: { id: 1 }, after: { id: 1, n: "b" } } });
    await until(() => shown!.byKey?.get(1)?.n === "b", () => "the change");
    expect(before, "what was rendered stays as it was").toEqual([{ id: 1, n: "a" }]);
    send.at(-1)!({ type: "orders_change", change: { seq: 11, op: "d", key: { id: 1 } } });
    await until(() => shown!.rows?.length === 0, () => "the deletion");
  });
});
