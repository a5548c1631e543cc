"""The sockets of a connection: one that its subscriptions share, and one more for each that is too slow for that."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from inspect import isawaitable

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from ._connect import OPTIONS, Failure, explain, headers
from ._feed import Feed
from ._multi import PROTOCOL, End, Ending, Said, Share, ending, heard, subscribe, unsubscribe
from ._token import Credential, checked
from .errors import FeedError

Token = str | Callable[[], str | Awaitable[str]]

#: Seconds for which others on a socket wait behind a subscription whose rows are not taken, before it has to leave it.
PATIENCE = 1.0


async def presented(credential: Credential, token: Token | None, *, known: bool) -> dict[str, str]:
    """The headers with the token there is, or with another where that is due."""
    if credential.due:
        given: object = token
        if callable(token):
            with credential.asked(known=known):
                asked = token()
                given = checked(await asked if isawaitable(asked) else asked)
        credential.take(checked(given))
    return headers(credential.token)


class Sockets:
    """The sockets there are, and the token that they present."""

    def __init__(self, url: str, token: Token | None) -> None:
        self.url = url
        self.is_closed = False
        self._token = token
        self._credential = Credential(renewable=callable(token))
        self._known = False
        self._shared: Socket | None = None
        self._opening: asyncio.Task[Socket] | None = None
        self._all: set[Socket] = set()

    async def join(self) -> Socket | None:
        """The socket that all share, `None` where they are closed. Who wants it while it is opened waits for that.

        Raises one of `Failure`.
        """
        if self._shared is not None and not self._shared.has_ended:
            return self._shared
        if self._opening is None:
            self._opening = asyncio.create_task(self.open())
            self._opening.add_done_callback(self._opened)
        opening = self._opening
        # Whoever is cancelled meanwhile takes the socket from none of the others.
        await asyncio.wait([opening])
        return None if opening.cancelled() else opening.result()

    def _opened(self, opening: asyncio.Task[Socket]) -> None:
        self._opening = None
        # Whoever still waits for it is told of a failure; where nobody does, nobody needs to be.
        if not opening.cancelled() and opening.exception() is None:
            self._shared = opening.result()

    async def open(self) -> Socket:
        """One socket more. Raises one of `Failure`."""
        try:
            presents = await presented(self._credential, self._token, known=self._known)
            token = self._credential.token
            protocols = [Subprotocol(PROTOCOL)]
            connection = await connect(self.url, subprotocols=protocols, additional_headers=presents, **OPTIONS)
        except Failure as failure:
            error = explain(failure, self.url)
            if error is not None:
                self._credential.judged(error, greeted=False)
            raise
        self._known = True
        socket = Socket(connection, self.url, lambda how: self._ended(token, how))
        self._all.add(socket)
        if self.is_closed:
            await socket.close()
        return socket

    def _ended(self, token: str | None, how: Ending) -> None:
        self._all = {socket for socket in self._all if not socket.has_ended}
        # Where several present the same one, the first that is told so speaks for all.
        if isinstance(how, FeedError) and token == self._credential.token:
            self._credential.judged(how, greeted=True)

    async def close(self) -> None:
        """Ends all there is on them."""
        self.is_closed = True
        if self._opening is not None:
            self._opening.cancel()
        await asyncio.gather(*(socket.close() for socket in self._all))


class Socket:
    """A socket, and the shares that subscriptions have of it."""

    def __init__(self, connection: ClientConnection, url: str, on_end: Callable[[Ending], None]) -> None:
        self.has_ended = False
        self._connection = connection
        self._url = url
        self._on_end = on_end
        self._names = itertools.count(1)
        self._shares: dict[str, WaitedFor] = {}
        self._how: Ending | None = None
        self._reading = asyncio.create_task(self._read())

    def share(self) -> WaitedFor:
        """A share that has yet to say of which feed it is."""
        share = WaitedFor(str(next(self._names)))
        if self._how is None:
            self._shares[share.name] = share
        else:
            share.end(self._how)
        return share

    async def subscribe(self, share: WaitedFor, feed: Feed) -> None:
        await self._say(subscribe(share.name, feed))

    async def leave(self, share: WaitedFor, how: End = End.CLOSED) -> None:
        """Ends it, where it has not ended by itself. What is under way for it is nobody's."""
        if self._shares.pop(share.name, None) is not None:
            share.end(how)
            await self._say(unsubscribe(share.name))

    async def close(self) -> None:
        """Ends it, and all there is on it."""
        self._how = End.CLOSED
        for share in self._shares.values():
            share.end(End.CLOSED)
        await self._connection.close()
        await asyncio.wait([self._reading])

    async def _say(self, text: str) -> None:
        # What ended the socket is told by who reads it.
        with contextlib.suppress(ConnectionClosed):
            await self._connection.send(text)

    async def _read(self) -> None:
        how: Ending = FeedError("connection_lost", "the connection was lost")
        try:
            async for text in self._connection:
                if (said := heard(str(text))) is not None:
                    await self._pass_on(said)
            how = ending(self._connection.protocol.close_rcvd)
        except Failure as failure:
            how = explain(failure, self._url) or End.RESTART
        finally:
            self.has_ended = True
            self._how = how = self._how or how
            self._on_end(how)
            for share in self._shares.values():
                share.end(how)
            self._shares.clear()
        await self._connection.close()

    async def _pass_on(self, said: Said) -> None:
        shares = list(self._shares.values()) if said.name is None else [self._shares.get(said.name)]
        for share in shares:
            if share is None:
                continue
            if not isinstance(said.what, str):
                del self._shares[share.name]
                share.end(said.what)
            elif await self._has_room(share):
                share.put(said.what)

    async def _has_room(self, share: WaitedFor) -> bool:
        """Waits for room; False where the share has ended. One that is alone holds up nobody, and may take its time."""
        while share.ending is None and not share.has_room:
            try:
                await asyncio.wait_for(share.room.wait(), PATIENCE)
            except asyncio.TimeoutError:
                if len(self._shares) > 1:
                    await self.leave(share, End.SLOW)
        return share.ending is None


