#!/usr/bin/env python3
"""Writes remediation events to a SQLite file, as any program would: no library, no change for walcast.

    python3 examples/writer.py walcast.db              # one event a second, until interrupted
    python3 examples/writer.py walcast.db -n 100 -i 0  # a hundred events at once
"""
import argparse
import random
import sqlite3
import sys
import time
from contextlib import closing
from datetime import datetime, timezone

SCHEMA = """
CREATE TABLE IF NOT EXISTS remediation_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    ts TEXT NOT NULL,
    alertname TEXT,
    tenant TEXT,
    action TEXT,
    status TEXT,
    details TEXT
)
"""
INSERT = "INSERT INTO remediation_events (ts, alertname, tenant, action, status, details) VALUES (?, ?, ?, ?, ?, ?)"

ALERTS = {
    "DiskAlmostFull": ("rotate_logs", "{free} % free on /var after removing rotated logs"),
    "PodCrashLooping": ("restart_pod", "restarted after {free} crashes in ten minutes"),
    "CertificateExpiring": ("renew_certificate", "{free} days were left"),
    "HighMemory": ("scale_out", "one replica added at {free} % of memory"),
}
TENANTS = ("acme", "globex", "initech")


def make_event() -> tuple:
    """One row, in the order of INSERT. Details are missing now and then, as in real tables."""
    alert, (action, details) = random.choice(list(ALERTS.items()))
    status = random.choices(("success", "failed"), weights=(5, 1))[0]
    ts = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    details = details.format(free=random.randint(2, 97)) if random.random() > 0.1 else None
    return ts, alert, random.choice(TENANTS), action, status, details


def write(database: str, event: tuple) -> int:
    """Stores one event on a connection of its own and returns its id."""
    with closing(sqlite3.connect(database, timeout=10)) as connection, connection:
        connection.execute(SCHEMA)
        return connection.execute(INSERT, event).lastrowid


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("database", nargs="?", default="walcast.db", help="SQLite file, made when missing (default: %(default)s)")
    parser.add_argument("-n", "--count", type=int, help="stop after this many events (default: go on until interrupted)")
    parser.add_argument("-i", "--interval", type=float, default=1.0, help="seconds between two events (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.interval < 0 or (arguments.count is not None and arguments.count < 1):
        parser.error("--interval is 0 or more seconds, --count 1 or more events")

    written = 0
    try:
        while arguments.count is None or written < arguments.count:
            event = make_event()
            print(write(arguments.database, event), *event[:5], flush=True)
            written += 1
            if written != arguments.count:
                time.sleep(arguments.interval)
    except KeyboardInterrupt:
        pass
    except sqlite3.Error as error:
        print(f"{arguments.database}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
