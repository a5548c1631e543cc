#!/usr/bin/env python3
"""The two set-ups of docs/edges.md, as they stand there: three edges behind Caddy, and an edge at each of three sites.

tests/docs/edges.py [WORD...]   only tests whose name contains one of the words; counts as skipped where there is no Caddy
"""

import collections
import contextlib
import json
import re
import signal
import subprocess
import threading
import time

from harness import BINARY, PATIENCE, Daemon, Documentation, Tests, WebSocket, free_port, place, wait_until
from proxies import caddy_with, changed
from snippets import insert

tests = Tests()
test = tests.test
PAGE = "docs/edges.md"
documentation = Documentation(PAGE)
NAME = "feeds.example.com"
FEED = "/ws/remediation"
CLIENTS = 36
AUTH = '[auth]\ntokens = "{tokens}"\n[feeds.remediation]\ntable = "remediation_events"\ncreate = true\nscope = "none"\n'


class Edge(Daemon):
    """An edge with the configuration of the page, on an address of its own as on a machine of its own."""

    subcommand = "edge"

    def __init__(self, here, number, upstream, tokens, token_file, more=""):
        directory = here / f"edge{number}"
        directory.mkdir()
        super().__init__(directory, "--config", "edge.toml", port=free_port())
        self.host = f"127.0.0.1{number}"
        changes = {
            "0.0.0.0:8010": f"{self.host}:{self.port}",
            "wss://feeds.example.com": upstream,
            "/etc/walcast/upstream.token": str(token_file),
            "/etc/walcast/tokens.toml": str(tokens),
        }
        text = f'hosts = ["{NAME}"]\n{more}' + changed(documentation.snippet(PAGE, "toml", "[edge]"), changes)
        (directory / "edge.toml").write_text(text)

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def subscribers(self, bearer):
        status, text = self.get("/api/feeds", bearer)
        assert status == 200, f"{status} {text}"
        return json.loads(text)["feeds"][0]["subscribers"]


def added_token(here, name, *arguments):
    """A token of this name, in a file of its own."""
    command = [BINARY, "token", "add", name, "--tokens", here / "tokens.toml", "--feed", "remediation", *arguments]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout
    file = here / f"{name}.token"
    file.write_text(re.search(r"wct_\S+", said)[0])
    return file


class Setup:
    """An origin that asks for tokens, and who may read there."""

    def __init__(self, here):
        self.here, self.tokens = here, here / "tokens.toml"
        # That which feeds edges first: it is the file's own command line on the page.
        self.edge_token = added_token(here, "berlin", "--edge")
        token = added_token(here, "reader", "--metrics").read_text()
        self.bearer = {"Authorization": f"Bearer {token}"}
        (here / "walcast.toml").write_text(f'database = "{here}/events.db"\n' + AUTH.format(tokens=self.tokens))
        self.origin = Daemon(here, "--config", "walcast.toml")

    def edge(self, number, upstream, more=""):
        return Edge(self.here, number, upstream, self.tokens, self.edge_token, more)


class Client:
    """Somebody who follows the feed from its beginning, comes back as `goodbye` says or by itself, and keeps a ledger."""

    def __init__(self, port, bearer, address="127.0.0.1"):
        self.where = {"port": port, "address": address, "host": f"{NAME}:{port}", "more": bearer}
        self.ids, self.said, self.refused = [], collections.Counter(), collections.Counter()
        self.epoch, self.pause, self.ended, self.fault = None, 0.3, threading.Event(), None
        self.socket = None
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()

    def _follow(self):
        try:
            while not self.ended.is_set():
                with contextlib.suppress(OSError):
                    self._connection()
                self.ended.wait(self.pause)
        except Exception as error:
            self.fault = error

    def _connection(self):
        query = f"?since={self.ids[-1] if self.ids else 'earliest'}" + (f"&epoch={self.epoch}" if self.epoch else "")
        self.pause = 0.3
        with WebSocket(path=FEED + query, **self.where) as self.socket:
            if self.socket.status != 101:
                self.refused[self.socket.status] += 1
                assert self.socket.status in (502, 503), self.socket.head
                return
            while not self.ended.is_set():
                self._take(self.socket.frame())

    def _take(self, frame):
        kind = frame["type"]
        self.said[kind] += 1
        if kind == "hello":
            assert frame["recovered"] and self.epoch in (None, frame["epoch"]), frame
            self.epoch = frame["epoch"]
        elif kind == "goodbye":
            self.pause = frame["reconnect_after_ms"] / 1000
        elif "event" in frame:
            self.ids.append(frame["event"]["id"])
        else:
            assert kind in ("live", "heartbeat", "waiting"), frame

    def moves_to(self, port, address):
        """Goes on at another edge, at once."""
        self.where |= {"port": port, "address": address}
        self.socket.cut()

    def stop(self):
        self.ended.set()
        if self.socket:
            self.socket.cut()
        self.thread.join(PATIENCE)


@contextlib.contextmanager
def clients(count, *arguments):
    following = [Client(*arguments) for _ in range(count)]
    try:
        yield following
    finally:
        for client in following:
            client.stop()


def have_all(following, last):
    """Each client has each row, once and in order."""

    def reached():
        faults = [client.fault for client in following if client.fault]
        assert not faults, faults
        return all(client.ids[-1:] == [last] or len(client.ids) > last for client in following)

    wait_until(f"all have row {last}", reached)
    for client in following:
        assert client.ids == list(range(1, last + 1)), client.ids


