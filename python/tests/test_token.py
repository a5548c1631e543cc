"""Tokens against a daemon that asks for them: presented, renewed without a lost row, and ended."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

import walcast
from conftest import Guarded
from readers import Take

SHORT = ("--expires", "3s")


class Given:
    """A function for `token` that gives these in turn, and raises those that are exceptions."""

    def __init__(self, *tokens: str | Exception) -> None:
        self._tokens: Iterator[str | Exception] = iter(tokens)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        token = next(self._tokens)
        if isinstance(token, Exception):
            raise token
        return token


def ids(rows: list[dict[str, Any]]) -> list[int]:
    return [row["id"] for row in rows]


def ended(taking: Take, guarded: Guarded, *arguments: Any, **options: Any) -> walcast.FeedError:
    """The error that ends a subscription which never gets the rows it waits for."""
    with pytest.raises(walcast.FeedError) as raised:
        taking(guarded.url, 99, *arguments, **options)
    assert raised.value.fatal
    assert "wct_" not in str(raised.value), "a token is a secret"
    return raised.value


def test_a_token_lets_in_and_nothing_else_does(guarded: Guarded, taking: Take) -> None:
    token = guarded.token("reader")
    guarded.start()
    guarded.insert("a")
    assert ids(taking(guarded.url, 1, since="earliest", token=token)) == [1]
    assert ids(taking(guarded.url, 1, since="earliest", token=lambda: token)) == [1]
    for wrong in (None, "wct_aaaaaaaa_" + "b" * 43):
        error = ended(taking, guarded, token=wrong)
        assert error.code == "credentials_refused"
        assert not str(error).startswith("the server answers"), "the server's own words"


def test_one_that_expires_is_followed_by_a_fresh_one_without_a_lost_row(guarded: Guarded, taking: Take) -> None:
    short, long = guarded.token("short", *SHORT), guarded.token("long")
    guarded.start()
    guarded.insert("a")
    given = Given(short, long)
    errors: list[walcast.FeedError] = []

    def token() -> str:
        fresh = given()
        if fresh == long:
            guarded.insert("b", "c")  # Nobody listens.
        return fresh

    rows = taking(guarded.url, 3, since="earliest", token=token, on_error=errors.append)
    assert ids(rows) == [1, 2, 3]
    assert (given.calls, errors) == (2, [])


def test_the_same_one_again_is_the_end(guarded: Guarded, taking: Take) -> None:
    short = guarded.token("short", *SHORT)
    guarded.start()
    error = ended(taking, guarded, token=Given(short, short, short))
    assert error.code == "token_expired"
    assert "the same one again" in str(error)


def test_a_string_that_expires_is_the_end(guarded: Guarded, taking: Take) -> None:
    short = guarded.token("short", *SHORT)
    guarded.start()
    for _ in ("while it is live", "from the start"):
        error = ended(taking, guarded, token=short)
        assert error.code == "token_expired"
        assert "a function" in str(error)


@pytest.mark.parametrize("function", [False, True], ids=["string", "function"])
def test_a_grant_that_is_changed_goes_on_with_the_same_one(guarded: Guarded, taking: Take, function: bool) -> None:
    token = guarded.token("reader")
    guarded.start()

    def meanwhile(count: int) -> None:
        if count == 0:
            guarded.insert("a", tenant="acme")
        elif count == 1:
            guarded.command("set", "reader", "--feed", "remediation", "--where", "tenant=acme")
        elif count == 2:
            guarded.insert("c", tenant="other")
            guarded.insert("d", tenant="acme")

    def on_status(status: walcast.Status) -> None:
        if status.state == "reconnecting":
            guarded.insert("b", tenant="acme")

    rows = taking(guarded.url, 3, meanwhile, token=(lambda: token) if function else token, heard=on_status)
    assert ids(rows) == [1, 2, 4]


def test_one_that_is_revoked_is_the_end(guarded: Guarded, taking: Take) -> None:
    token = guarded.token("reader")
    guarded.start()
    error = ended(taking, guarded, lambda _: guarded.command("revoke", "reader"), token=Given(token))
    assert error.code == "credentials_refused"
    assert "4501" in str(error)


def test_one_that_is_revoked_while_the_server_is_away_is_the_end(guarded: Guarded, taking: Take) -> None:
    token = guarded.token("reader")
    guarded.start()

    def meanwhile(_: int) -> None:
        guarded.stop(signal.SIGKILL)
        guarded.command("revoke", "reader")
        guarded.start()

    given = Given(token)
    assert ended(taking, guarded, meanwhile, token=given).code == "credentials_refused"
    assert given.calls == 1


def test_a_feed_that_is_taken_away_is_the_end(guarded: Guarded, taking: Take) -> None:
    token = guarded.token("reader")
    guarded.start()
    error = ended(taking, guarded, lambda _: guarded.command("set", "reader", "--metrics"), token=token)
    assert error.code == "feed_gone"
    assert "4504" in str(error)


def test_a_restart_asks_for_no_other(guarded: Guarded, taking: Take) -> None:
    given = Given(guarded.token("reader"))
    guarded.start()

    def meanwhile(count: int) -> None:
        guarded.stop(signal.SIGKILL)
        guarded.insert(str(count))
        guarded.start()

    assert ids(taking(guarded.url, 2, meanwhile, token=given)) == [1, 2]
    assert given.calls == 1


def test_a_function_that_fails_is_raised_from_the_start_and_waited_for_later(guarded: Guarded, taking: Take) -> None:
    short, long = guarded.token("short", *SHORT), guarded.token("long")
    guarded.start()
    error = ended(taking, guarded, token=Given(OSError("the office is closed")))
    assert error.code == "token_unavailable"
    assert isinstance(error.__cause__, OSError)

    guarded.insert("a")
    errors: list[walcast.FeedError] = []
    given = Given(short, RuntimeError("the office is closed"), long)

    def on_error(error: walcast.FeedError) -> None:
        errors.append(error)
        guarded.insert("b")

    assert ids(taking(guarded.url, 2, since="earliest", token=given, on_error=on_error)) == [1, 2]
    assert [(error.code, str(error)) for error in errors] == [
        ("token_unavailable", "no token could be had: the office is closed")
    ]
