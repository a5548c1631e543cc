#!/usr/bin/env python3
"""What TLS costs: rows to thousands of WebSocket clients, idle connections and handshakes.

benches/tls.py WALCAST [--only delivery|idle|handshakes] [--how plain,TLS,nginx] [--clients 1000,10000] [--rows 50] [--rounds 3] [--quick]

WALCAST is a release build. Whatever is compared runs in turn; medians of the rounds are printed, with the least and the most. With nginx its
processes count as well. Clients keep ledgers. Needs openssl, nginx (Debian: nginx-light) where it is asked for, and 20,100 descriptors;
on a machine that does something else meanwhile the figures say little.
"""

import argparse
import contextlib
import multiprocessing
import os
import random
import resource
import select
import socket
import sqlite3
import ssl
import statistics
import threading
import time

from rows import COLUMNS, INSERT, row, rows_in
from tls_servers import DEFLATE, NGINX, PLAIN, TLS, client, source, started

GAP = 0.02
WARM_UP = 5
# Come to each when they are due, and by themselves while rows are far apart: a frame, and that in a record of TLS 1.3. A run is over
# before an answer is.
PINGS = (2, 24)
# Memory is looked at so long after the last activity.
CALM = 1.0
CALLERS = 2


class Reader:
    """Reads whatever comes to all clients, on a thread of its own. What comes over TLS is decrypted for the first alone, whose ledger
    is kept: to each of the others must come as many bytes as to every other."""

    def __init__(self, streams):
        first, *others = streams
        self.first, self.kept = first, bytearray()
        self.others = {stream.fileno(): stream for stream in others}
        self.bytes, self.total = dict.fromkeys(self.others, 0), 0
        self.second = others[0].fileno()
        self.stopped, self.newest = False, 0.0
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        events = select.epoll()
        self.first.setblocking(False)
        for number in (self.first.fileno(), *self.others):
            events.register(number, select.EPOLLIN)
        while not self.stopped:
            for number, _ in events.poll(0.1):
                if number not in self.others:
                    with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
                        while said := self.first.recv(262144):
                            self.kept += said
                    continue
                # As it is on the wire.
                came = len(os.read(number, 262144))
                assert came, "a client was sent away"
                if came in PINGS:
                    continue
                self.newest = time.monotonic()
                self.bytes[number] += came
                self.total += came

    def had(self):
        """Bytes that have come to all the others, and to the first."""
        return self.total, len(self.kept)

    def have_more(self, before):
        """Whether everyone has as much as the second, and more than there was before."""
        are_ahead = all(now > then for now, then in zip(self.had(), before))
        return are_ahead and self.total == self.bytes[self.second] * len(self.others)

    def stop(self):
        self.stopped = True
        self.thread.join()


def without_session(stream):
    """The bare socket, for a client that need not understand what comes: its session of TLS would take memory and time."""
    return socket.socket(fileno=stream.detach()) if isinstance(stream, ssl.SSLSocket) else stream


def delivery(walcast, how, clients, asked):
    """Bytes on the wire for each delivery, processor time for each, and the time to the last client, of rows one by one."""
    random_ = random.Random(asked.length)
    with started(walcast, how) as server, contextlib.ExitStack() as stack:
        streams = [server.subscribe(number) for number in range(clients)]
        streams = [stack.enter_context(without_session(stream) if number else stream) for number, stream in enumerate(streams)]
        reader = Reader(streams)
        waits, written = [], []
        try:
            with contextlib.closing(sqlite3.connect(server.database, timeout=30, isolation_level=None)) as db:
                db.execute("PRAGMA synchronous = NORMAL")
                for number in range(asked.rows + WARM_UP):
                    if number == WARM_UP:
                        cpu, total = server.cpu(), reader.total
                    values, before, begun = row(random_, asked.length), reader.had(), time.monotonic()
                    written.append(values)
                    db.execute(INSERT, values)
                    while not reader.have_more(before):
                        assert reader.thread.is_alive() and time.monotonic() < begun + 30, "a row did not come to all"
                        time.sleep(0.001)
                    if number >= WARM_UP:
                        waits.append(reader.newest - begun)
                    time.sleep(GAP)
            cpu, total = server.cpu() - cpu, reader.total - total
        finally:
            reader.stop()
        got = [tuple(row[name] for name in COLUMNS) for row in rows_in(bytes(reader.kept))]
        assert got == written, "the ledger is not the table"
        assert len(set(reader.bytes.values())) == 1, "clients were sent different numbers of bytes"
    return {
        f"{clients:,} clients, {how}: CPU of a delivery, µs": cpu / (asked.rows * clients) * 1e6,
        f"{clients:,} clients, {how}: bytes of a delivery": total / (asked.rows * (clients - 1)),
        f"{clients:,} clients, {how}: insert to the last, ms": statistics.median(waits) * 1e3,
    }


