"""Subscriptions for plain code: a thread blocks until the next row."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as connect_socket

from ._arguments import Arguments, TableArguments, feed
from ._connect import OPTIONS, Failure, explain, headers
from ._daemon import Daemon
from ._feed import Feed, Position, Row, Status
from ._loop import Loop
from ._shared import Conversation
from ._table import Key, TableChange, TableFeed, whole
from ._token import Credential, checked
from .errors import FeedError, closed

if TYPE_CHECKING:
    from typing_extensions import Unpack

Item = TypeVar("Item")
This = TypeVar("This", bound="Subscription[Any]")
Token = str | Callable[[], str]


def subscribe(url: str, *, token: Token | None = None, **arguments: Unpack[Arguments]) -> Subscription[Row]:
    """Follows a feed: `ws://host:port/ws/<feed>`, or the same with `http:`.

    `since` is an id to begin after, `"earliest"` or `"now"` (the default); `epoch` the history that id belongs to;
    `last` begins with so many of the newest rows instead. `filters` maps a column to a value or to several of which it
    must have one. `token` goes in the header `Authorization: Bearer`; a function is called for the first one, and for
    another each time the server says that the one it had has expired. `on_status`, `on_reset` and `on_error` are told
    how it fares.

    Rows are taken by iterating, each once and in order. What the server refuses from the start (an unknown feed, a
    wrong filter) and what it ends for good is raised as a :class:`FeedError`; all else is waited out.
    """
    state = feed(Feed, url, token, arguments)
    return Subscription(state, state.receive, _OwnSocket(token))


def subscribe_table(url: str, *, token: Token | None = None, **arguments: Unpack[TableArguments]) -> Table:
    """Holds a copy of a captured table, or of its rows that match `filters`, and keeps it current.

    `url` is that of a feed of changes; `on_status` and `on_error` are told how it fares. Iterating gives each change
    when it has happened to `rows`; first of all `whole`, when the copy is there.
    """
    return Table(feed(TableFeed, url, token, whole(arguments)), _OwnSocket(token))


def connect(url: str, *, token: Token | None = None) -> Connection:
    """A connection to a daemon, `ws://host:port`, whose subscriptions share one socket.

    It is made when the first of them is iterated. Each comes back by itself, from its own position. `token` is that of
    all; a function is called in a thread of the connection's own.
    """
    return Connection(url, token)


class _Link(Protocol):
    """How a subscription's frames come."""

    @property
    def is_closed(self) -> bool:
        """Whether nothing will come any more."""

    def frames(self, feed: Feed) -> Generator[str | bytes, None, None]:
        """What the server sends until it restarts. Raises the FeedError with which all else ends."""

    def close(self) -> None:
        """Ends it, from any thread."""


class Subscription(Generic[Item]):
    """An iterator of rows that comes back by itself. `close()`, also from another thread, ends the loop over it."""

    def __init__(self, state: Feed, take: Callable[[str | bytes], Item | None], link: _Link) -> None:
        self._feed = state
        self._take = take
        self._link = link
        self._closed = threading.Event()
        self._rows = self._follow()
        # When a script ends inside its loop: later the thread that closing waits for does not run any more.
        weakref.finalize(self, link.close)

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
        self._link.close()
        self._feed.tell(Status("closed", "closed"))

    def _follow(self) -> Generator[Item, None, None]:
        while not self._is_closed:
            error = None
            try:
                with closing(self._link.frames(self._feed)) as frames:
                    for text in frames:
                        if self._is_closed:
                            break
                        if (item := self._take(text)) is not None:
                            yield item
            except FeedError as ended:
                error = ended
            if not self._is_closed:
                self._closed.wait(self._feed.wait_after(error))
        self._feed.tell(Status("closed", "closed"))

    @property
    def _is_closed(self) -> bool:
        return self._closed.is_set() or self._link.is_closed


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
    """One socket for subscriptions to any feeds of a daemon, each iterated in a thread of its own.

    `close()`, also from another thread, ends them all.
    """

    def __init__(self, url: str, token: Token | None) -> None:
        self._daemon = Daemon(url, token)
        self._loop = Loop(self._daemon.address, token)

    def subscribe(self, feed: str, **arguments: Unpack[Arguments]) -> Subscription[Row]:
        """Follows the feed of this name, as :func:`subscribe` does."""
        state = self._daemon.feed(feed, arguments)
        return Subscription(state, state.receive, _SharedSocket(self._loop))

    def subscribe_table(self, feed: str, **arguments: Unpack[TableArguments]) -> Table:
        """Holds a copy of the captured table behind the feed of this name, as :func:`subscribe_table` does."""
        return Table(self._daemon.table(feed, arguments), _SharedSocket(self._loop))

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends it, its subscriptions and the loops over them."""
        self._loop.close()


class _OwnSocket:
    """A socket for one subscription alone."""

    is_closed = False

    def __init__(self, token: Token | None) -> None:
        self._token = token
        self._credential = Credential(renewable=callable(token))
        #: The connection that there is.
        self._open: ClientConnection | None = None

    def close(self) -> None:
        connection = self._open
        if connection is not None:
            connection.close()

    def frames(self, feed: Feed) -> Generator[str | bytes, None, None]:
        try:
            with self._connect(feed) as connection:
                self._open = connection
                yield from connection
                # The library ends the loop without a word for codes 1000 and 1001.
                error = closed(connection.protocol.close_rcvd)
        except Failure as failure:
            error = explain(failure, feed.target)
        finally:
            self._open = None
        if error is not None:
            self._credential.judged(error, greeted=feed.greeted_at is not None)
            raise error

    def _connect(self, feed: Feed) -> ClientConnection:
        if self._credential.due:
            self._credential.take(self._ask(known=feed.known))
        presented = headers(self._credential.token)
        connection: ClientConnection = connect_socket(feed.address(), additional_headers=presented, **OPTIONS)
        return connection

    def _ask(self, *, known: bool) -> str | None:
        if not callable(self._token):
            return self._token
        with self._credential.asked(known=known):
            return checked(self._token())


class _SharedSocket:
    """A share of the sockets of a connection."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._conversation: Conversation | None = None

    @property
    def is_closed(self) -> bool:
        return self._loop.is_closed

    def close(self) -> None:
        conversation = self._conversation
        if conversation is not None:
            self._loop.post(conversation.leave())

    def frames(self, feed: Feed) -> Generator[str | bytes, None, None]:
        conversation = self._loop.conversation(feed)
        self._conversation = conversation
        try:
            while frames := self._loop.run(conversation.frames()):
                yield from frames
        finally:
            self._conversation = None
            self._loop.post(conversation.leave())
