"""How a connection is made and why it ended, for threads and for asyncio alike."""

from __future__ import annotations

from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from .errors import FeedError, closed, refused

#: In seconds: how long connecting may take, after how much silence a link is asked, and after how much more it counts
#: as dead. In bytes: the largest message, far above the largest row that a server sends unless told otherwise (1 MiB).
#: Rows that nobody takes are bounded by the library's queue of frames, and then wait at the server.
OPTIONS: dict[str, Any] = {
    "open_timeout": 20,
    "ping_interval": 20,
    "ping_timeout": 10,
    "close_timeout": 2,
    "max_size": 64 * 1024 * 1024,
    "compression": None,
}

#: What may end an attempt to connect or the connection it led to; anything else is a fault of the program's own.
Failure = (FeedError, OSError, WebSocketException)


def headers(token: str | None) -> dict[str, str]:
    """A token goes in a header, never in the address, where proxies log it."""
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def explain(failure: Exception, url: str) -> FeedError | None:
    """Why a connection ended or never came about; `None` for a restart, which needs no words."""
    if isinstance(failure, FeedError):
        return failure
    if isinstance(failure, ConnectionClosed):
        return closed(failure.rcvd)
    if isinstance(failure, InvalidStatus):
        return refused(failure)
    return FeedError("unreachable", f"{url} can't be reached: {failure or type(failure).__name__}")
