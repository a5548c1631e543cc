"""Where a subscription stands and what each frame means for it. Knows no socket."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias
from urllib.parse import urlencode

from .errors import FeedError, is_of_caller

#: A row as the feed sends it: NULL is None, BLOB a base64 string, an integer beyond ±(2^53-1) a string, but for the
#: key, which is always an int.
Row: TypeAlias = dict[str, Any]
State: TypeAlias = Literal["connecting", "waiting", "replaying", "live", "reconnecting", "closed"]

# Seconds. Half of each wait is random, so that clients that lost the same server do not come back together.
BACKOFF_FIRST = 0.5
BACKOFF_LONGEST = 15.0
# A connection that lived for so many seconds was a good one: the next failure starts from the shortest wait.
PROVEN = 10.0
# The least wait, in seconds, for a server that said it is full.
AT_CAPACITY = 5.0


@dataclass(frozen=True)
class Position:
    """A place in one history of a feed: every row up to `id` has been taken."""

    epoch: str | None
    id: int


@dataclass(frozen=True)
class Status:
    """How a subscription fares; `message` is a sentence fit to be shown."""

    state: State
    message: str


@dataclass(frozen=True)
class Reset:
    """The rows that follow are of another history, or some before them are gone: drop what the earlier ones led to."""

    #: `pruned`, `above_head`, `epoch_changed`, `snapshot_interrupted` (a feed of changes tells the table from its
    #: beginning again), or the server's word, such as `database_replaced`.
    reason: str
    epoch: str
    head: int
    earliest: int | None


@dataclass
class Callbacks:
    """Whom to tell beside the rows. Each is called in the thread or task that takes the rows."""

    on_status: Callable[[Status], None] | None = None
    on_reset: Callable[[Reset], None] | None = None
    on_error: Callable[[FeedError], None] | None = None


@dataclass
class Start:
    """Where a subscription begins that has no position yet."""

    last: int | None = None
    position: Position | None = None


@dataclass
class Feed:
    """One subscription's state: what to ask for next, and what came."""

    #: The feed's address; on a socket that several feeds share, its name.
    target: str
    filters: Sequence[tuple[str, str]]
    start: Start
    callbacks: Callbacks
    #: Whether a token that has expired is followed by another.
    renewable: bool = False
    position: Position | None = None
    status: Status = field(default_factory=lambda: Status("connecting", "connecting"))
    #: Whether the server has ever said hello, and when it did on the connection there is, by the monotonic clock.
    known: bool = False
    greeted_at: float | None = None
    #: Seconds after which a goodbye asked to come back.
    announced: float | None = None
    _key: str = "id"
    #: Whether a row was given out that another snapshot of the table makes void.
    _given: bool = False
    _failures: int = 0
    _reported: str | None = None

    def __post_init__(self) -> None:
        self.position = self.start.position

    def address(self) -> str:
        """The address to connect to now. Always of the resumable form."""
        return f"{self.target}?{urlencode([*self.filters, *self._beginning().items()])}"

    def request(self) -> dict[str, Any]:
        """What a message that subscribes has to say now, but for its kind and name."""
        filters: dict[str, list[str]] = {}
        for column, value in self.filters:
            filters.setdefault(column, []).append(value)
        return {"feed": self.target, **self._beginning(), "filters": filters}

    def _beginning(self) -> dict[str, str]:
        if self.position is None:
            return {"since": "now"} if self.start.last is None else {"last": str(self.start.last)}
        since = {"since": str(self.position.id)}
        return since if self.position.epoch is None else since | {"epoch": self.position.epoch}

    def receive(self, text: str | bytes) -> Row | None:
        """Takes in a frame; returns the row in it, if it is one that was not taken before."""
        try:
            frame = json.loads(text)
            kind = frame["type"]
        except (ValueError, LookupError, TypeError):
            if text == "pong":
                return None
            raise malformed(text) from None
        try:
            match kind:
                case "hello":
                    self._hello(frame)
                case "live":
                    self._advance(int(frame["id"]))
                    self._reported = None
                    self.tell(Status("live", "live"))
                case "reset":
                    reset = _reset(frame["reason"], frame)
                    self._start_over(reset, 0)
                case "waiting":
                    self.tell(Status("waiting", str(frame["message"])))
                case "goodbye":
                    self.announced = float(frame["reconnect_after_ms"]) / 1000
                case "heartbeat" | "pong":
                    pass
                case _:
                    return self._row(frame)
        except (LookupError, ValueError, TypeError) as cause:
            raise malformed(text) from cause
        return None

    def _row(self, frame: Mapping[str, Any]) -> Row | None:
        # The key that holds the row is the server's choice: the row is the one object in the frame.
        row = next((value for value in frame.values() if isinstance(value, dict)), None)
        if row is None:
            return None  # A kind of frame that a later server may add.
        if self._key not in row and row.get("op") == "r":
            name = f"the row {row['key']}"  # Of a snapshot: it has no position.
        else:
            row[self._key] = row_id = int(row[self._key])
            if self.position is not None and row_id <= self.position.id:
                return None
            self._advance(row_id)
            name = f"row {row_id}"
        self._given = True
        if cut := frame.get("truncated"):
            self.report(FeedError("row_truncated", f"{name} was too large: {', '.join(cut)} arrived cut"))
        return row

    def _hello(self, hello: Mapping[str, Any]) -> None:
        self._key, epoch, since = str(hello["key"]), str(hello["epoch"]), int(hello["since"])
        self.known, self.greeted_at = True, time.monotonic()
        before = self.position
        other = before is not None and before.epoch not in (None, epoch)
        if other or not hello["recovered"]:
            above = before is not None and before.id > int(hello["head"])
            reason = "epoch_changed" if other else "above_head" if above else "pruned"
            self._start_over(_reset(reason, hello), since)
        elif self._given and hello.get("snapshot") is True:
            self._start_over(_reset("snapshot_interrupted", hello), since)
        else:
            self.position = Position(epoch, before.id if before is not None else since)
            self.tell(Status("replaying", "connected; reading what was missed"))

    def _start_over(self, reset: Reset, since: int) -> None:
        # An empty range below the first id there is, negative ones included.
        first = since if reset.earliest is None else min(since, reset.earliest - 1)
        self.position = Position(reset.epoch, first)
        if self.callbacks.on_reset is not None:
            self.callbacks.on_reset(reset)
        self.tell(Status("replaying", "the history changed; reading the new one"))

    def _advance(self, row_id: int) -> None:
        known = self.position
        if known is None:
            self.position = Position(None, row_id)
        elif row_id > known.id:
            self.position = Position(known.epoch, row_id)

    def wait_after(self, error: FeedError | None) -> float:
        """Tells why there is no connection; returns how many seconds to wait before the next attempt.

        Raises the error where waiting will not mend it: the server ended the subscription for good, or refused it
        from the start. A feed that was there may come back, since configurations change.
        """
        if error is not None and (error.fatal or (is_of_caller(error) and not self.known)):
            error.fatal = True
            self.tell(Status("closed", str(error)))
            raise error
        announced, self.announced = self.announced, None
        greeted_at, self.greeted_at = self.greeted_at, None
        if greeted_at is not None and time.monotonic() - greeted_at >= PROVEN:
            self._failures = 0
        wait = _spread(min(BACKOFF_LONGEST, BACKOFF_FIRST * 2**self._failures))
        self._failures = min(self._failures + 1, 16)
        if announced is not None:
            wait = announced
        if error is not None:
            if error.code != "token_expired" or not self.renewable:
                self.report(error)  # A token that is followed by another is no trouble.
            if error.code == "at_capacity":
                wait = max(wait, error.retry_after or AT_CAPACITY + _spread(AT_CAPACITY))
        message = str(error) if error is not None else "the server restarts"
        self.tell(Status("reconnecting", f"{message}; trying again"))
        return wait

    def report(self, error: FeedError) -> None:
        """Tells of an error, once for each cause until it is over."""
        same = f"{error.code} {error}"
        if same != self._reported:
            self._reported = same
            if self.callbacks.on_error is not None:
                self.callbacks.on_error(error)

    def tell(self, status: Status) -> None:
        if status != self.status:
            self.status = status
            if self.callbacks.on_status is not None:
                self.callbacks.on_status(status)


def _reset(reason: str, frame: Mapping[str, Any]) -> Reset:
    earliest = frame["earliest"]
    return Reset(str(reason), str(frame["epoch"]), int(frame["head"]), None if earliest is None else int(earliest))


def _spread(ceiling: float) -> float:
    return ceiling / 2 + random.random() * ceiling / 2


def malformed(text: str | bytes) -> FeedError:
    return FeedError("malformed_frame", f"the server sent something that is no frame of a feed: {text[:80]!r}")
