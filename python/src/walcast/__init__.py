"""Follow a walcast feed: every committed row once and in order, over restarts, dead links and outages.

    for row in walcast.subscribe("ws://127.0.0.1:8010/ws/remediation", last=10):
        print(row["id"])

`walcast.subscribe_table` keeps a copy of a table whose updates and deletes are captured. `walcast.aio` has both for
asyncio.
"""

from . import aio
from ._feed import Position, Reset, Row, Status
from ._sync import Subscription, Table, subscribe, subscribe_table
from ._table import TableChange
from .errors import FeedError

__all__ = [
    "FeedError",
    "Position",
    "Reset",
    "Row",
    "Status",
    "Subscription",
    "Table",
    "TableChange",
    "aio",
    "subscribe",
    "subscribe_table",
]
