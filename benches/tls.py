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
import select
import socket
import sqlite3
import ssl
import statistics
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from daemon import raise_descriptor_limit, source
from delivery import GAP, deliver
from rows import INSERT, frames, row
from tls_servers import DEFLATE, NGINX, PLAIN, TLS, client, started

# What a record of TLS 1.3 adds to what it holds.
RECORD = 22
# Pings come to each when they are due, two bytes or a record of their own, or in one piece with a row: nginx puts what came together
# into one record. Nobody answers: a client that says nothing is sent away after a minute, and a run has to be over by then. So
# no client has more of them than this many bytes, which is less than a row.
PINGS = 3 * (2 + RECORD)
# Clients that connect at once.
AT_ONCE = 8
# Memory is looked at so long after the last activity.
CALM = 1.0
CALLERS = 2


class Reader:
    """Reads whatever comes to all clients, on a thread of its own. What comes over TLS is decrypted for the first alone, whose ledger
    is kept: to each of the others must come as many bytes as its rows are on the wire, and pings."""

    def __init__(self, streams, how):
        self.record = 0 if how == PLAIN else RECORD
        first, *others = streams
        self.first, self.kept = first, bytearray()
        self.others = {stream.fileno(): stream for stream in others}
        self.bytes, self.total = dict.fromkeys(self.others, 0), 0
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
                assert came, "a client was sent away: it may be silent for a minute, and a run has to be over by then"
                if came > PINGS:
                    self.newest = time.monotonic()
                self.bytes[number] += came
                self.total += came

    def rows(self):
        """On the wire, the lengths of the rows that came to the first."""
        texts = [payload for first, payload in frames(bytes(self.kept)) if first & 15 == 1]
        # The head of a frame has two bytes more where its length does not fit into seven bits.
        return [len(payload) + (2 if len(payload) < 126 else 4) + self.record for payload in texts]

    def had(self):
        """How many rows have come to the first."""
        return len(self.rows())

    def have_more(self, before):
        """Whether the first has more rows than these, and everyone has what it has."""
        rows = self.rows()
        owed = sum(rows)
        # Asking each takes the reader's time, and is of no use before there is enough in all.
        return len(rows) > before and self.total >= owed * len(self.others) and min(self.bytes.values()) >= owed

    def is_even(self):
        """Whether nobody was sent more than the rows of the first, and pings."""
        owed = sum(self.rows())
        return all(owed <= had <= owed + PINGS for had in self.bytes.values())

    def __str__(self):
        return f"bytes and clients that had them: {Counter(self.bytes.values()).most_common(5)}"

    def stop(self):
        self.stopped = True
        self.thread.join()


def without_session(stream):
    """The bare socket, for a client that need not understand what comes: its session of TLS would take memory and time."""
    return socket.socket(fileno=stream.detach()) if isinstance(stream, ssl.SSLSocket) else stream


def delivery(walcast, how, clients, asked):
    """Bytes on the wire for each delivery, processor time for each, and the time to the last client, of rows one by one."""
    with started(walcast, how) as server, contextlib.ExitStack() as stack:
        # They come several at a time: whoever came first must not be sent away for its silence before the last row.
        with ThreadPoolExecutor(AT_ONCE) as pool:
            streams = list(pool.map(server.subscribe, range(clients)))
        streams = [stack.enter_context(without_session(stream) if number else stream) for number, stream in enumerate(streams)]
        reader = Reader(streams, how)
        cpu, total, waits = deliver(server, reader, asked.rows, asked.length)
        assert reader.is_even(), "clients were sent different numbers of bytes"
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
    raise_descriptor_limit()
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
