#!/usr/bin/env python3
"""What compressed rows cost and save: bytes and processor time for thousands of WebSocket clients, with compression and without.

benches/deflate.py WALCAST [--clients 1000,10000] [--rows 50] [--rounds 3]

WALCAST is a release build. Each round runs with and without in turn, and the median is printed. One client's ledger is kept row by row, every other
client must be sent the same bytes as that one. Nothing but the standard library; on a machine that does something else
meanwhile the figures say little.
"""

import argparse
import contextlib
import hashlib
import select
import statistics
import threading
import time
from collections import Counter

from daemon import Daemon, raise_descriptor_limit, source
from delivery import deliver

# Comes to each when it is due, and by itself while rows are far apart. A run is over before an answer is.
PING = b"\x89\0"


class Server(Daemon):
    """A daemon on a new file, that cuts no details."""

    def __init__(self, walcast):
        super().__init__(walcast)
        self.start('compression = "on"\n[feeds.remediation]\ntruncate = { details = 100000 }\ncreate = true\n')

    def subscribe(self, deflate, number):
        """A socket that has its upgrade."""
        offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflate else ""
        stream, head = self.upgraded("/ws/remediation", offer, source(number))
        assert (b"permessage-deflate" in head) == deflate, head
        return stream


class Reader:
    """Reads whatever comes to all clients, on a thread of its own."""

    def __init__(self, streams):
        self.streams = {stream.fileno(): stream for stream in streams}
        self.first = streams[0].fileno()
        self.kept, self.bytes = bytearray(), dict.fromkeys(self.streams, 0)
        self.hashes = {number: hashlib.blake2b(digest_size=8) for number in self.streams}
        self.total, self.stopped, self.newest = 0, False, 0.0
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        events = select.epoll()
        for number in self.streams:
            events.register(number, select.EPOLLIN)
        while not self.stopped:
            for number, _ in events.poll(0.1):
                data = self.streams[number].recv(262144)
                if data == PING:
                    continue
                self.newest = time.monotonic()
                if number == self.first:
                    self.kept += data
                self.hashes[number].update(data)
                self.bytes[number] += len(data)
                self.total += len(data)

    def had(self):
        """Bytes that have come to all."""
        return self.total

    def have_more(self, before):
        """Whether everyone has as much as the one whose ledger is kept, and more than there was before."""
        return self.total > before and len(set(self.bytes.values())) == 1

    def __str__(self):
        return f"bytes and clients that had them: {Counter(self.bytes.values()).most_common(5)}"

    def stop(self):
        self.stopped = True
        self.thread.join()


def measure(walcast, deflate, clients, length, rows):
    """Bytes for each delivery, the server's processor time for each, and the time to the last client, of rows one by one."""
    with Server(walcast) as server, contextlib.ExitStack() as stack:
        reader = Reader([stack.enter_context(server.subscribe(deflate, number)) for number in range(clients)])
        cpu, total, waits = deliver(server, reader, rows, length)
        assert len({one.digest() for one in reader.hashes.values()}) == 1, "clients were sent different bytes"
    deliveries = rows * clients
    return total / deliveries, cpu / deliveries * 1e6, statistics.median(waits) * 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("walcast")
    parser.add_argument("--clients", default="1000,10000")
    parser.add_argument("--lengths", default="100,500,4000", help="characters of details in a row")
    parser.add_argument("--rows", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    raise_descriptor_limit()
    print("| clients | details | | bytes a delivery | CPU a delivery, µs | insert to the last, ms |\n|---|---|---|---|---|---|")
    for clients in map(int, asked.clients.split(",")):
        for length in map(int, asked.lengths.split(",")):
            rounds = {False: [], True: []}
            for number in range(asked.rounds):
                for deflate in (False, True) if number % 2 == 0 else (True, False):
                    rounds[deflate].append(measure(asked.walcast, deflate, clients, length, asked.rows))
            for deflate, name in ((False, "plain"), (True, "deflate")):
                sent, cpu, wait = (statistics.median(column) for column in zip(*rounds[deflate]))
                print(f"| {clients:,} | {length} | {name} | {sent:.0f} | {cpu:.2f} | {wait:.1f} |", flush=True)


if __name__ == "__main__":
    main()
