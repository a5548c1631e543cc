"""What is said on a socket that several subscriptions share, and what waits there to be taken. Knows no socket."""

from __future__ import annotations

import json
import re
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

from websockets.frames import Close

from ._feed import Feed, malformed
from .errors import FeedError, closed, not_subscribed

PROTOCOL = "walcast.multi.v1"

#: What waits for a subscription's taker at most: frames, and characters in them, or one frame that is larger.
FRAMES_MAX = 1_024
LETTERS_MAX = 4 * 1024 * 1024

# How a frame of a subscription begins. The rest, but for the last brace, is the frame as on a socket of its own.
_ENVELOPE = re.compile(r'\{"id":"(\d+)","message":')


class End(Enum):
    """Why nothing more comes of a share of a socket, where that is no error."""

    #: The server restarts or drains.
    RESTART = "restart"
    #: Its rows were not taken, and others waited behind them.
    SLOW = "slow"
    #: The caller closed the connection.
    CLOSED = "closed"


Ending: TypeAlias = FeedError | End


@dataclass
class Share:
    """One subscription's share of a socket: what came for it and was not taken yet, and then how it ended."""

    name: str
    ending: Ending | None = None
    _frames: deque[str] = field(default_factory=deque)
    _letters: int = 0

    @property
    def has_room(self) -> bool:
        return not self._frames or (len(self._frames) < FRAMES_MAX and self._letters < LETTERS_MAX)

    @property
    def is_empty(self) -> bool:
        return not self._frames

    def put(self, frame: str) -> None:
        self._frames.append(frame)
        self._letters += len(frame)

    def take(self) -> list[str]:
        """All that is there, in its order."""
        frames = list(self._frames)
        self._frames.clear()
        self._letters = 0
        return frames


@dataclass(frozen=True)
class Said:
    """What a message of the server says: a frame, or an ending, of one share or of all."""

    name: str | None
    what: str | Ending


def subscribe(name: str, feed: Feed) -> str:
    return json.dumps({"type": "subscribe", "id": name, **feed.request()}, ensure_ascii=False)


def unsubscribe(name: str) -> str:
    return json.dumps({"type": "unsubscribe", "id": name})


def heard(text: str) -> Said | None:
    """Reads a message of the server; `None` for one that says nothing of any subscription."""
    if (envelope := _ENVELOPE.match(text)) is not None:
        return Said(envelope[1], text[envelope.end() : -1])
    try:
        return _heard(text, json.loads(text))
    except (LookupError, ValueError, TypeError, AttributeError):
        raise malformed(text) from None


def _heard(text: str, frame: dict[str, Any]) -> Said | None:
    match frame["type"]:
        case "closed":
            return Said(frame["id"], ending(Close(int(frame["code"]), str(frame["reason"]))))
        case "error":
            # One without a name is of a message that the server could not read: none of ours.
            return Said(frame["id"], not_subscribed(frame)) if "id" in frame else None
        case "goodbye":
            return Said(None, text)  # It is for each of them.
        case _:
            return None


def ending(close: Close | None) -> Ending:
    """How a socket, or one share of it, was ended by this close code."""
    error = closed(close)
    return End.RESTART if error is None else error
