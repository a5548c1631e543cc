"""A daemon whose feeds share a connection, as the caller names it and them: for plain code and for asyncio alike."""

from __future__ import annotations

from ._arguments import Arguments, TableArguments, daemon_address, named_feed
from ._feed import Feed
from ._table import TableFeed, whole
from ._token import checked


class Daemon:
    """Checks all that a caller can get wrong of a daemon and of its feeds."""

    def __init__(self, url: str, token: object) -> None:
        #: That of the socket which the feeds share.
        self.address = daemon_address(url)
        self._renewable = callable(token)
        if not self._renewable:
            checked(token)

    def feed(self, name: str, arguments: Arguments) -> Feed:
        """What is known of a subscription to the rows of the feed of this name."""
        return named_feed(Feed, name, self._renewable, arguments)

    def table(self, name: str, arguments: TableArguments) -> TableFeed:
        """What is known of a copy of the captured table behind the feed of this name."""
        return named_feed(TableFeed, name, self._renewable, whole(arguments))
