"""The sockets of a connection in plain code: they live in an event loop, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from ._feed import Feed
from ._shared import Conversation, Sockets, Token

Answer = TypeVar("Answer")


class Loop:
    """Runs what the sockets do. Its thread begins with the first that is asked of it."""

    def __init__(self, url: str, token: Token | None) -> None:
        self._thread = _Thread(Sockets(url, token))
        # Also where a script ends without closing: what is still waited for then would never come.
        weakref.finalize(self, self._thread.stop)

    @property
    def is_closed(self) -> bool:
        return self._thread.is_stopped

    def conversation(self, feed: Feed) -> Conversation:
        return Conversation(self._thread.sockets, feed)

    def run(self, asked: Coroutine[Any, Any, Answer]) -> Answer | None:
        """Blocks until that is done; `None` where the sockets are closed."""
        return self._thread.run(asked)

    def post(self, asked: Coroutine[Any, Any, None]) -> None:
        """Has it done, and waits for nothing: the garbage collector may call this in any thread, the loop's own too."""
        self._thread.post(asked)

    def close(self) -> None:
        self._thread.stop()
        self._thread.join()


class _Thread:
    """Knows nothing of its owner, so that it ends when that is gone."""

    def __init__(self, sockets: Sockets) -> None:
        self.sockets = sockets
        self.is_stopped = False
        # Held while something is handed over, so that nothing comes behind the last. The garbage collector may run in
        # the midst of that, and hand over something itself.
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._main, name="walcast", daemon=True)
        self._is_up = threading.Event()

    def _main(self) -> None:
        asyncio.run(self._live())

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._is_up.set()
        await self._stop.wait()
        await self.sockets.close()

    def run(self, asked: Coroutine[Any, Any, Answer]) -> Answer | None:
        with self._lock:
            if not self.is_stopped and not self._is_up.is_set():
                self._thread.start()
                self._is_up.wait()
            future = self._hand_over(asked)
        if future is None:
            return None
        try:
            return future.result()
        except CancelledError:
            return None
        finally:
            future.cancel()  # Where an interrupt ended the wait.

    def post(self, asked: Coroutine[Any, Any, None]) -> None:
        with self._lock:
            self._hand_over(asked)

    def _hand_over(self, asked: Coroutine[Any, Any, Answer]) -> Future[Answer] | None:
        if self.is_stopped or self._loop is None:
            asked.close()
            return None
        return asyncio.run_coroutine_threadsafe(asked, self._loop)

    def stop(self) -> None:
        with self._lock:
            was_stopped, self.is_stopped = self.is_stopped, True
            if not was_stopped and self._loop is not None:
                self._loop.call_soon_threadsafe(self._stop.set)

    def join(self) -> None:
        """Waits for its end, but for the thread itself."""
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()
