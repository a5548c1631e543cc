"""Subscriptions against the real daemon, in plain code and in asyncio."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import pytest

import walcast
from conftest import Daemon
from readers import Take
from walcast import aio


def names(rows: list[dict[str, Any]]) -> list[str]:
    return [row["alertname"] for row in rows]


def test_new_rows_as_stored(daemon: Daemon, taking: Take) -> None:
    daemon.insert("before")
    rows = taking(daemon.url, 1, lambda n: daemon.insert("a\u2028 é") if n == 0 else None)
    expected = {"id": 2, "ts": "2026-01-01", "alertname": "a\u2028 é", "tenant": "acme"}
    assert rows == [expected | {"action": None, "status": None, "details": None}]


def test_the_newest_rows_that_match_then_live(daemon: Daemon, taking: Take) -> None:
    for tenant in ("acme", "other", "acme", "third", "acme"):
        daemon.insert(tenant, tenant=tenant)
    rows = taking(
        daemon.url,
        3,
        lambda n: daemon.insert("new", tenant="third") if n == 0 else None,
        last=2,
        filters={"tenant": ["acme", "third"]},
    )
    assert [row["id"] for row in rows] == [4, 5, 6]


def test_filters_in_the_address_count(daemon: Daemon, taking: Take) -> None:
    for tenant in ("a", "b", "c"):
        daemon.insert(tenant, tenant=tenant)
    rows = taking(f"{daemon.url}?tenant=a&tenant=c&since=earliest", 2)
    assert names(rows) == ["a", "c"]


def test_each_row_once_over_kills_and_restarts(daemon: Daemon, taking: Take) -> None:
    def meanwhile(count: int) -> None:
        if count % 20 == 10:
            daemon.stop(signal.SIGKILL if count == 10 else signal.SIGTERM)
            daemon.insert(*(f"down {count}" for _ in range(15)))
            daemon.start()
        elif count % 20 == 5 or count == 0:
            daemon.insert(*(f"up {count}" for _ in range(5)))

    daemon.insert(*(f"n{n}" for n in range(10)))
    rows = taking(daemon.url, 45, meanwhile, since="earliest")
    assert [row["id"] for row in rows] == list(range(1, 46))


def test_a_replaced_database_is_told(daemon: Daemon, taking: Take) -> None:
    resets: list[walcast.Reset] = []

    def meanwhile(count: int) -> None:
        if count == 2:
            daemon.remove_database()
            daemon.insert("another")

    daemon.insert("one", "two")
    rows = taking(daemon.url, 3, meanwhile, since="earliest", on_reset=resets.append)
    assert names(rows) == ["one", "two", "another"]
    assert [reset.reason for reset in resets] == ["database_replaced"]


def test_rows_pruned_while_away_are_told(daemon: Daemon, taking: Take) -> None:
    daemon.insert(*(f"n{n}" for n in range(9)))
    with closing(sqlite3.connect(daemon.database)) as connection, connection:
        connection.execute("DELETE FROM remediation_events WHERE id < 6")
    resets: list[walcast.Reset] = []
    rows = taking(daemon.url, 4, since=3, on_reset=resets.append)
    assert [row["id"] for row in rows] == [6, 7, 8, 9]
    assert [reset.reason for reset in resets] == ["pruned"]


def test_ids_beyond_53_bits_stay_exact(daemon: Daemon, taking: Take) -> None:
    daemon.insert("a", "b", first=2**60)
    rows = taking(daemon.url, 1, since=2**60)
    assert [row["id"] for row in rows] == [2**60 + 1]


@pytest.mark.parametrize(
    ("address", "code"), [("/ws/nothing", "unknown_feed"), ("/ws/remediation?colour=red", "bad_request")]
)
def test_what_is_refused_from_the_start_is_raised(daemon: Daemon, taking: Take, address: str, code: str) -> None:
    url = daemon.url.replace("/ws/remediation", address)
    with pytest.raises(walcast.FeedError) as refused:
        taking(url, 1)
    assert refused.value.code == code
    assert refused.value.fatal
    assert not str(refused.value).startswith("the server answers"), "the server's own words"


def test_a_server_that_is_down_is_waited_for(daemon: Daemon, taking: Take) -> None:
    daemon.insert("kept")
    daemon.stop()
    errors: list[walcast.FeedError] = []

    def on_error(error: walcast.FeedError) -> None:
        errors.append(error)
        daemon.start()

    assert names(taking(daemon.url, 1, since="earliest", on_error=on_error)) == ["kept"]
    assert [error.code for error in errors] == ["unreachable"]


def test_a_position_goes_on_where_it_was_taken(daemon: Daemon) -> None:
    daemon.insert("a", "b", "c")
    with walcast.subscribe(daemon.url, since="earliest") as feed:
        assert next(iter(feed))["alertname"] == "a"
        position = feed.position
    assert position is not None
    with walcast.subscribe(daemon.url, since=position.id, epoch=position.epoch) as feed:
        assert next(iter(feed))["alertname"] == "b"


def test_closing_from_another_thread_ends_the_loop(daemon: Daemon) -> None:
    feed = walcast.subscribe(daemon.url, on_status=lambda status: closer.start() if status.state == "live" else None)
    closer = threading.Thread(target=lambda: feed.close())
    assert list(feed) == []
    closer.join()
    assert feed.status.state == "closed"


def test_a_cancelled_task_lets_go(daemon: Daemon) -> None:
    async def run() -> str:
        live = asyncio.Event()
        feed = aio.subscribe(daemon.url, on_status=lambda status: live.set() if status.state == "live" else None)

        async def consume(rows: AsyncIterator[dict[str, Any]]) -> None:
            async for _ in rows:
                pass

        task = asyncio.create_task(consume(aiter(feed)))
        await live.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await feed.close()
        return feed.status.state

    assert asyncio.run(run()) == "closed"


def test_a_script_that_ends_in_the_loop_ends(daemon: Daemon) -> None:
    daemon.insert("one")
    script = f"import sys, walcast\nfor row in walcast.subscribe({daemon.url!r}, last=1):\n    sys.exit(3)"
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 3


def test_an_interrupted_script_ends(daemon: Daemon) -> None:
    # Where the tests run in a shell's background, SIGINT is ignored, and children inherit that.
    heard = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    loop = f"for row in walcast.subscribe({daemon.url!r}, last=1):\n    print(row['id'], flush=True)"
    script = f"{heard}import walcast\n{loop}"
    daemon.insert("one")
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        process.send_signal(signal.SIGINT)
        try:
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert said.rstrip().endswith(b"KeyboardInterrupt")
