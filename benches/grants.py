#!/usr/bin/env python3
"""What tokens cost: rows among thousands of grants, a revocation that ends thousands of sockets, and handshakes.

benches/grants.py WALCAST [--sockets 10000] [--rows 400] [--rounds 3]

WALCAST is a release build. Prints the median of the rounds. Nothing but the standard library; on a machine that does something
else meanwhile the figures say little.
"""

import argparse
import base64
import contextlib
import hashlib
import multiprocessing
import os
import re
import select
import sqlite3
import statistics
import subprocess
import time

from daemon import Daemon, raise_descriptor_limit

LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"
# Of the one who gets rows.
EACH = 10
GAP = 0.005
WARM_UP = 20
HANDSHAKES = 1_000


def token(number):
    """The token of this number, and its entry in the file of tokens but for what it may do."""
    secret = hashlib.sha256(f"grant {number}".encode()).digest()
    name = "".join(LETTERS[number >> 5 * place & 31] for place in range(8))
    text = f"wct_{name}_{base64.urlsafe_b64encode(secret).rstrip(b'=').decode()}"
    return text, f'[[token]]\nid = "{name}"\nname = "grant-{number}"\nsha256 = "{hashlib.sha256(secret).hexdigest()}"\nfeeds = ["orders"]\n'


class Server(Daemon):
    """A daemon on a table of orders; with `grants` it asks for tokens, and number N reads the orders of tenant-N."""

    def __init__(self, walcast, grants):
        super().__init__(walcast)
        self.tokens = self.here / "tokens.toml"
        with contextlib.closing(sqlite3.connect(self.database)) as db:
            db.execute("PRAGMA journal_mode = wal")
            db.execute("CREATE TABLE orders(id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT, what TEXT)")
        auth, scope = "", ""
        if grants:
            entries = (f'{token(number)[1]}where = {{ tenant = "tenant-{number}" }}\n' for number in range(grants))
            self.tokens.write_text("".join(entries))
            self.tokens.chmod(0o600)
            auth, scope = f'[auth]\ntokens = "{self.tokens}"\n', 'scope = { tenant = "claim:tenant" }\n'
        self.start(f"{auth}[feeds.orders]\n{scope}")

    def subscribe(self, credential):
        """A socket that has its upgrade."""
        bearer = f"Authorization: Bearer {credential}\r\n" if credential else ""
        return self.upgraded("/ws/orders", bearer)[0]