def idle(walcast, how, clients, _):
    """Memory of a connection on which nothing comes, and after some rows came."""
    with started(walcast, how) as server, contextlib.ExitStack() as stack:
        server.subscribe(0).close()
        time.sleep(CALM)
        before = server.memory()
        for number in range(clients):
            stack.enter_context(without_session(server.subscribe(number)))
        time.sleep(CALM)
        held = server.memory() - before
        with contextlib.closing(sqlite3.connect(server.database, timeout=30, isolation_level=None)) as db:
            for _ in range(10):
                db.execute(INSERT, row(random.Random(1), 200))
                time.sleep(GAP)
        time.sleep(CALM)
        after = server.memory() - before
    return {
        f"{clients:,} clients, {how}: memory of an idle connection, KiB": held / clients,
        f"{clients:,} clients, {how}: the same after ten rows, KiB": after / clients,
    }


def call(port, how, resume, numbers):
    """Connects, asks whether the daemon is well and goes, again and again; exits with 0 where every answer came."""
    context, session = (None if how == PLAIN else client()), None
    question = f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
    for number in numbers:
        stream = socket.create_connection(("127.0.0.1", port), 30, source(number))
        if context:
            stream = context.wrap_socket(stream, session=session)
            assert stream.session_reused == (session is not None), "the session was not resumed"
        with stream:
            stream.sendall(question)
            said = b""
            while part := stream.recv(4096):
                said += part
            assert b" 200 " in said, said
            if resume:
                session = stream.session


def handshakes(walcast, how, _, asked):
    """Processor time of a connection with one question, with a full handshake and with one that resumes."""
    figures = {}
    with started(walcast, how) as server:
        for resume, kind in ((False, ""), (True, ", resumed")):
            if resume and how == PLAIN:
                continue
            before = server.cpu()
            arguments = [(server.port, how, resume, range(one, asked.handshakes, CALLERS)) for one in range(CALLERS)]
            callers = [multiprocessing.Process(target=call, args=those) for those in arguments]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()
                assert caller.exitcode == 0, "a caller got no answer"
            spent = (server.cpu() - before) / asked.handshakes
            figures[f"{how}{kind}: CPU of a connection with one question, µs"] = spent * 1e6
            figures[f"{how}{kind}: such connections a second on one core"] = 1 / spent
    return figures


def hows(part, clients, asked):
    """In which ways a part is measured, and how many clients each has."""
    ways = {
        "delivery": (delivery, [PLAIN, TLS, DEFLATE, NGINX], clients),
        "idle": (idle, [PLAIN, TLS, NGINX], clients[-1:]),
        "handshakes": (handshakes, [PLAIN, TLS, NGINX], clients[:1]),
    }
    measure, possible, counts = ways[part]
    wanted = asked.how.split(",") if asked.how else possible
    return measure, [how for how in possible if how in wanted], counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("walcast")
    parser.add_argument("--only", choices=["delivery", "idle", "handshakes"])
    parser.add_argument("--how", help=f"of {PLAIN}, {TLS}, {DEFLATE}, {NGINX}, with commas between")
    parser.add_argument("--clients", help="1000,10000; the last of them where one number is wanted")
    parser.add_argument("--length", type=int, default=200, help="characters of details in a row")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--handshakes", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it runs")
    asked = parser.parse_args()
    asked.clients = asked.clients or ("50,300" if asked.quick else "1000,10000")
    asked.rows = asked.rows or (10 if asked.quick else 50)
    asked.handshakes = asked.handshakes or (300 if asked.quick else 4000)
    asked.rounds = asked.rounds or (1 if asked.quick else 3)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    walcast = os.path.abspath(asked.walcast)
    for part in [asked.only] if asked.only else ["delivery", "idle", "handshakes"]:
        measure, ways, counts = hows(part, [int(count) for count in asked.clients.split(",")], asked)
        for count in counts:
            rounds = []
            for number in range(asked.rounds):
                figures = {}
                for how in ways if number % 2 == 0 else reversed(ways):
                    figures |= measure(walcast, how, count, asked)
                rounds.append(figures)
            for figure in rounds[0]:
                values = [round_[figure] for round_ in rounds]
                print(f"{figure}: {statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})", flush=True)


if __name__ == "__main__":
    main()
