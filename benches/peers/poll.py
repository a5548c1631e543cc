"""What the relays in Python share: the benchmark's arguments, and a look at the table for new rows."""
import argparse
import json
import sqlite3
import sys
from collections.abc import Iterator


def arguments(version: str) -> tuple[str, str, int]:
    """Database, host and port. Ends the process after `--version`."""
    if sys.argv[1:] == ["--version"]:
        print(version)
        sys.exit()
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("--db")
    parser.add_argument("--listen")
    parser.add_argument("--state-dir")
    given = parser.parse_args()
    host, port = given.listen.rsplit(":", 1)
    return given.db, host, int(port)


class Table:
    """The stock table, from its newest row on."""

    def __init__(self, path: str) -> None:
        self.database = sqlite3.connect(path)
        self.database.row_factory = sqlite3.Row
        (self.head,) = self.database.execute("SELECT coalesce(max(id), 0) FROM remediation_events").fetchone()

    def messages(self) -> Iterator[str]:
        """A message for each row that has come since the last call."""
        select = "SELECT * FROM remediation_events WHERE id > ? ORDER BY id"
        for row in self.database.execute(select, (self.head,)).fetchall():
            self.head = row["id"]
            yield json.dumps({"type": "remediation_event", "event": dict(row)}, separators=(",", ":"))
