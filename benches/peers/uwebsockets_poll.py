#!/usr/bin/env python3
"""uWebSockets, as socketify binds it: one topic, its native publish, a poll of the table every millisecond.

Python runs for the poll and once for each new connection; loop, handshakes, topic, frames and sends are the native
library's. The loop is libuv's: socketify's own `run` turns it from asyncio, which spins after activity and sleeps up to
10 ms without.

Takes the arguments that the benchmark gives walcast, so it can stand in its place.
"""
from importlib.metadata import version

from socketify import App, AppListenOptions, OpCode

from poll import Table, arguments

db, host, port = arguments(f"uWebSockets by socketify {version('socketify')}, native publish, poll of 1 ms")
table = Table(db)
app = App()


def poll(_) -> None:
    for text in table.messages():
        app.publish("rows", text, OpCode.TEXT)


app.get("/readyz", lambda response, _: response.end("ok\n"))
app.ws("/ws/remediation", {
    "open": lambda socket: socket.subscribe("rows"),
    "send_pings_automatically": True,
    "max_backpressure": 0,  # none is left out: by default a client that is 64 KiB behind loses rows
})
app.listen(AppListenOptions(port=port, host=host))
timer = app.loop.uv_loop.create_timer(0, 1, poll, None)  # goes on as long as it is held
app.loop.uv_loop.run()
