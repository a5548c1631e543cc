"""A writer as they are in the field: a new connection for each event, no word of WAL mode, ISO times with a Z.

Reads one JSON command a line from stdin and answers each with one line of JSON: {"ids": […]} or {"error": "…"}.

  {"do": "insert", "count": n, "row": {column: value, …}}  n events, each on a connection of its own
  {"do": "begin"}            opens a transaction (with {"cache": pages}: a page cache so small that it spills)
  {"do": "exclusive"}        the same, locking everyone else out
  {"do": "add", "count": n, "bytes": b}  n events inside the open transaction, with details of b characters
  {"do": "commit"} / {"do": "rollback"}  ends it; whoever wants it to stall sends this late
  {"do": "run", "sql": "…"}  a script on a connection of its own
  {"do": "restore", "from": path}        overwrites the database in place with SQLite's backup API
"""

import json
import sqlite3
import sys
from contextlib import closing
from datetime import datetime, timezone

DATABASE = sys.argv[1]

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


def connect():
    return sqlite3.connect(DATABASE, timeout=30, isolation_level=None)


def event(**changes):
    ts = datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
    return {"ts": ts, "alertname": "DiskFull", "tenant": "acme", "action": "clean_disk", "status": "success",
            "details": "3 GiB freed", **changes}


def insert(connection, row):
    sql = f"INSERT INTO remediation_events ({', '.join(row)}) VALUES ({', '.join('?' for _ in row)})"
    return connection.execute(sql, tuple(row.values())).lastrowid


def log_event(row):
    """What an ordinary program does, with the module's own implicit transactions."""
    with closing(sqlite3.connect(DATABASE, timeout=30)) as connection:
        connection.execute(SCHEMA)
        identifier = insert(connection, row)
        connection.commit()
        return identifier


class Transaction:
    connection = None

    def begin(self, how, cache=None):
        self.connection = connect()
        if cache is not None:
            self.connection.execute(f"PRAGMA cache_size = {cache}")
        self.connection.execute(f"BEGIN {how}")

    def end(self, how):
        self.connection.execute(how)
        self.connection.close()
        self.connection = None


def restore(source):
    with closing(sqlite3.connect(source)) as old, closing(connect()) as new:
        old.backup(new)


def run(sql):
    with closing(connect()) as connection:
        connection.executescript(sql)


def obey(order, transaction):
    match order["do"]:
        case "insert":
            return [log_event(event(**order.get("row", {}))) for _ in range(order.get("count", 1))]
        case "begin":
            transaction.begin("IMMEDIATE", order.get("cache"))
        case "exclusive":
            transaction.begin("EXCLUSIVE")
        case "add":
            row = event(details="x" * order.get("bytes", 20))
            return [insert(transaction.connection, row) for _ in range(order.get("count", 1))]
        case "commit" | "rollback" as how:
            transaction.end(how)
        case "run":
            run(order["sql"])
        case "restore":
            restore(order["from"])
        case unknown:
            raise ValueError(f"no such command: {unknown}")
    return []


def main():
    transaction = Transaction()
    for line in sys.stdin:
        try:
            answer = {"ids": obey(json.loads(line), transaction)}
        except (sqlite3.Error, ValueError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


main()
