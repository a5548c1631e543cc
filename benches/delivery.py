"""Rows that are written one by one, each when everyone has the one before."""

import contextlib
import random
import sqlite3
import time

from rows import COLUMNS, INSERT, row, rows_in

GAP = 0.02
# Rows that come before those that are measured.
WARM_UP = 5
PATIENCE = 30


def deliver(server, reader, rows, length):
    """Writes so many rows with details of this length. Gives the processor time that they took the server, the bytes that came to
    all, and for each row the seconds from its insert until the last had it."""
    random_ = random.Random(length)
    waits, written = [], []
    try:
        with contextlib.closing(sqlite3.connect(server.database, timeout=30, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = NORMAL")
            for number in range(rows + WARM_UP):
                if number == WARM_UP:
                    cpu, total = server.cpu(), reader.total
                values, before, begun = row(random_, length), reader.had(), time.monotonic()
                written.append(values)
                db.execute(INSERT, values)
                while not reader.have_more(before):
                    assert reader.thread.is_alive(), "the reader has failed"
                    assert time.monotonic() < begun + PATIENCE, f"a row did not come to all: {reader}"
                    time.sleep(0.001)
                if number >= WARM_UP:
                    waits.append(reader.newest - begun)
                time.sleep(GAP)
        cpu, total = server.cpu() - cpu, reader.total - total
    finally:
        reader.stop()
    got = [tuple(row[name] for name in COLUMNS) for row in rows_in(bytes(reader.kept))]
    assert got == written, "the ledger is not the table"
    return cpu, total, waits
