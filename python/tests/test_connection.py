"""Several feeds over one socket, against the real daemon, in plain code and in asyncio."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import walcast
from conftest import Daemon, Guarded, binary
from test_token import SHORT, Given
from walcast import _shared, aio
from walcast._multi import End, Said, heard

PATIENCE = 60
FEEDS = """database = "walcast.db"
max_subscriptions = {most}
[feeds.orders]
table = "orders"
[feeds.payments]
table = "payments"
[feeds.stock]
table = "stock"
capture = "keys"
"""
Options = dict[str, Any]
#: What to take: name -> feed, number of rows and arguments.
Wanted = dict[str, tuple[str, int, Options]]
Meanwhile = Callable[[str, int], None]
Rows = dict[str, list[dict[str, Any]]]


class Store(Daemon):
    """A daemon with three feeds, one of them of changes."""

    def __init__(self, directory: Path, most: int = 64) -> None:
        super().__init__(directory)
        for table in ("orders", "payments"):
            self.write(f"CREATE TABLE {table}(id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT)")
        self.write("CREATE TABLE stock(item TEXT PRIMARY KEY, pieces INTEGER)")
        subprocess.run([binary(), "capture", "install", "--db", str(self.database), "stock"], check=True)
        configuration = directory / "walcast.toml"
        configuration.write_text(FEEDS.format(most=most))
        self.options = ["--config", str(configuration)]

    @property
    def address(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def write(self, statement: str, values: list[tuple[Any, ...]] | None = None) -> None:
        with closing(sqlite3.connect(self.database, timeout=10)) as connection, connection:
            connection.executemany(statement, [()] if values is None else values)

    def add(self, table: str, *what: str) -> None:
        self.write(f"INSERT INTO {table}(what) VALUES (?)", [(each,) for each in what])

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=PATIENCE) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    def sockets(self) -> float:
        return self.metric("walcast_ws_connections_active")


def plain(address: str, wanted: Wanted, meanwhile: Meanwhile, token: Any = None) -> Rows:
    """Takes each in a thread of its own; raises what one of them raised."""
    failures: list[BaseException] = []
    rows: Rows = {name: [] for name in wanted}

    def take(connection: walcast.Connection, name: str) -> None:
        feed, count, options = wanted[name]
        try:
            for row in connection.subscribe(feed, **options):
                rows[name].append(row)
                meanwhile(name, len(rows[name]))
                if len(rows[name]) == count:
                    return
        except BaseException as failure:
            failures.append(failure)

    with walcast.connect(address, token=token) as connection:
        threads = [threading.Thread(target=take, args=(connection, name)) for name in wanted]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    return rows


def in_asyncio(address: str, wanted: Wanted, meanwhile: Meanwhile, token: Any = None) -> Rows:
    rows: Rows = {name: [] for name in wanted}

    async def take(connection: aio.Connection, name: str) -> None:
        feed, count, options = wanted[name]
        async with connection.subscribe(feed, **options) as subscription:
            async for row in subscription:
                rows[name].append(row)
                await asyncio.to_thread(meanwhile, name, len(rows[name]))
                if len(rows[name]) == count:
                    return

    async def run() -> None:
        async with aio.connect(address, token=token) as connection:
            taken = [take(connection, name) for name in wanted]
            failures = [one for one in await asyncio.gather(*taken, return_exceptions=True) if one is not None]
        if failures:
            raise failures[0]

    asyncio.run(run())
    return rows


Taking = Callable[..., Rows]


@pytest.fixture(params=[plain, in_asyncio], ids=["plain", "asyncio"])
def sharing(request: pytest.FixtureRequest) -> Taking:
    return request.param


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    store.start()
    yield store
    store.stop(signal.SIGKILL)


def what(rows: list[dict[str, Any]]) -> list[str]:
    return [row["what"] for row in rows]


def nothing(_: str, __: int) -> None:
    """What happens meanwhile."""


def test_subscriptions_share_one_socket(store: Store, sharing: Taking) -> None:
    store.add("orders", "a", "b", "a")
    store.add("payments", "p")
    seen: list[float] = []

    def meanwhile(name: str, count: int) -> None:
        if (name, count) == ("all", 3):
            seen.append(store.sockets())
            store.add("payments", "q")
            store.add("orders", "c", "a")

    wanted: Wanted = {
        "all": ("orders", 5, {"since": "earliest"}),
        "some": ("orders", 3, {"since": "earliest", "filters": {"what": ["a", "x"]}}),
        "last": ("payments", 2, {"last": 1}),
    }
    rows = sharing(store.address, wanted, meanwhile)
    assert {name: what(each) for name, each in rows.items()} == {
        "all": ["a", "b", "a", "c", "a"],
        "some": ["a", "a", "a"],
        "last": ["p", "q"],
    }
    assert seen == [1]


def test_each_goes_on_from_its_own_position_over_a_kill_and_a_restart(store: Store, sharing: Taking) -> None:
    store.add("orders", *(f"o{n}" for n in range(5)))
    store.add("payments", *(f"p{n}" for n in range(3)))
    down = threading.Lock()

    def meanwhile(name: str, count: int) -> None:
        if (name, count) in (("orders", 5), ("orders", 10)):
            with down:
                store.stop(signal.SIGKILL if count == 5 else signal.SIGTERM)
                store.add("orders", *(f"o{count + n}" for n in range(5)))
                store.add("payments", f"p{count}")
                store.start()

    wanted: Wanted = {
        "orders": ("orders", 15, {"since": "earliest"}),
        "payments": ("payments", 5, {"since": "earliest"}),
    }
    rows = sharing(store.address, wanted, meanwhile)
    assert what(rows["orders"]) == [f"o{n}" for n in range(15)]
    assert what(rows["payments"]) == ["p0", "p1", "p2", "p5", "p10"]


@pytest.mark.parametrize(
    ("feed", "options", "code", "words"),
    [
        ("nothing", {}, "unknown_feed", "nothing"),
        ("orders", {"filters": {"colour": "red"}}, "bad_request", "colour"),
    ],
)
def test_what_is_refused_ends_that_one_alone(
    store: Store, sharing: Taking, feed: str, options: Options, code: str, words: str
) -> None:
    store.add("orders", "a")
    with pytest.raises(walcast.FeedError, match=words) as refused:
        sharing(store.address, {"good": ("orders", 1, {"last": 1}), "bad": (feed, 1, options)}, nothing)
    assert (refused.value.code, refused.value.fatal) == (code, True)


def test_more_than_a_socket_may_have_are_refused(tmp_path: Path, sharing: Taking) -> None:
    store = Store(tmp_path, most=1)
    store.start()
    store.add("orders", "a")
    wanted: Wanted = {name: ("orders", 9, {"last": 1}) for name in "ab"}

    def meanwhile(_: str, __: int) -> None:
        # The other one waits until this is refused.
        store.add("orders", *"12345678")

    with pytest.raises(walcast.FeedError, match="max_subscriptions") as refused:
        sharing(store.address, wanted, meanwhile)
    assert refused.value.code == "too_many_subscriptions"
    store.stop(signal.SIGKILL)


def test_a_daemon_that_is_down_is_waited_for(store: Store, sharing: Taking) -> None:
    store.add("orders", "kept")
    store.stop()
    errors: list[str] = []
    lock = threading.Lock()

    def on_error(error: walcast.FeedError) -> None:
        with lock:
            errors.append(error.code)
            if len(errors) == 1:
                store.start()

    rows = sharing(store.address, {"a": ("orders", 1, {"since": "earliest", "on_error": on_error})}, nothing)
    assert what(rows["a"]) == ["kept"]
    assert errors == ["unreachable"]


LARGE = [f"{n:06}" for n in range(6_000)]


def test_who_takes_nothing_holds_up_nobody_and_loses_nothing(store: Store) -> None:
    store.add("orders", *LARGE)

    async def run() -> tuple[list[str], list[str], float]:
        async with aio.connect(store.address) as connection:
            slow = aiter(connection.subscribe("orders", since="earliest"))
            taken = [await anext(slow)]
            quick = aiter(connection.subscribe("payments", since="earliest"))
            for n in range(3):
                store.add("payments", str(n))
            others = [(await anext(quick))["what"] for _ in range(3)]
            while len(taken) < len(LARGE):
                taken.append(await anext(slow))
            return what(taken), others, store.sockets()

    taken, others, sockets = asyncio.run(asyncio.wait_for(run(), PATIENCE))
    assert others == ["0", "1", "2"]
    assert taken == LARGE
    assert sockets == 2, "who was too slow goes on by itself"


def test_a_copy_that_is_taken_slowly_gets_whole(store: Store) -> None:
    store.write("INSERT INTO stock VALUES (?, 1)", [(each,) for each in LARGE])

    async def run() -> int:
        async with aio.connect(store.address) as connection:
            rows = aiter(connection.subscribe("stock", since="earliest"))
            await anext(rows)
            other = aiter(connection.subscribe("orders", since="earliest"))
            store.add("orders", "a")
            await anext(other)
            table = connection.subscribe_table("stock")
            async for change in table:
                if change.op == "whole":
                    break
            return len(table.rows)

    assert asyncio.run(asyncio.wait_for(run(), PATIENCE)) == len(LARGE)


def test_a_slow_one_that_is_alone_is_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shared, "PATIENCE", 0.02)
    store.add("orders", *LARGE)
    with walcast.connect(store.address) as connection:
        rows = iter(connection.subscribe("orders", since="earliest"))
        taken = [next(rows)]
        # All is under way, far more than may wait to be taken.
        end = time.monotonic() + PATIENCE
        while store.metric("walcast_messages_sent_total") < len(LARGE):
            assert time.monotonic() < end
            time.sleep(0.02)
        taken += [next(rows) for _ in LARGE[1:]]
        assert what(taken) == LARGE
        assert store.sockets() == 1


def test_a_table_is_kept_beside_others(store: Store) -> None:
    store.write("INSERT INTO stock VALUES ('tea', 3)")
    with walcast.connect(store.address) as connection:
        table = connection.subscribe_table("stock")
        changes = iter(table)
        assert next(changes).op == "whole"
        store.write("UPDATE stock SET pieces = 2 WHERE item = 'tea'")
        assert next(changes).row == {"item": "tea", "pieces": 2}
        assert dict(table.rows) == {"tea": {"item": "tea", "pieces": 2}}


def test_closing_the_connection_ends_every_loop(store: Store) -> None:
    connection = walcast.connect(store.address)
    live = threading.Semaphore(0)
    feeds = [
        connection.subscribe(name, on_status=lambda status: live.release() if status.state == "live" else None)
        for name in ("orders", "payments")
    ]
    threads = [threading.Thread(target=lambda feed=feed: list(feed), daemon=True) for feed in feeds]
    for thread in threads:
        thread.start()
    for _ in feeds:
        assert live.acquire(timeout=PATIENCE)
    connection.close()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert [feed.status.state for feed in feeds] == ["closed", "closed"]
    assert list(connection.subscribe("orders", since="earliest")) == []


def test_closing_one_leaves_the_others(store: Store) -> None:
    with walcast.connect(store.address) as connection:
        rows = iter(connection.subscribe("payments", since="earliest"))
        feed = connection.subscribe(
            "orders", on_status=lambda status: closer.start() if status.state == "live" else None
        )
        closer = threading.Thread(target=lambda: feed.close())
        assert list(feed) == []
        closer.join()
        store.add("payments", "p")
        assert next(rows)["what"] == "p"
        assert store.metric("walcast_feed_subscribers") == 1


def test_closing_the_connection_ends_every_loop_in_asyncio(store: Store) -> None:
    async def run() -> list[str]:
        connection = aio.connect(store.address)
        live = asyncio.Semaphore(0)
        feeds = [
            connection.subscribe(name, on_status=lambda status: live.release() if status.state == "live" else None)
            for name in ("orders", "payments")
        ]

        async def take(feed: aio.Subscription[dict[str, Any]]) -> None:
            async for _ in feed:
                pass

        tasks = [asyncio.create_task(take(feed)) for feed in feeds]
        for _ in feeds:
            await live.acquire()
        await connection.close()
        await asyncio.gather(*tasks)
        return [feed.status.state for feed in feeds]

    assert asyncio.run(asyncio.wait_for(run(), PATIENCE)) == ["closed", "closed"]


def test_a_cancelled_task_takes_the_socket_from_none_of_the_others(store: Store) -> None:
    async def run() -> str:
        async with aio.connect(store.address) as connection:
            async with connection.subscribe("orders") as first:
                opening = asyncio.create_task(anext(aiter(first)))
                await asyncio.sleep(0)  # It asks for the socket.
                second = asyncio.create_task(anext(aiter(connection.subscribe("payments", since="earliest"))))
                await asyncio.sleep(0)
                opening.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await opening
            store.add("payments", "p")
            return str((await second)["what"])

    assert asyncio.run(asyncio.wait_for(run(), PATIENCE)) == "p"


def test_a_token_that_expires_is_asked_for_once_for_all(guarded: Guarded, sharing: Taking) -> None:
    short, long = guarded.token("short", *SHORT), guarded.token("long")
    guarded.start()
    guarded.insert("a")
    given = Given(short, long)

    def token() -> str:
        fresh = given()
        if fresh == long:
            guarded.insert("b", "c")  # Nobody listens.
        return fresh

    address = guarded.url.removesuffix("/ws/remediation")
    wanted: Wanted = {name: ("remediation", 3, {"since": "earliest"}) for name in "xyz"}
    rows = sharing(address, wanted, nothing, token=token)
    assert {name: [row["id"] for row in each] for name, each in rows.items()} == {name: [1, 2, 3] for name in "xyz"}
    assert given.calls == 2


def test_a_string_that_expires_and_a_token_that_is_none_are_the_end(guarded: Guarded, sharing: Taking) -> None:
    short = guarded.token("short", *SHORT)
    guarded.start()
    address = guarded.url.removesuffix("/ws/remediation")
    wanted: Wanted = {name: ("remediation", 1, {}) for name in "xy"}
    for token, code in ((short, "token_expired"), (None, "credentials_refused")):
        with pytest.raises(walcast.FeedError) as ended:
            sharing(address, wanted, nothing, token=token)
        assert (ended.value.code, ended.value.fatal) == (code, True)


def test_a_script_that_ends_in_the_loop_ends(store: Store) -> None:
    store.add("orders", "one")
    rows = f"walcast.connect({store.address!r}).subscribe('orders', last=1)"
    script = f"import sys, walcast\nfor row in {rows}:\n    sys.exit(3)"
    assert subprocess.run([sys.executable, "-c", script], timeout=PATIENCE).returncode == 3


def test_an_interrupted_script_ends(store: Store) -> None:
    heard = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    rows = f"walcast.connect({store.address!r}).subscribe('orders', last=1)"
    script = f"{heard}import walcast\nfor row in {rows}:\n    print(row['id'], flush=True)"
    store.add("orders", "one")
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        process.send_signal(signal.SIGINT)
        try:
            _, said = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert said.rstrip().endswith(b"KeyboardInterrupt")


def test_a_subscription_that_is_garbage_is_let_go_of_in_any_thread(store: Store) -> None:
    store.add("orders", "a")
    store.add("payments", "p")

    async def collect() -> None:
        gc.collect()

    def run() -> None:
        with walcast.connect(store.address) as connection:
            rows = iter(connection.subscribe("orders", since="earliest"))
            taken.append(next(rows)["what"])
            circle: list[Any] = [rows]
            circle.append(circle)
            del rows, circle
            connection._loop.post(collect())  # Where the sockets live.
            taken.append(next(iter(connection.subscribe("payments", since="earliest")))["what"])

    taken: list[str] = []
    thread = threading.Thread(target=run, daemon=True)
    gc.disable()
    try:
        thread.start()
        thread.join(PATIENCE)
    finally:
        gc.enable()
    assert taken == ["a", "p"]


def test_what_a_server_says_is_told_apart() -> None:
    goodbye = '{"type":"goodbye","reconnect_after_ms":5}'
    assert heard('{"id":"7","message":{"type":"live","id":1}}') == Said("7", '{"type":"live","id":1}')
    assert heard('{"type":"closed","id":"7","code":1012,"reason":""}') == Said("7", End.RESTART)
    assert heard(goodbye) == Said(None, goodbye)
    assert heard('{"type":"weather"}') is None
    refused = {"status": 503, "retry_after_ms": 3000, "error": {"code": "busy", "message": "later"}}
    said = heard(json.dumps({"type": "error", "id": "7", **refused}))
    assert said is not None
    assert isinstance(said.what, walcast.FeedError)
    assert (said.what.code, said.what.retry_after, str(said.what)) == ("at_capacity", 3, "later")


@pytest.mark.parametrize("text", ["{", "[]", '{"type":"closed","id":"7"}', '{"id":"7"}'])
def test_what_is_no_message_is_an_error_with_words(text: str) -> None:
    with pytest.raises(walcast.FeedError, match="no frame"):
        heard(text)
