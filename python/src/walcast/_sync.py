"""Subscriptions for plain code: a thread blocks until the next row."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Generic, TypeVar

from websockets.sync.client import ClientConnection, connect

from ._connect import OPTIONS, Failure, explain, headers
from ._feed import Callbacks, Feed, FilterValue, Position, Reset, Row, Status, feed
from ._table import Key, TableChange, TableFeed, table_feed
from ._token import checked
from .errors import FeedError, closed

Item = TypeVar("Item")
This = TypeVar("This", bound="Subscription[Any]")
Token = str | Callable[[], str]


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
    """Follows a feed: `ws://host:port/ws/<feed>`, or the same with `http:`.

    `since` is an id to begin after, `"earliest"` or `"now"` (the default); `epoch` the history that id belongs to;
    `last` begins with so many of the newest rows instead. `filters` maps a column to a value or to several of which it
    must have one. `token` goes in the header `Authorization: Bearer`; a function is called for the first one, and for
    another each time the server says that the one it had has expired.

    Rows are taken by iterating, each once and in order. What the server refuses from the start (an unknown feed, a
    wrong filter) and what it ends for good is raised as a :class:`FeedError`; all else is waited out.
    """
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
    """Holds a copy of a captured table, or of its rows that match `filters`, and keeps it current.

    `url` is that of a feed of changes. Iterating gives each change when it has happened to `rows`; first of all
    `whole`, when the copy is there.
    """
    state = table_feed(url, filters, Callbacks(on_status, None, on_error), token)
    return Table(state, token)


class _Open:
    """The connection that there is."""

    connection: ClientConnection | None = None

    def close(self) -> None:
        connection = self.connection
        if connection is not None:
            connection.close()


class Subscription(Generic[Item]):
    """An iterator of rows that comes back by itself. `close()`, also from another thread, ends the loop over it."""

    def __init__(self, state: Feed, take: Callable[[str | bytes], Item | None], token: Token | None) -> None:
        self._feed = state
        self._take = take
        self._token = token
        self._closed = threading.Event()
        self._open = _Open()
        self._rows = self._follow()
        # When a script ends inside its loop: later the thread that closing waits for does not run any more.
        weakref.finalize(self, self._open.close)

    @property
    def position(self) -> Position | None:
        """Where the taker of the rows stands, to be kept and given back as `since` and `epoch`."""
        return self._feed.position

    @property
    def status(self) -> Status:
        return self._feed.status

    def __iter__(self) -> Iterator[Item]:
        return self._rows

    def __enter__(self: This) -> This:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends it, and with it the loop over it."""
        self._closed.set()
        self._open.close()
        self._feed.tell(Status("closed", "closed"))

    def _follow(self) -> Generator[Item, None, None]:
        while not self._closed.is_set():
            try:
                with self._connect() as connection:
                    self._open.connection = connection
                    for text in connection:
                        if self._closed.is_set():
                            return
                        if (item := self._take(text)) is not None:
                            yield item
                    # The library ends the loop without a word for codes 1000 and 1001.
                    error = closed(connection.protocol.close_rcvd)
            except Failure as failure:
                error = explain(failure, self._feed.url)
            finally:
                self._open.connection = None
            if not self._closed.is_set():
                self._closed.wait(self._feed.wait_after(error))

    def _connect(self) -> ClientConnection:
        credential = self._feed.credential
        if credential.due:
            credential.take(self._ask())
        presented = headers(credential.token)
        connection: ClientConnection = connect(self._feed.address(), additional_headers=presented, **OPTIONS)
        return connection

    def _ask(self) -> str | None:
        if not callable(self._token):
            return self._token
        with self._feed.credential.asked(known=self._feed.known):
            return checked(self._token())


class Table(Subscription[TableChange]):
    """A copy of a table. Iterating brings it up to date; whoever looks at it meanwhile sees no half of it."""

    def __init__(self, state: TableFeed, token: Token | None) -> None:
        super().__init__(state, state.take, token)
        self._state = state

    @property
    def rows(self) -> Mapping[Key, Row]:
        """The rows by their keys: the value of the key's column, or a tuple where it has several."""
        return self._state.rows
