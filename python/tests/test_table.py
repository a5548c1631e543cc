"""A copy of a captured table, against the real daemon and against what a server may send."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import walcast
from conftest import Daemon, binary
from walcast import aio
from walcast._arguments import feed
from walcast._table import TableFeed, whole

TABLE = "CREATE TABLE orders(region TEXT, number INTEGER, tenant TEXT, total REAL, PRIMARY KEY(region, number))"
Step = Callable[[], None]


class Shop(Daemon):
    """A daemon with a captured table."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.write(TABLE)
        self.install()
        configuration = directory / "walcast.toml"
        configuration.write_text('[feeds.orders]\ntable = "orders"\ncapture = "keys"\ncapture_filters = ["tenant"]\n')
        self.options = ["--config", str(configuration)]

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws/orders"

    def install(self) -> None:
        command = [binary(), "capture", "install", "--db", str(self.database), "orders", "--filter", "tenant"]
        subprocess.run(command, check=True, capture_output=True)

    def write(self, *statements: str) -> None:
        """Runs them in one transaction."""
        with closing(sqlite3.connect(self.database, timeout=10)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def rows(self, tenant: str = "%") -> dict[Any, dict[str, Any]]:
        """The table as it is."""
        with closing(sqlite3.connect(self.database)) as connection:
            connection.row_factory = sqlite3.Row
            found = connection.execute("SELECT * FROM orders WHERE tenant LIKE ?", (tenant,)).fetchall()
        return {(row["region"], row["number"]): dict(row) for row in found}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    shop.start()
    yield shop
    shop.stop(signal.SIGKILL)


def plain(url: str, steps: list[Step], until: Callable[[Any], bool], **options: Any) -> list[walcast.TableChange]:
    """Takes each step when the one before has shown, until the copy is as wanted; returns the changes."""
    told = []
    with walcast.subscribe_table(url, **options) as table:
        for change in table:
            told.append(change)
            if steps:
                steps.pop(0)()
            elif until(table.rows):
                return told
    raise AssertionError(f"it ended after {told}")


def by_asyncio(url: str, steps: list[Step], until: Callable[[Any], bool], **options: Any) -> list[walcast.TableChange]:
    async def run() -> list[walcast.TableChange]:
        told = []
        async with aio.subscribe_table(url, **options) as table:
            async for change in table:
                told.append(change)
                if steps:
                    await asyncio.to_thread(steps.pop(0))
                elif until(table.rows):
                    return told
        raise AssertionError(f"it ended after {told}")

    return asyncio.run(run())


@pytest.mark.parametrize("hold", [plain, by_asyncio], ids=["plain", "asyncio"])
def test_the_copy_is_the_table(shop: Shop, hold: Any) -> None:
    shop.write("INSERT INTO orders VALUES ('eu', 1, 'acme', 1.5), ('eu', 2, 'acme', 2), ('us', 1, 'globex', 3)")
    steps = [
        lambda: shop.write("UPDATE orders SET total = 9 WHERE number = 2"),
        lambda: shop.write("UPDATE orders SET region = 'uk' WHERE number = 2"),
        lambda: shop.write("DELETE FROM orders WHERE number = 1", "INSERT INTO orders VALUES ('eu', 4, 'acme', NULL)"),
    ]
    told = hold(shop.url, steps, lambda rows: rows == shop.rows())
    assert [change.op for change in told] == ["whole", "u", "u", "d", "d", "c"]
    assert (told[1].key, told[1].row["total"], told[1].before["total"]) == (("eu", 2), 9, 2)
    assert (told[2].key, told[2].before["region"]) == (("uk", 2), "eu")
    assert told[3].row is None


def test_rows_that_enter_and_leave_a_filter(shop: Shop) -> None:
    shop.write("INSERT INTO orders VALUES ('eu', 1, 'acme', 1), ('eu', 2, 'globex', 2)")
    steps = [
        lambda: shop.write("UPDATE orders SET tenant = 'acme' WHERE number = 2"),
        lambda: shop.write("UPDATE orders SET tenant = 'globex' WHERE number = 1"),
    ]
    told = plain(shop.url, steps, lambda rows: rows == shop.rows("acme"), filters={"tenant": "acme"})
    assert [(change.op, change.key) for change in told] == [("whole", None), ("c", ("eu", 2)), ("d", ("eu", 1))]


def test_changes_while_the_daemon_is_away_are_not_missed(shop: Shop) -> None:
    def away() -> None:
        shop.stop(signal.SIGKILL)
        shop.write("DELETE FROM orders WHERE number = 1", "UPDATE orders SET total = 7")
        shop.start()

    shop.write("INSERT INTO orders VALUES ('eu', 1, 'acme', 1), ('eu', 2, 'acme', 2)")
    told = plain(shop.url, [away], lambda rows: rows == shop.rows())
    assert [change.op for change in told] == ["whole", "d", "u"]


def test_another_copy_follows_when_changes_may_be_missing(shop: Shop) -> None:
    def rebuilt() -> None:
        shop.write(
            TABLE.replace("orders", "orders_new"),
            "INSERT INTO orders_new SELECT region, number, tenant, 100 FROM orders",
            "DROP TABLE orders",
            "ALTER TABLE orders_new RENAME TO orders",
        )

    shop.write("INSERT INTO orders VALUES ('eu', 1, 'acme', 1)")
    told = plain(shop.url, [rebuilt], lambda rows: rows == shop.rows())
    assert {change.op for change in told} == {"whole"}, "nobody saw half of it"


def test_a_feed_of_rows_is_refused(daemon: Daemon) -> None:
    with (
        pytest.raises(walcast.FeedError, match="no feed of changes") as refused,
        walcast.subscribe_table(daemon.url) as t,
    ):
        next(iter(t))
    assert refused.value.code == "not_a_change_feed"


def test_a_subscription_to_changes_is_told_of_a_snapshot_that_begins_again(shop: Shop) -> None:
    shop.write("INSERT INTO orders VALUES ('eu', 1, 'acme', 1)")
    resets: list[walcast.Reset] = []
    with walcast.subscribe(shop.url, since="earliest", on_reset=resets.append) as feed:
        rows = iter(feed)
        first = next(rows)
        assert (first["op"], first["key"], "seq" in first) == ("r", {"region": "eu", "number": 1}, False)
        shop.write("UPDATE orders SET total = 5")
        assert next(rows)["seq"] == feed.position.id  # type: ignore[union-attr]
    assert resets == []


def hello(**more: object) -> str:
    frame = {"type": "hello", "feed": "orders", "kind": "changes", "key": "seq", "epoch": "e", "head": 9, "earliest": 3}
    return json.dumps(frame | {"since": 0, "recovered": True, "snapshot": True} | more)


def changed(op: str, key: object, seq: int | None = None, **more: object) -> str:
    change = {"op": op, "key": {"id": key}} | ({} if seq is None else {"seq": seq}) | more
    return json.dumps({"type": "orders_change", "change": change})


def told_of(frames: list[str]) -> tuple[TableFeed, list[walcast.TableChange]]:
    table = feed(TableFeed, "ws://127.0.0.1:8010/ws/orders", None, whole({}))
    return table, [change for frame in frames if (change := table.take(frame)) is not None]


def test_a_snapshot_that_was_cut_off_leaves_what_was_whole() -> None:
    row = {"id": 1, "n": "old"}
    first = [hello(), changed("r", 1, after=row), json.dumps({"type": "live", "id": 9})]
    table, told = told_of([*first, hello(recovered=False, epoch="f"), changed("r", 2, after={"id": 2})])
    assert told == [walcast.TableChange("whole")]
    assert dict(table.rows) == {1: row}, "the new one is not whole yet"
    assert table.address().endswith("?since=0&epoch=f"), "it has no position in a snapshot"
    assert table.take(hello(epoch="f")) is None
    assert table.take(changed("r", 3, after={"id": 3})) is None
    assert table.take(json.dumps({"type": "live", "id": 9})) == walcast.TableChange("whole")
    assert dict(table.rows) == {3: {"id": 3}}


def test_a_change_that_came_before_changes_nothing() -> None:
    live = json.dumps({"type": "live", "id": 9})
    table, told = told_of([hello(), live, changed("d", 5, seq=10), changed("c", 6, seq=11, after={"id": 6})])
    assert [change.op for change in told] == ["whole", "c"], "a row that it never had is no news"
    assert table.take(changed("c", 6, seq=11, after={"id": 6})) is None


def test_what_is_no_change_is_an_error_with_words() -> None:
    with pytest.raises(walcast.FeedError, match="no change"):
        told_of([hello(), changed("u", 5, seq=10)])
