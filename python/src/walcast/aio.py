"""Subscriptions for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from websockets.asyncio.client import connect as connect_socket

from ._arguments import Arguments, TableArguments, feed
from ._connect import OPTIONS, Failure, explain
from ._daemon import Daemon
from ._feed import Feed, Position, Row, Status
from ._shared import Conversation, Sockets, Token, presented
from ._table import Key, TableChange, TableFeed, whole
from ._token import Credential
from .errors import FeedError, closed

if TYPE_CHECKING:
    from typing_extensions import Unpack

Item = TypeVar("Item")
This = TypeVar("This", bound="Subscription[Any]")


def subscribe(url: str, *, token: Token | None = None, **arguments: Unpack[Arguments]) -> Subscription[Row]:
    """Follows a feed, as :func:`walcast.subscribe` does; `token` may be a coroutine function, too."""
    state = feed(Feed, url, token, arguments)
    return Subscription(state, state.receive, _OwnSocket(token))


def subscribe_table(url: str, *, token: Token | None = None, **arguments: Unpack[TableArguments]) -> Table:
    """Holds a copy of a captured table, as :func:`walcast.subscribe_table` does."""
    return Table(feed(TableFeed, url, token, whole(arguments)), _OwnSocket(token))


def connect(url: str, *, token: Token | None = None) -> Connection:
    """A connection to a daemon, as :func:`walcast.connect` makes one; `token` may be a coroutine function, too."""
    return Connection(url, token)


class _Link(Protocol):
    """How a subscription's frames come."""

    @property
    def is_closed(self) -> bool:
        """Whether nothing will come any more."""

    def frames(self, feed: Feed) -> AsyncGenerator[str | bytes, None]:
        """What the server sends until it restarts. Raises the FeedError with which all else ends."""


class Subscription(Generic[Item]):
    """An async iterator of rows that comes back by itself. Leaving `async with` or the task's end closes it."""

    def __init__(self, state: Feed, take: Callable[[str | bytes], Item | None], link: _Link) -> None:
        self._feed = state
        self._take = take
        self._link = link
        self._rows = self._follow()

    @property
    def position(self) -> Position | None:
        """Where the taker of the rows stands, to be kept and given back as `since` and `epoch`."""
        return self._feed.position

    @property
    def status(self) -> Status:
        return self._feed.status

    def __aiter__(self) -> AsyncIterator[Item]:
        return self._rows

    async def __aenter__(self: This) -> This:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends it, and with it the loop over it."""
        await self._rows.aclose()
        self._feed.tell(Status("closed", "closed"))

    async def _follow(self) -> AsyncGenerator[Item, None]:
        while not self._link.is_closed:
            error = None
            try:
                async with aclosing(self._link.frames(self._feed)) as frames:
                    async for text in frames:
                        if (item := self._take(text)) is not None:
                            yield item
            except FeedError as ended:
                error = ended
            if not self._link.is_closed:
                await asyncio.sleep(self._feed.wait_after(error))
        self._feed.tell(Status("closed", "closed"))


class Table(Subscription[TableChange]):
    """A copy of a table. Iterating brings it up to date; whoever looks at it meanwhile sees no half of it."""

    def __init__(self, state: TableFeed, link: _Link) -> None:
        super().__init__(state, state.take, link)
        self._state = state

    @property
    def rows(self) -> Mapping[Key, Row]:
        """The rows by their keys: the value of the key's column, or a tuple where it has several."""
        return self._state.rows


class Connection:
    """One socket for subscriptions to any feeds of a daemon. Leaving `async with` ends them all."""

    def __init__(self, url: str, token: Token | None) -> None:
        self._daemon = Daemon(url, token)
        self._sockets = Sockets(self._daemon.address, token)

    def subscribe(self, feed: str, **arguments: Unpack[Arguments]) -> Subscription[Row]:
        """Follows the feed of this name, as :func:`subscribe` does."""
        state = self._daemon.feed(feed, arguments)
        return Subscription(state, state.receive, _SharedSocket(self._sockets))

    def subscribe_table(self, feed: str, **arguments: Unpack[TableArguments]) -> Table:
        """Holds a copy of the captured table behind the feed of this name, as :func:`subscribe_table` does."""
        return Table(self._daemon.table(feed, arguments), _SharedSocket(self._sockets))

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends it, its subscriptions and the loops over them."""
        await self._sockets.close()


class _OwnSocket:
    """A socket for one subscription alone."""

    is_closed = False

    def __init__(self, token: Token | None) -> None:
        self._token = token
        self._credential = Credential(renewable=callable(token))

    async def frames(self, feed: Feed) -> AsyncGenerator[str | bytes, None]:
        try:
            headers = await presented(self._credential, self._token, known=feed.known)
            async with await connect_socket(feed.address(), additional_headers=headers, **OPTIONS) as connection:
                async for text in connection:
                    yield text
                # The library ends the loop without a word for codes 1000 and 1001.
                error = closed(connection.protocol.close_rcvd)
        except Failure as failure:
            error = explain(failure, feed.target)
        if error is not None:
            self._credential.judged(error, greeted=feed.greeted_at is not None)
            raise error


class _SharedSocket:
    """A share of the sockets of a connection."""

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets

    @property
    def is_closed(self) -> bool:
        return self._sockets.is_closed

    async def frames(self, feed: Feed) -> AsyncGenerator[str | bytes, None]:
        conversation = Conversation(self._sockets, feed)
        try:
            while frames := await conversation.frames():
                for frame in frames:
                    yield frame
        finally:
            await conversation.leave()
