"""Subscriptions for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from inspect import isawaitable
from types import TracebackType
from typing import Any, Generic, TypeVar

from websockets.asyncio.client import ClientConnection, connect

from ._connect import OPTIONS, Failure, explain, headers
from ._feed import Callbacks, Feed, FilterValue, Position, Reset, Row, Status, feed
from ._table import Key, TableChange, TableFeed, table_feed
from ._token import checked
from .errors import FeedError, closed

Item = TypeVar("Item")
This = TypeVar("This", bound="Subscription[Any]")
Token = str | Callable[[], str | Awaitable[str]]


def subscribe(
    url: str,
    *,
    since: int | str | None = None,
    epoch: str | None = None,
    last: int | None = None,
    filters: Mapping[str, FilterValue | Iterable[FilterValue]] | None = None,
    token: Token | None = None,
    on_status: Callable[[Status], None] | None = None,
    on_reset: Callable[[Reset], None] | None = None,
    on_error: Callable[[FeedError], None] | None = None,
) -> Subscription[Row]:
    """Follows a feed, as :func:`walcast.subscribe` does; `token` may be a coroutine function, too."""
    callbacks = Callbacks(on_status, on_reset, on_error)
    state = feed(url, since=since, epoch=epoch, last=last, filters=filters, callbacks=callbacks, token=token, kind=Feed)
    return Subscription(state, state.receive, token)


def subscribe_table(
    url: str,
    *,
    filters: Mapping[str, FilterValue | Iterable[FilterValue]] | None = None,
    token: Token | None = None,
    on_status: Callable[[Status], None] | None = None,
    on_error: Callable[[FeedError], None] | None = None,
) -> Table:
    """Holds a copy of a captured table, as :func:`walcast.subscribe_table` does."""
    state = table_feed(url, filters, Callbacks(on_status, None, on_error), token)
    return Table(state, token)


class Subscription(Generic[Item]):
    """An async iterator of rows that comes back by itself. Leaving `async with` or the task's end closes it."""

    def __init__(self, state: Feed, take: Callable[[str | bytes], Item | None], token: Token | None) -> None:
        self._feed = state
        self._take = take
        self._token = token
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
        while True:
            try:
                async with await self._connect() as connection:
                    async for text in connection:
                        if (item := self._take(text)) is not None:
                            yield item
                    # The library ends the loop without a word for codes 1000 and 1001.
                    error = closed(connection.protocol.close_rcvd)
            except Failure as failure:
                error = explain(failure, self._feed.url)
            await asyncio.sleep(self._feed.wait_after(error))

    async def _connect(self) -> ClientConnection:
        credential = self._feed.credential
        if credential.due:
            credential.take(await self._ask())
        return await connect(self._feed.address(), additional_headers=headers(credential.token), **OPTIONS)

    async def _ask(self) -> str | None:
        if not callable(self._token):
            return self._token
        with self._feed.credential.asked(known=self._feed.known):
            given = self._token()
            return checked(await given if isawaitable(given) else given)


class Table(Subscription[TableChange]):
    """A copy of a table. Iterating brings it up to date; whoever looks at it meanwhile sees no half of it."""

    def __init__(self, state: TableFeed, token: Token | None) -> None:
        super().__init__(state, state.take, token)
        self._state = state

    @property
    def rows(self) -> Mapping[Key, Row]:
        """The rows by their keys: the value of the key's column, or a tuple where it has several."""
        return self._state.rows
