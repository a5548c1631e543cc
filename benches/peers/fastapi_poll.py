#!/usr/bin/env python3
"""What people write first: FastAPI, a set of sockets, a poll of the table every millisecond, one send for each.

Takes the arguments that the benchmark gives walcast, so it can stand in its place.
"""
import asyncio
from contextlib import asynccontextmanager

import fastapi
import uvicorn

from poll import Table, arguments

db, host, port = arguments(
    f"fastapi {fastapi.__version__}, uvicorn {uvicorn.__version__}, set of sockets, poll of 1 ms"
)

sockets: set[fastapi.WebSocket] = set()


async def send(socket: fastapi.WebSocket, text: str) -> None:
    try:
        await socket.send_text(text)
    except Exception:  # whatever is wrong with it, it gets no more
        sockets.discard(socket)


async def poll() -> None:
    table = Table(db)
    while True:
        for text in table.messages():
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


uvicorn.run(app, host=host, port=port, log_level="warning")
