"""A copy of a table, kept current by what a feed of changes tells. Knows no socket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from ._arguments import Arguments, TableArguments, refuse_unknown
from ._feed import Feed, Reset, Row, Status
from .errors import FeedError

#: A row's key: the value of its one column, or a tuple of the values of several.
Key: TypeAlias = Any


@dataclass(frozen=True)
class TableChange:
    """What happened to the copy. It has happened to `rows` when it is told."""

    #: `whole`: the copy is there, or is another one now, after changes were missed. `c`: the row is new, `u`: it is
    #: another now, `d`: it is gone, or is none of the subscriber's any more.
    op: Literal["whole", "c", "u", "d"]
    #: None for `whole`.
    key: Key = None
    #: The row as it is now; None for `whole` and `d`.
    row: Row | None = None
    #: The row as the copy had it, under the key it had; None where it had none.
    before: Row | None = None


class Copy:
    """Rows by their keys. What a snapshot tells is put together beside them, so that nobody sees half a table."""

    def __init__(self) -> None:
        self.rows: dict[Key, Row] = {}
        #: The copy that follows, until it is whole.
        self._next: dict[Key, Row] | None = {}

    def begin(self) -> None:
        """A snapshot follows: what came before counts no more."""
        self._next = {}

    def finish(self) -> bool:
        """Puts what came since `begin` in the place of the rows; returns whether there was anything to put."""
        if self._next is None:
            return False
        self.rows, self._next = self._next, None
        return True

    def apply(self, told: Mapping[str, Any]) -> TableChange | None:
        """Takes in a change; returns it where the rows have it already."""
        rows = self.rows if self._next is None else self._next
        key = _key(told["key"])
        before = rows.pop(_key(told["old_key"]), None) if "old_key" in told else None
        there = rows.pop(key, None) if told["op"] == "d" else rows.get(key)
        before = there if before is None else before
        if told["op"] == "d":
            change = TableChange("d", key, None, before)
        else:
            rows[key] = told["after"]
            change = TableChange("c" if before is None else "u", key, told["after"], before)
        return change if self._next is None and change != TableChange("d", key) else None


def _key(columns: Mapping[str, Any]) -> Key:
    values = tuple(columns.values())
    return values[0] if len(values) == 1 else values


@dataclass
class TableFeed(Feed):
    """A subscription whose changes are applied as they come."""

    copy: Copy = field(default_factory=Copy)
    _told: TableChange | None = None

    def take(self, text: str | bytes) -> TableChange | None:
        """Takes in a frame; returns what it changed of the copy."""
        self._told = None
        told = self.receive(text)
        if told is None:
            return self._told
        try:
            return self.copy.apply(told)
        except (LookupError, TypeError, AttributeError) as cause:
            raise FeedError("malformed_frame", f"the server sent something that is no change: {told!r:.80}") from cause

    @property
    def rows(self) -> Mapping[Key, Row]:
        return MappingProxyType(self.copy.rows)

    def _hello(self, hello: Mapping[str, Any]) -> None:
        if hello.get("kind") != "changes":
            more = "`capture` in the server's configuration makes it one; subscribe() follows its rows"
            raise FeedError("not_a_change_feed", f"{hello['feed']} is no feed of changes: {more}", fatal=True)
        if hello.get("snapshot") is True:
            self.copy.begin()
        super()._hello(hello)

    def _start_over(self, reset: Reset, since: int) -> None:
        self.copy.begin()
        super()._start_over(reset, since)

    def tell(self, status: Status) -> None:
        if status.state == "live" and self.copy.finish():
            self._told = TableChange("whole")
        super().tell(status)


def whole(arguments: TableArguments) -> Arguments:
    """What is said of a copy, as it is said of a subscription: from the beginning of the table on."""
    refuse_unknown(arguments, TableArguments.__optional_keys__)
    return {
        "since": "earliest",
        "filters": arguments.get("filters"),
        "on_status": arguments.get("on_status"),
        "on_error": arguments.get("on_error"),
    }
