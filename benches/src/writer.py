"""A writer that knows nothing of walcast: a new connection for each event."""
import random
import sqlite3
import sys
import time

database, rows, gap_us = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
random.seed(1)
written = []
for _ in range(rows):
    started = time.monotonic_ns()
    connection = sqlite3.connect(database)
    connection.execute(
        "CREATE TABLE IF NOT EXISTS remediation_events (id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT NOT NULL, "
        "alertname TEXT, tenant TEXT, action TEXT, status TEXT, details TEXT)"
    )
    cursor = connection.execute(
        "INSERT INTO remediation_events (ts, alertname, tenant, action, status, details) VALUES (?, ?, ?, ?, ?, ?)",
        (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "HighMemoryUsage", "acme", "restart_service", "success",
         f"at {started}"),
    )
    connection.commit()
    committed = time.monotonic_ns()
    connection.close()
    written.append(f"0 {cursor.lastrowid} {started} {committed}")
    time.sleep(gap_us * random.uniform(0.5, 1.5) / 1e6)
print("\n".join(written))
