"""Follow a walcast feed: every committed row once and in order, over restarts, dead links and outages.

    for row in walcast.subscribe("ws://127.0.0.1:8010/ws/remediation", last=10):
        print(row["id"])

`walcast.subscribe_table` keeps a copy of a table whose updates and deletes are captured, and `walcast.connect` has
several subscriptions share one socket. `walcast.aio` has all of that for asyncio.
"""

from . import aio
from ._feed import Position, Reset, Row, Status
from ._sync import Connection, Subscription, Table, connect, subscribe, subscribe_table
from ._table import TableChange
from .errors import FeedError

__all__ = [
    "Connection",
    "FeedError",
    "Position",
    "Reset",
    "Row",
    "Status",
    "Subscription",
    "Table",
    "TableChange",
    "aio",
    "connect",
    "subscribe",
    "subscribe_table",
]
