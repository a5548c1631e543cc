"""Follow a walcast feed: every committed row once and in order, over restarts, dead links and outages.

    for row in walcast.subscribe("ws://127.0.0.1:8010/ws/remediation", last=10):
        print(row["id"])

`walcast.aio.subscribe` is the same for asyncio.
"""

from . import aio
from ._feed import Position, Reset, Row, Status
from ._sync import Subscription, subscribe
from .errors import FeedError

__all__ = ["FeedError", "Position", "Reset", "Row", "Status", "Subscription", "aio", "subscribe"]