class WaitedFor(Share):
    """A share whose taker and whose reader wait for each other."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.room = asyncio.Event()
        self._news = asyncio.Event()

    def put(self, frame: str) -> None:
        super().put(frame)
        self.room.clear()
        self._news.set()

    def end(self, how: Ending) -> None:
        self.ending = how.again() if isinstance(how, FeedError) else how
        self.room.set()
        self._news.set()

    async def frames(self) -> list[str]:
        """What came, as soon as there is anything; nothing when it has ended."""
        await self._news.wait()
        if self.ending is None:
            self._news.clear()
        self.room.set()
        return self.take()


class Conversation:
    """A subscription on the sockets of a connection, from one end of a socket to the next."""

    def __init__(self, sockets: Sockets, feed: Feed) -> None:
        self._sockets = sockets
        self._feed = feed
        self._socket: Socket | None = None
        self._share: WaitedFor | None = None
        self._is_apart = False

    async def frames(self) -> list[str]:
        """The next frames, after those before were taken in; none when it is over.

        Raises the FeedError that ended it.
        """
        while not self._sockets.is_closed:
            share = self._share or await self._begin()
            if share is None:
                break
            if frames := await share.frames():
                return frames
            await self.leave()
            if isinstance(share.ending, FeedError):
                raise share.ending
            if share.ending is not End.SLOW:
                break
            self._is_apart = True
        return []

    async def _begin(self) -> WaitedFor | None:
        try:
            self._socket = await (self._sockets.open() if self._is_apart else self._sockets.join())
        except Failure as failure:
            error = explain(failure, self._sockets.url)
            if error is None:
                return None
            raise error.again() from failure
        if self._socket is None:
            return None
        # Known before anything is awaited, so that it is left wherever the taker is cancelled.
        self._share = self._socket.share()
        await self._socket.subscribe(self._share, self._feed)
        return self._share

    async def leave(self) -> None:
        """Ends it on the side of its taker."""
        socket, self._socket = self._socket, None
        share, self._share = self._share, None
        if socket is not None and share is not None:
            await socket.leave(share)
        if socket is not None and self._is_apart:
            await socket.close()
