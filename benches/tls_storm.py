"""Thousands of clients over TLS that come back at once, in processes of their own."""

import contextlib
import multiprocessing
import os
import random
import re
import select
import socket
import sqlite3
import ssl
import threading
import time

from daemon import upgrade
from tls_servers import client, source

# They stand for other machines, and must not take the daemon's turns.
NICE = 10
CROWDS = 2
# Until when everything has to be over, seconds.
PATIENCE = 120
OTHERS = 10
GAP = 0.02
ROWS_MEANWHILE = 5


class Client:
    """One that comes back, resuming its session of TLS and its rows."""

    def __init__(self, number, port, context):
        self.number, self.port, self.context = number, port, context
        self.stream = self.session = None
        self.resumed, self.ids = False, []

    def come(self, since):
        """Comes back; yields the events of its socket that it waits for."""
        raw = socket.socket()
        raw.setblocking(False)
        raw.bind(source(self.number))
        self.stream, self.ids = raw, []
        raw.connect_ex(("127.0.0.1", self.port))
        yield select.EPOLLOUT
        self.stream = self.context.wrap_socket(raw, do_handshake_on_connect=False, session=self.session)
        yield from waiting(self.stream.do_handshake)
        self.resumed = self.stream.session_reused
        self.stream.send(upgrade(f"/ws/remediation?since={since}", self.port))
        said = b""
        while b'"type":"live"' not in said:
            said += yield from waiting(lambda: self.stream.recv(65536))
        self.ids = [int(found) for found in re.findall(rb'"event":\{"id":(\d+)', said)]
        # What it resumes next time came with the first answer.
        self.session = self.stream.session

    def leave(self):
        if self.stream:
            self.stream.close()


def waiting(step):
    """What the step gives, once it can be made."""
    while True:
        try:
            return step()
        except ssl.SSLWantReadError:
            yield select.EPOLLIN
        except ssl.SSLWantWriteError:
            yield select.EPOLLOUT


def crowd(pipe, port, numbers):
    """Does what it is told: has its clients leave, or come back."""
    os.nice(NICE)
    context = client()
    clients = [Client(number, port, context) for number in numbers]
    while (order := pipe.recv()) != "end":
        if order == "leave":
            for one in clients:
                one.leave()
            pipe.send(None)
        else:
            last = come_back(clients, *order)
            wrong = [one.ids for one in clients if one.ids != order[2]]
            pipe.send((last, sum(one.resumed for one in clients), wrong[:3]))


def come_back(clients, since, spread, _):
    """Has them come, each at a moment of its own within so many seconds; when the last of them was live."""
    events, under_way = select.epoll(), {}
    begun = time.monotonic()
    due = sorted(((begun + random.random() * spread, one) for one in clients), key=lambda pair: pair[0], reverse=True)

    def step(one, coming, registered):
        try:
            wanted = next(coming)
        except StopIteration:
            events.unregister(one.stream.fileno())
            del under_way[one.stream.fileno()]
            return
        number = one.stream.fileno()
        under_way[number] = (one, coming)
        (events.modify if registered else events.register)(number, wanted)

    while due or under_way:
        assert time.monotonic() < begun + PATIENCE, f"{len(under_way)} clients did not become live"
        while due and due[-1][0] <= time.monotonic():
            _, one = due.pop()
            step(one, one.come(since), False)
        pause = max(0, due[-1][0] - time.monotonic()) if due else 1
        for number, _ in events.poll(pause, 64):
            step(*under_way[number], True)
    return time.monotonic()


