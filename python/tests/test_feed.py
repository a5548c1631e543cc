"""What a caller can get wrong, and what each frame means."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

import walcast
from walcast._arguments import feed
from walcast._feed import Feed
from walcast.errors import FeedError

URL = "ws://127.0.0.1:8010/ws/remediation"


def started(**options: object) -> Feed:
    return feed(Feed, URL, None, options)  # type: ignore[arg-type]


def hello(**changes: object) -> str:
    frame = {"type": "hello", "feed": "remediation", "key": "id", "epoch": "e", "head": 9, "earliest": 1, "since": 9}
    return json.dumps(frame | {"recovered": True} | changes)


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("ftp://x/ws/a", {}, "url"),
        ("ws://127.0.0.1:8010", {}, "names no feed"),
        (URL, {"since": "yesterday"}, "since: 'yesterday'"),
        (URL, {"since": 4, "last": 5}, "since and last"),
        (URL, {"last": 0}, "last: 0"),
        (URL, {"last": 10_001}, "last: 10001"),
        (URL, {"filters": {"limit": 3}}, "reserved"),
        (URL, {"filters": {"tenant": []}}, "'tenant' has no value"),
        (URL, {"token": ""}, "token: it is empty"),
        (URL, {"token": "wct_a\n"}, r"token: .*strip\(\)"),
    ],
)
def test_wrong_arguments_are_named(url: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        walcast.subscribe(url, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("subscribe", [walcast.subscribe, walcast.subscribe_table, walcast.aio.subscribe])
def test_an_argument_that_there_is_not_is_named(subscribe: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match=r"sinse: there is no such argument; there are .*filters"):
        subscribe(URL, sinse=3)


def test_arguments_go_before_what_the_address_says() -> None:
    state = feed(Feed, f"{URL}?since=3&tenant=a", None, {"since": 4, "filters": {"status": "b"}})
    assert state.address() == f"{URL}?tenant=a&status=b&since=4"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://x", "url: 'ftp://x'"),
        ("ws://127.0.0.1:8010/ws/orders", r"url: .* name that in subscribe\(\)"),
        ("ws://127.0.0.1:8010?tenant=a", r"url: .* name that in subscribe\(\)"),
    ],
)
def test_a_connection_is_to_a_daemon(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        walcast.connect(url)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("", {}, "feed: ''"),
        ("/ws/orders", {}, "feed: '/ws/orders' is no feed's name"),
        ("orders", {"last": 0}, "last: 0"),
        ("orders", {"filters": {"tenant": ["x" * 40] * 100}}, "filters: .* than a shared socket takes"),
    ],
)
def test_what_is_wrong_with_a_feed_of_a_connection_is_named(name: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        walcast.connect("ws://127.0.0.1:8010").subscribe(name, **options)  # type: ignore[arg-type]


def test_a_row_that_came_before_is_not_given_twice() -> None:
    state = started()
    assert state.receive(hello()) is None
    row = json.dumps({"type": "x_event", "event": {"id": 10}})
    assert state.receive(row) == {"id": 10}
    assert state.receive(row) is None
    assert state.address().endswith("?since=10&epoch=e")


def test_negative_ids_are_rows_like_others_after_a_reset() -> None:
    state = started()
    state.receive(hello())
    state.receive(json.dumps({"type": "reset", "epoch": "f", "reason": "database_replaced", "head": 3, "earliest": -2}))
    assert state.receive(json.dumps({"type": "x_event", "event": {"id": -2}})) == {"id": -2}


def test_waiting_is_told_and_a_frame_of_a_later_server_passes() -> None:
    told: list[walcast.Status] = []
    state = started(on_status=told.append)
    state.receive(json.dumps({"type": "waiting", "reason": "no_table", "message": "there is no table yet"}))
    assert told == [walcast.Status("waiting", "there is no table yet")]
    assert state.receive(json.dumps({"type": "weather", "mood": "fine"})) is None


@pytest.mark.parametrize(
    "text", ["{", "[]", "3", '{"type":"hello"}', '{"type":"live","id":"x"}', '{"type":"e","event":{}}']
)
def test_what_is_no_frame_is_an_error_with_words(text: str) -> None:
    with pytest.raises(FeedError, match="no frame") as malformed:
        started().receive(text)
    assert malformed.value.code == "malformed_frame"


def test_a_goodbye_says_when_to_come_back() -> None:
    state = started()
    state.receive(hello())
    state.receive(json.dumps({"type": "goodbye", "reconnect_after_ms": 1234}))
    assert state.wait_after(None) == pytest.approx(1.234)
    assert state.wait_after(None) <= 1, "the next failure is one of its own"
