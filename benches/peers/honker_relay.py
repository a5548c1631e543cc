#!/usr/bin/env python3
"""honker wakes a relay of the `websockets` library, which reads the rows above the last and broadcasts them.

honker's own notifications, streams and queues carry what a writer puts into them by its functions, so a writer of plain
INSERTs would have to load its extension. What it offers for such a writer is `update_events`: a thread of its own asks
for `data_version` every millisecond, and wakes whoever waits when anybody has committed. What was committed it doesn't
say. It makes its own tables in the database when it opens it.

Takes the arguments that the benchmark gives walcast, so it can stand in its place.
"""
import asyncio
from importlib.metadata import version

import honker

import relay
from poll import Table, arguments

db, host, port = arguments(f"honker {version('honker')}, update_events, websockets {version('websockets')}, broadcast")


async def main() -> None:
    database = honker.open(db)  # in a name, for its watcher ends with it
    commits = database.update_events()  # before the table is read: a row between the two must wake, too
    table = Table(db)
    async with relay.server(host, port) as server:
        async for _ in commits:
            relay.send(server, table.messages())


asyncio.run(main())
