"""Which token a subscription presents, and when it asks for another. Knows no socket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .errors import FeedError


@dataclass
class Credential:
    """The token there is. Its owner asks for one where it is `due`, and tells what the server says of it."""

    #: Whether a function gives the tokens, so that another can be had.
    renewable: bool
    due: bool = True
    token: str | None = field(default=None, repr=False)
    #: Whether the server refused the token, rather than ended a connection that it had let in.
    _refused: bool = False

    def take(self, token: str | None) -> None:
        """Presents this one from now on. Raises a fatal FeedError where it is the one that was just refused."""
        if self._refused and token == self.token:
            more = "gave the same one again" if self.renewable else "may be a function that gives a fresh one"
            raise FeedError("token_expired", f"the token has expired; `token` {more}", fatal=True)
        self.token, self.due, self._refused = token, False, False

    def judged(self, error: FeedError, *, greeted: bool) -> None:
        """Hears why a connection ended or never came about; `greeted` says whether the server had let it in.

        Where a token expires that was let in, it may stand for something else now: then the same one is good.
        """
        if error.code == "token_expired" and not error.fatal:
            self.due, self._refused = True, not greeted

    @contextmanager
    def asked(self, *, known: bool) -> Iterator[None]:
        """Around the function that gives a token: its failure from the start is final, later it is waited out."""
        try:
            yield
        except Exception as cause:
            words = f"no token could be had: {cause or type(cause).__name__}"
            raise FeedError("token_unavailable", words, fatal=not known) from cause


def checked(token: object) -> str | None:
    """The token, if a header can carry it. What it is stays out of the error, which may end up in a log."""
    if token is None:
        return None
    if not isinstance(token, str):
        raise TypeError(f"token: {type(token).__name__} is neither a string nor a function that gives one")
    if not token:
        raise ValueError("token: it is empty; leave it out, or give one that `walcast token add` made")
    if not all("!" <= letter <= "~" for letter in token):
        raise ValueError("token: a header can't carry a blank or a line's end; `.strip()` what was read from a file")
    return token