class Writer:
    """Rows, one after the other, while something else happens."""

    def __init__(self, database):
        self.database, self.count, self.ended = database, 0, threading.Event()

    def write(self, count):
        for _ in range(count):
            insert(self.database, f"row {self.count + 1}")
            self.count += 1

    @contextlib.contextmanager
    def writing(self):
        def on():
            while not self.ended.wait(0.02):
                self.write(1)

        self.ended.clear()
        thread = threading.Thread(target=on)
        thread.start()
        try:
            yield
        finally:
            self.ended.set()
            thread.join()


def three_behind_caddy(stack, setup, port):
    """The edges, each on what would be a machine, and Caddy before them."""
    origin = stack.enter_context(setup.origin)
    more = 'trusted_proxies = ["127.0.0.1"]\n'
    edges = [setup.edge(number, f"ws://127.0.0.1:{origin.port}", more) for number in (1, 2, 3)]
    for edge in edges:
        stack.enter_context(edge)
    changes = {f"{NAME} {{": f"http://{NAME}:{port} {{\n    bind 127.0.0.1"}
    changes |= {f"10.0.0.1{number}:8010": edge.address for number, edge in enumerate(edges, 1)}
    site = changed(documentation.snippet(PAGE, "caddy", "lb_policy"), changes)
    stack.enter_context(caddy_with(setup.here, port, site))
    return edges


def spread(edges, bearer):
    return [edge.subscribers(bearer) for edge in edges]


def come_back_to_others(setup, edges, following, writer, gone, leave):
    """Ends an edge while rows come; its clients go on at the others, and it takes its part again once it runs."""
    others = [edge for edge in edges if edge is not gone]
    wait_until("all are connected", lambda: sum(spread(edges, setup.bearer)) == len(following))
    left = gone.subscribers(setup.bearer)
    assert left > 0, spread(edges, setup.bearer)
    with writer.writing():
        begun = time.monotonic()
        leave()
        wait_until("all are at the others", lambda: sum(spread(others, setup.bearer)) == len(following))
        print(f"    all are at the others after {time.monotonic() - begun:.1f} s")
    have_all(following, writer.count)
    gone.process.wait(PATIENCE)
    gone.start()
    return left


def takes_in(edge, port, bearer):
    with WebSocket(port, f"{FEED}?since=earliest", f"{NAME}:{port}", more=bearer) as client:
        assert client.status == 101 and client.frame()["recovered"], client.head
        return edge.subscribers(bearer) > 0


@test
def three_edges_behind_caddy():
    port = free_port()
    with place() as here, contextlib.ExitStack() as stack:
        here.chmod(0o755)
        setup = Setup(here)
        edges = three_behind_caddy(stack, setup, port)
        writer = Writer(setup.origin.database)
        writer.write(20)
        with clients(CLIENTS, port, setup.bearer) as following:
            have_all(following, writer.count)
            at_edges = spread(edges, setup.bearer)
            assert min(at_edges) >= CLIENTS // 6, f"least_conn left one out: {at_edges}"
            drained, killed, _ = edges
            left = come_back_to_others(setup, edges, following, writer, drained, drained.process.terminate)
            told = sum(client.said["goodbye"] for client in following)
            assert told == left, f"{told} of {left} clients were told when to come back"
            come_back_to_others(setup, edges, following, writer, killed, lambda: killed.process.send_signal(signal.SIGKILL))
            # Caddy tries another edge where one is gone; else each client would be told so until Caddy asks how that edge is.
            refused = sum((client.refused for client in following), collections.Counter())
            assert refused.total() <= CLIENTS, f"refused meanwhile: {dict(refused)}"
            # `least_conn` sends the next clients to the one that was away, once Caddy knows that it is back.
            wait_until("it takes clients in again", lambda: takes_in(killed, port, setup.bearer))
            have_all(following, writer.count)


@test
def an_edge_at_each_of_three_sites():
    with place() as here, contextlib.ExitStack() as stack:
        setup = Setup(here)
        origin = stack.enter_context(setup.origin)
        writer = Writer(origin.database)
        writer.write(10)
        beside_origin = [setup.edge(number, f"ws://127.0.0.1:{origin.port}") for number in (1, 2, 3)]
        for edge in beside_origin:
            stack.enter_context(edge)
        further = [setup.edge(number, f"ws://{beside_origin[0].address}") for number in (4, 5)]
        for edge in further:
            stack.enter_context(edge)
        edges = beside_origin + further
        for edge in edges:
            command = [BINARY, "check", "--config", edge.place / "edge.toml"]
            checked = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
            assert checked.returncode == 0, checked.stdout + checked.stderr
        following = [stack.enter_context(clients(1, edge.port, setup.bearer, edge.host))[0] for edge in edges]
        have_all(following, writer.count)
        # Whoever comes to the edges of a site, the row crosses the ocean for its first one alone.
        status = json.loads(origin.get("/api/feeds", setup.bearer)[1])["feeds"][0]
        assert status["subscribers"] == len(beside_origin), status
        # Each client is moved to the next site while rows come, as DNS or anycast would have it.
        with writer.writing():
            for moved in range(len(edges)):
                for number, client in enumerate(following):
                    edge = edges[(number + moved + 1) % len(edges)]
                    client.moves_to(edge.port, edge.host)
                wait_until("all were moved", lambda moved=moved: all(client.said["hello"] >= moved + 2 for client in following))
        have_all(following, writer.count)


if __name__ == "__main__":
    tests.main()
