#!/usr/bin/env python3
"""What people write first: FastAPI, a set of sockets, a poll of the table every millisecond, one send for each.

Takes the arguments that the benchmark gives walcast, so it can stand in its place.
"""
import argparse
import asyncio
import json
import sqlite3
import sys
from contextlib import asynccontextmanager

import fastapi
import uvicorn

if sys.argv[1:] == ["--version"]:
    print(f"fastapi {fastapi.__version__}, uvicorn {uvicorn.__version__}, set of sockets, poll of 1 ms")
    sys.exit()

parser = argparse.ArgumentParser()
parser.add_argument("command", choices=["serve"])
parser.add_argument("--db")
parser.add_argument("--listen")
parser.add_argument("--state-dir")
arguments = parser.parse_args()

sockets: set[fastapi.WebSocket] = set()


async def send(socket: fastapi.WebSocket, text: str) -> None:
    try:
        await socket.send_text(text)
    except Exception:  # whatever is wrong with it, it gets no more
        sockets.discard(socket)


async def poll() -> None:
    database = sqlite3.connect(arguments.db)
    database.row_factory = sqlite3.Row
    (head,) = database.execute("SELECT coalesce(max(id), 0) FROM remediation_events").fetchone()
    while True:
        rows = database.execute("SELECT * FROM remediation_events WHERE id > ? ORDER BY id", (head,)).fetchall()
        for row in rows:
            head = row["id"]
            text = json.dumps({"type": "remediation_event", "event": dict(row)}, separators=(",", ":"))
            await asyncio.gather(*(send(socket, text) for socket in list(sockets)))
        await asyncio.sleep(0.001)


@asynccontextmanager
async def lifespan(_: fastapi.FastAPI):
    task = asyncio.create_task(poll())
    yield
    task.cancel()


app = fastapi.FastAPI(lifespan=lifespan)


@app.get("/readyz")
def ready() -> dict:
    return {}


@app.websocket("/ws/remediation")
async def subscribe(socket: fastapi.WebSocket) -> None:
    await socket.accept()
    sockets.add(socket)
    try:
        while True:
            await socket.receive_text()
    except fastapi.WebSocketDisconnect:
        sockets.discard(socket)


host, port = arguments.listen.rsplit(":", 1)
uvicorn.run(app, host=host, port=int(port), log_level="warning")
