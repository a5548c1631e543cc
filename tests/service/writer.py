#!/usr/bin/env python3
"""writer.py DATABASE COUNT [PAUSE]: a program that knows nothing of walcast or WAL mode and records events."""

import datetime
import sqlite3
import sys
import time

database, count, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 0
for number in range(count):
    connection = sqlite3.connect(database)
    connection.execute(
        "CREATE TABLE IF NOT EXISTS remediation_events(id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT NOT NULL,"
        " alertname TEXT, tenant TEXT, action TEXT, status TEXT, details TEXT)"
    )
    ts = datetime.datetime.now(datetime.timezone.utc).isoformat().replace("+00:00", "Z")
    connection.execute(
        "INSERT INTO remediation_events(ts, alertname, tenant, action, status) VALUES (?, ?, 'acme', 'restart', 'success')",
        (ts, f"Alert{number}"),
    )
    connection.commit()
    connection.close()
    time.sleep(pause)