def write(database, rows, written):
    """Commits rows of tenant-0; their ids and when each insert began."""
    with contextlib.closing(sqlite3.connect(database, timeout=30, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = NORMAL")
        due = time.monotonic()
        for _ in range(rows):
            begun = time.monotonic()
            written.append((db.execute("INSERT INTO orders(tenant, what) VALUES ('tenant-0', 'tea')").lastrowid, begun))
            due += GAP
            time.sleep(max(0, due - time.monotonic()))


def read(streams, last, received):
    """Reads until each stream has had the row with this id; when each row came to the last of them."""
    events = select.epoll()
    open_, tails = {stream.fileno(): stream for stream in streams}, {}
    for number in open_:
        events.register(number, select.EPOLLIN)
    while open_:
        for number, _ in events.poll(60):
            data = tails.pop(number, b"") + open_[number].recv(65536)
            now = time.monotonic()
            # The daemon's frames are short here, and not masked.
            while len(data) >= 2 and len(data) >= 2 + (data[1] & 127):
                frame, data = data[2 : 2 + data[1]], data[2 + data[1] :]
                if found := re.search(rb'"id":(\d+)', frame):
                    received[int(found[1])] = now
                    if int(found[1]) == last:
                        events.unregister(number)
                        del open_[number]
            tails[number] = data


def in_process(function, *arguments):
    process = multiprocessing.Process(target=function, args=arguments)
    process.start()
    return process


def measured(server, streams, rows):
    """Server's processor time for a row, µs, and how long it takes from insert to the last receipt, ms, at the median."""
    warm = []
    write(server.database, WARM_UP, warm)
    read(streams, warm[-1][0], {})
    before, written, received = server.cpu(), [], {}
    with multiprocessing.Manager() as manager:
        shared = manager.list()
        writer = in_process(write, server.database, rows, shared)
        read(streams, WARM_UP + rows, received)
        writer.join()
        written = list(shared)
    spent = server.cpu() - before
    return spent / rows * 1e6, statistics.median((received[id_] - begun) * 1e3 for id_, begun in written)


def among_grants(walcast, sockets, rows):
    """What a row costs whose tenant has ten sockets: alone, and among those of thousands of other grants."""
    costs = []
    for others in (0, sockets - EACH):
        with Server(walcast, sockets) as server, contextlib.ExitStack() as stack:
            ten = [stack.enter_context(server.subscribe(token(0)[0])) for _ in range(EACH)]
            for number in range(1, others + 1):
                stack.enter_context(server.subscribe(token(number)[0]))
            costs.append(measured(server, ten, rows))
    (alone, alone_ms), (among, among_ms) = costs
    return {
        "CPU of a row for ten sockets, alone, µs": alone,
        f"the same among those of {sockets:,} grants, µs": among,
        "among ÷ alone": among / alone,
        "insert to the last of ten, alone, ms": alone_ms,
        "the same among them, ms": among_ms,
    }


def closed(server, streams):
    """Waits until each has been closed for good; when the last was."""
    events, left = select.epoll(), {stream.fileno(): stream for stream in streams}
    for number in left:
        events.register(number, select.EPOLLIN)
    while left:
        for number, _ in events.poll(60):
            # A close frame with its code, 4501.
            data = left[number].recv(64)
            assert data[:1] == b"\x88" and data[2:4] == b"\x11\x95", data
            events.unregister(number)
            del left[number]
    return time.monotonic()


def revoked(walcast, sockets, _):
    """One token of thousands of sockets is revoked while others get rows."""
    with Server(walcast, 2) as server, contextlib.ExitStack() as stack, multiprocessing.Manager() as manager:
        gone = [stack.enter_context(server.subscribe(token(1)[0])) for _ in range(sockets)]
        stay = [stack.enter_context(server.subscribe(token(0)[0])) for _ in range(EACH)]
        written, received, rows = manager.list(), manager.dict(), 800
        reader = in_process(read, stay, rows, received)
        writer = in_process(write, server.database, rows, written)
        while len(written) < 100:
            time.sleep(GAP)
        begun = time.monotonic()
        subprocess.run([walcast, "token", "revoke", "grant-1", "--tokens", server.tokens], check=True, stdout=subprocess.DEVNULL)
        ended = closed(server, gone)
        writer.join()
        reader.join()
        took = {id_: (received[id_] - at) * 1e3 for id_, at in written}
        during = [took[id_] for id_, at in written if begun <= at <= ended]
    return {
        f"revocation to the end of the last of {sockets:,} sockets, ms": (ended - begun) * 1e3,
        "rows for others meanwhile": len(during),
        "insert to receipt meanwhile, p50, ms": statistics.median(during),
        "insert to receipt meanwhile, the slowest, ms": max(during),
    }


def speed(walcast, _, rows):
    """With tokens and without: a row for one and for a hundred, and a handshake."""
    figures = {}
    for label, grants, credential in (("without [auth]", 0, None), ("with a token", 10_000, token(0)[0])):
        with Server(walcast, grants) as server:
            for count in (1, 100):
                with contextlib.ExitStack() as stack:
                    streams = [stack.enter_context(server.subscribe(credential)) for _ in range(count)]
                    first = sqlite3.connect(server.database).execute("SELECT coalesce(max(id), 0) FROM orders").fetchone()[0]
                    assert first == 0 or count > 1
                    figures[f"insert to the last of {count}, {label}, ms"] = latency(server, streams, first, rows)
            times = []
            for _ in range(HANDSHAKES):
                begun = time.monotonic()
                stream = server.subscribe(credential)
                times.append((time.monotonic() - begun) * 1e3)
                stream.close()
            figures[f"handshake, {label}, ms"] = statistics.median(times)
    return figures


def latency(server, streams, first, rows):
    with multiprocessing.Manager() as manager:
        written, received = manager.list(), {}
        writer = in_process(write, server.database, rows, written)
        read(streams, first + rows, received)
        writer.join()
        return statistics.median((received[id_] - begun) * 1e3 for id_, begun in list(written)[WARM_UP:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("walcast")
    parser.add_argument("--sockets", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["grants", "revoked", "speed"])
    arguments = parser.parse_args()
    raise_descriptor_limit()
    walcast = os.path.abspath(arguments.walcast)
    for name, measure in (("grants", among_grants), ("revoked", revoked), ("speed", speed)):
        if arguments.only in (None, name):
            rounds = [measure(walcast, arguments.sockets, arguments.rows) for _ in range(arguments.rounds)]
            for figure in rounds[0]:
                values = [round_[figure] for round_ in rounds]
                print(f"{figure}: {statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})", flush=True)


if __name__ == "__main__":
    main()
