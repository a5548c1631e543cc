"""What can go wrong with a subscription, and the words for it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from websockets.exceptions import InvalidStatus
from websockets.frames import Close

# Ordinary ends that need no words: the server restarts, drains or goes.
RESTARTS = (1001, 1012)
# Codes of this range are final by the protocol.
FINAL = range(4500, 5000)

_CLOSED = {
    1008: "for breaking its policy",
    1009: "because a message was too big",
    1013: "because it is at capacity",
    4008: "because this client took too long to read",
    4009: "because this client no longer answered",
}
_REFUSED = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "unknown_feed",
    421: "host_not_allowed",
    429: "at_capacity",
    503: "at_capacity",
}
_FINAL = {
    4501: ("credentials_refused", "the token was revoked, or is not good here: subscribe again with another"),
    4504: ("feed_gone", "the feed is gone from this server, or the token may not read it any more"),
}
# What walcast says of a token with 401, where no other attempt with it can do better.
_USELESS = ("token_missing", "token_invalid", "claim_missing")


_OF_CALLER = ("bad_request", "unauthorized", "forbidden", "unknown_feed", "host_not_allowed", "too_many_subscriptions")


class FeedError(Exception):
    """Something that went wrong. Unless `fatal`, the subscription goes on by itself.

    `code` is for programs to branch on: `unreachable`, `connection_lost`, `at_capacity`, `closed_by_server`,
    `bad_request`, `unauthorized`, `forbidden`, `unknown_feed`, `host_not_allowed`, `server_error`,
    `token_unavailable`, `token_expired`, `credentials_refused`, `feed_gone`, `malformed_frame`, `row_truncated`,
    `not_a_change_feed`, `too_many_subscriptions`.
    """

    def __init__(self, code: str, message: str, *, fatal: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.fatal = fatal
        #: Seconds for which the server asked to be left alone.
        self.retry_after = retry_after

    def again(self) -> FeedError:
        """Another one like it, for another subscription, which decides for itself whether it is fatal."""
        return FeedError(self.code, str(self), fatal=self.fatal, retry_after=self.retry_after)


def closed(close: Close | None) -> FeedError | None:
    """The words for a close frame, `None` where it is an ordinary restart."""
    if close is None:
        return FeedError("connection_lost", "the connection was lost")
    said = f": {close.reason}" if close.reason else ""
    if close.code in RESTARTS:
        return None
    if close.code == 4401:
        return FeedError("token_expired", f"the token has expired, or stands for something else now{said}")
    if close.code in FINAL:
        code, words = _FINAL.get(close.code, ("closed_by_server", "the server ended the subscription for good"))
        return FeedError(code, f"{words} (code {close.code}){said}", fatal=True)
    if close.code == 1013:
        return FeedError("at_capacity", f"the server is at capacity{said}")
    why = _CLOSED.get(close.code, "unexpectedly")
    return FeedError("closed_by_server", f"the server closed the connection {why} (code {close.code}){said}")


def refused(failure: InvalidStatus) -> FeedError:
    """The words for an answer that is no upgrade."""
    response = failure.response
    message, said = f"the server answers {response.status_code}", None
    # Where it is not walcast's own answer, a proxy's perhaps, the number has to do.
    with contextlib.suppress(ValueError, LookupError, TypeError):
        error = json.loads(response.body or b"")["error"]
        message, said = str(error["message"]), error["code"]
    try:
        retry_after = float(response.headers.get("Retry-After", ""))
    except ValueError:
        retry_after = None
    return _answered(response.status_code, said, message, retry_after)


def not_subscribed(frame: Mapping[str, Any]) -> FeedError:
    """The words for an answer, on a socket that several feeds share, that there is no such subscription."""
    error, retry_after_ms = frame["error"], frame.get("retry_after_ms")
    retry_after = None if retry_after_ms is None else retry_after_ms / 1000
    return _answered(int(frame["status"]), error["code"], str(error["message"]), retry_after)


def _answered(status: int, said: object, message: str, retry_after: float | None) -> FeedError:
    if said in ("token_expired", "too_many_subscriptions"):
        return FeedError(str(said), message)
    if said in _USELESS:
        return FeedError("credentials_refused", message, fatal=True)
    return FeedError(_REFUSED.get(status, "server_error"), message, retry_after=retry_after)


def is_of_caller(error: FeedError) -> bool:
    """Whether waiting will not mend it: an address, a filter or a credential is wrong."""
    return error.code in _OF_CALLER
