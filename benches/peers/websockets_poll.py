#!/usr/bin/env python3
"""A relay: the `websockets` library, a poll of the table every millisecond, its own `broadcast` to all connections.

Takes the arguments that the benchmark gives walcast, so it can stand in its place.
"""
import argparse
import asyncio
import http
import json
import sqlite3
import sys

import websockets
from websockets.asyncio.server import broadcast, serve

if sys.argv[1:] == ["--version"]:
    print(f"websockets {websockets.__version__}, broadcast, poll of 1 ms")
    sys.exit()

parser = argparse.ArgumentParser()
parser.add_argument("command", choices=["serve"])
parser.add_argument("--db")
parser.add_argument("--listen")
parser.add_argument("--state-dir")
arguments = parser.parse_args()


def ready(connection, request):
    if request.path == "/readyz":
        return connection.respond(http.HTTPStatus.OK, "ok\n")


async def subscribe(socket) -> None:
    await socket.wait_closed()


async def main() -> None:
    database = sqlite3.connect(arguments.db)
    database.row_factory = sqlite3.Row
    (head,) = database.execute("SELECT coalesce(max(id), 0) FROM remediation_events").fetchone()
    host, port = arguments.listen.rsplit(":", 1)
    async with serve(subscribe, host, int(port), process_request=ready, compression=None) as server:
        while True:
            rows = database.execute("SELECT * FROM remediation_events WHERE id > ? ORDER BY id", (head,)).fetchall()
            for row in rows:
                head = row["id"]
                text = json.dumps({"type": "remediation_event", "event": dict(row)}, separators=(",", ":"))
                broadcast(server.connections, text)
            await asyncio.sleep(0.001)


asyncio.run(main())
