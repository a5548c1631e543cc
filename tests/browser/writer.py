"""A writer as they are in the field: a new connection for each event, no word of WAL mode.

Reads one JSON value a line from stdin and answers each with one line:
  {"table": …, "row": {column: value, …}}   inserts the row    -> {"id": …, "committed": ms since the epoch}
  {"sql": …}                                runs a script      -> {"id": null, "committed": …}
"""

import json
import sqlite3
import sys
import time

SCHEMA = """CREATE TABLE IF NOT EXISTS remediation_events (id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT NOT NULL,
    alertname TEXT, tenant TEXT, action TEXT, status TEXT, details TEXT)"""


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def insert(connection, table, row):
    if table == "remediation_events":
        connection.execute(SCHEMA)
    columns = ", ".join(quoted(name) for name in row)
    marks = ", ".join("?" for _ in row)
    cursor = connection.execute(f"INSERT INTO {quoted(table)} ({columns}) VALUES ({marks})", tuple(row.values()))
    connection.commit()
    return cursor.lastrowid


for line in sys.stdin:
    order = json.loads(line)
    connection = sqlite3.connect(sys.argv[1], timeout=10)
    try:
        if "sql" in order:
            connection.executescript(order["sql"])
            answer = None
        else:
            answer = insert(connection, order["table"], order["row"])
        committed = time.time() * 1000
    finally:
        connection.close()
    print(json.dumps({"id": answer, "committed": committed}), flush=True)
