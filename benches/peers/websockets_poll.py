#!/usr/bin/env python3
"""A relay: the `websockets` library, a poll of the table every millisecond, its own `broadcast` to all connections.

Takes the arguments that the benchmark gives walcast, so it can stand in its place.
"""
import asyncio

import websockets

import relay
from poll import Table, arguments

db, host, port = arguments(f"websockets {websockets.__version__}, broadcast, poll of 1 ms")


async def main() -> None:
    table = Table(db)
    async with relay.server(host, port) as server:
        while True:
            relay.send(server, table.messages())
            await asyncio.sleep(0.001)


asyncio.run(main())
