"""What a caller may say of a subscription, for plain code and for asyncio alike, and what can be wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias, TypedDict, TypeVar
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from ._feed import Callbacks, Feed, Position, Reset, Start, Status
from ._token import checked
from .errors import FeedError

FilterValue: TypeAlias = str | int | float

RESERVED = ("since", "last", "epoch", "limit", "before", "after", "token")
LAST_MAX = 10_000
#: Bytes of a message that subscribes, as far as the caller decides: a server takes 4,096, and the subscription's name,
#: its position and epoch have to fit in, too.
REQUEST_MAX = 3_840


class TableArguments(TypedDict, total=False):
    """What may be said of any subscription, by name."""

    #: A column, and the value or the values of which a row must have one.
    filters: Mapping[str, FilterValue | Iterable[FilterValue]] | None
    #: Told how the subscription fares.
    on_status: Callable[[Status], None] | None
    #: Told of each trouble once, until it is over.
    on_error: Callable[[FeedError], None] | None


class Arguments(TableArguments, total=False):
    """What may be said of a subscription to rows, by name."""

    #: The id to begin after, `"earliest"` or `"now"`, which it is where nothing is said.
    since: int | str | None
    #: The history the id in `since` belongs to.
    epoch: str | None
    #: Begins with so many of the newest rows.
    last: int | None
    #: Told when the rows that follow are of another history, or some before them are gone.
    on_reset: Callable[[Reset], None] | None


AnyFeed = TypeVar("AnyFeed", bound=Feed)


def feed(kind: type[AnyFeed], url: str, token: object, arguments: Arguments) -> AnyFeed:
    """Checks everything a caller can get wrong; the error names the argument, its value and the remedy."""
    address, query = _split(url)
    if not callable(token):
        checked(token)
    state = _made(kind, address, callable(token), _completed(arguments, dict(query)))
    state.filters = [*((name, value) for name, value in query if name not in RESERVED), *state.filters]
    return state


def _completed(arguments: Arguments, query: Mapping[str, str]) -> Arguments:
    """The arguments, and what the address says beside them."""
    completed = arguments.copy()
    if arguments.get("since") is None:
        completed["since"] = query.get("since")
    if arguments.get("epoch") is None:
        completed["epoch"] = query.get("epoch")
    if arguments.get("last") is None and "last" in query:
        completed["last"] = int(query["last"])
    return completed


def named_feed(kind: type[AnyFeed], name: str, renewable: bool, arguments: Arguments) -> AnyFeed:
    """Checks what is said of a feed on a shared socket, as :func:`feed` does."""
    if not name or "/" in name:
        raise ValueError(f"feed: {name!r} is no feed's name, such as 'orders'; /api/feeds lists those there are")
    state = _made(kind, name, renewable, arguments)
    size = len(json.dumps({"feed": name, "filters": state.request()["filters"]}, ensure_ascii=False).encode())
    if size > REQUEST_MAX:
        remedy = "subscribe to the feed's own address, which takes more"
        raise ValueError(f"filters: {size} bytes are more than a shared socket takes ({REQUEST_MAX}); {remedy}")
    return state


def _made(kind: type[AnyFeed], target: str, renewable: bool, arguments: Arguments) -> AnyFeed:
    refuse_unknown(arguments, Arguments.__optional_keys__)
    start = _start(arguments.get("since"), arguments.get("epoch"), arguments.get("last"))
    callbacks = Callbacks(arguments.get("on_status"), arguments.get("on_reset"), arguments.get("on_error"))
    return kind(target, _pairs(arguments.get("filters") or {}), start, callbacks, renewable)


def refuse_unknown(arguments: Mapping[str, object], known: frozenset[str]) -> None:
    """Raises a TypeError for an argument that there is not."""
    for name in arguments.keys() - known:
        raise TypeError(f"{name}: there is no such argument; there are {', '.join(sorted(known | {'token'}))}")


def daemon_address(url: str) -> str:
    """The address of the socket that the feeds of a daemon share."""
    parts = urlsplit(url)
    scheme = _scheme(parts.scheme)
    path = parts.path.rstrip("/")
    if scheme is None or not parts.netloc:
        raise ValueError(f"url: {url!r} is not an address of a daemon, such as ws://127.0.0.1:8010")
    if "/ws/" in path or parts.query:
        raise ValueError(f"url: {url!r} says which feed; name that in subscribe(), and here the daemon only")
    return urlunsplit((scheme, parts.netloc, path if path.endswith("/ws") else f"{path}/ws", "", ""))


def _split(url: str) -> tuple[str, list[tuple[str, str]]]:
    parts = urlsplit(url)
    scheme = _scheme(parts.scheme)
    if scheme is None or not parts.netloc:
        raise ValueError(f"url: {url!r} is not an address of a feed, such as ws://127.0.0.1:8010/ws/remediation")
    if parts.path in ("", "/"):
        raise ValueError(f"url: {url!r} names no feed; {parts.scheme}://{parts.netloc}/api/feeds lists those there are")
    return urlunsplit((scheme, parts.netloc, parts.path, "", "")), parse_qsl(parts.query, keep_blank_values=True)


def _scheme(given: str) -> str | None:
    return {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(given)


def _start(since: int | str | None, epoch: str | None, last: int | None) -> Start:
    if last is not None:
        if since is not None:
            raise ValueError(f"since and last: {since!r} and {last!r} exclude each other")
        if not 1 <= last <= LAST_MAX:
            raise ValueError(f"last: {last!r} is not from 1 to {LAST_MAX}")
        return Start(last=last)
    if since is None or since == "now":
        return Start()
    try:
        return Start(position=Position(epoch, 0 if since == "earliest" else int(since)))
    except ValueError:
        raise ValueError(f"since: {since!r} is neither an id nor 'earliest' nor 'now'") from None


def _pairs(filters: Mapping[str, FilterValue | Iterable[FilterValue]]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for column, wanted in filters.items():
        if column in RESERVED:
            raise ValueError(f"filters: {column!r} is a reserved word and can't be filtered on")
        values = [wanted] if isinstance(wanted, str | int | float) else list(wanted)
        if not values:
            raise ValueError(f"filters: {column!r} has no value; leave it out to have all rows")
        pairs.extend((column, str(value)) for value in values)
    return pairs