class Crowds:
    """The processes of all the clients."""

    def __init__(self, port, clients):
        self.pipes, self.processes = [], []
        for part in range(CROWDS):
            ours, theirs = multiprocessing.Pipe()
            process = multiprocessing.Process(target=crowd, args=(theirs, port, range(part, clients, CROWDS)), daemon=True)
            process.start()
            self.pipes.append(ours)
            self.processes.append(process)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.join()

    def tell(self, order):
        for pipe in self.pipes:
            pipe.send(order)

    def answers(self):
        return [pipe.recv() for pipe in self.pipes]

    def leave(self):
        self.tell("leave")
        self.answers()

    def come(self, since, spread, ids):
        """Has them come back for rows of these ids; when the last was live, and how many resumed their session of TLS."""
        self.tell((since, spread, ids))
        answers = self.answers()
        for _, _, wrong in answers:
            assert not wrong, f"instead of {ids} clients got {wrong}"
        return max(last for last, _, _ in answers), sum(resumed for _, resumed, _ in answers)


class Others:
    """Those who are live already, of another feed, and a writer of their rows."""

    def __init__(self, server):
        self.server, self.stopped = server, False
        self.streams = [server.subscribe(number, "/ws/orders") for number in range(OTHERS)]
        self.written, self.received = {}, {}
        self.threads = [threading.Thread(target=work) for work in (self.write, self.read)]
        for thread in self.threads:
            thread.start()

    def write(self):
        with contextlib.closing(sqlite3.connect(self.server.database, timeout=30, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = NORMAL")
            while not self.stopped:
                begun = time.monotonic()
                self.written[db.execute("INSERT INTO orders(what) VALUES ('tea')").lastrowid] = begun
                time.sleep(max(0, begun + GAP - time.monotonic()))

    def read(self):
        events = select.epoll()
        streams = {stream.fileno(): stream for stream in self.streams}
        for stream in self.streams:
            stream.setblocking(False)
            events.register(stream, select.EPOLLIN)
        while not self.stopped or set(self.written) - set(self.received):
            for number, _ in events.poll(0.1):
                with contextlib.suppress(ssl.SSLWantReadError):
                    while said := streams[number].recv(65536):
                        for found in re.findall(rb'"event":\{"id":(\d+)', said):
                            # The last of them counts.
                            self.received[int(found)] = time.monotonic()

    def stop(self):
        """How long each row took to the last of them, ms, by when it was written."""
        self.stopped = True
        for thread in self.threads:
            thread.join(PATIENCE)
        for stream in self.streams:
            stream.close()
        return [(at, (self.received[number] - at) * 1e3) for number, at in self.written.items()]


def write(server, count):
    """Commits rows of the stock feed; their ids."""
    with contextlib.closing(sqlite3.connect(server.database, timeout=30, isolation_level=None)) as db:
        return [db.execute("INSERT INTO remediation_events(ts) VALUES ('now')").lastrowid for _ in range(count)]


def storm(server, clients, spread):
    """A restart, and then an outage of the network alone: the figures of both."""
    figures, since = {}, write(server, 1)[-1]
    with Crowds(server.port, clients) as crowds:
        crowds.come(since, spread, [])
        for what in ("restart", "outage"):
            begun = time.monotonic()
            crowds.leave()
            start = server.again() if what == "restart" else lambda: None
            ids = write(server, ROWS_MEANWHILE)
            start()
            others, cpu = Others(server), server.cpu()
            come = time.monotonic()
            last, resumed = crowds.come(since, spread, ids)
            spent, rows = server.cpu() - cpu, others.stop()
            meanwhile = [took for at, took in rows if come <= at <= last]
            since = ids[-1]
            figures |= {
                f"{what}: until the last of {clients:,} is live again, s": last - come,
                f"{what}: the same from the end on, s": last - begun,
                f"{what}: clients that resumed their session of TLS": resumed,
                f"{what}: CPU of the daemon for each, ms": spent / clients * 1e3,
                f"{what}: rows for others meanwhile": len(meanwhile),
                f"{what}: insert to the last of ten others, p50, ms": sorted(meanwhile)[len(meanwhile) // 2] if meanwhile else 0,
                f"{what}: the slowest, ms": max(meanwhile, default=0),
            }
    return figures
