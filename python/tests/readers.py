"""The first rows of a subscription, taken in plain code or in asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import walcast
from walcast import aio

Take = Callable[..., list[dict[str, Any]]]
Meanwhile = Callable[[int], None]
Heard = Callable[[walcast.Status], None]


def nothing(_: int) -> None:
    """What happens meanwhile."""


def unheard(_: walcast.Status) -> None:
    """Who listens to the status."""


def take(
    url: str, count: int, meanwhile: Meanwhile = nothing, heard: Heard = unheard, **options: Any
) -> list[dict[str, Any]]:
    """The first rows of a subscription; `meanwhile` is called when it is live, and after each row with their number."""
    rows: list[dict[str, Any]] = []
    with walcast.subscribe(url, on_status=_once_live(meanwhile, heard), **options) as feed:
        for row in feed:
            rows.append(row)
            meanwhile(len(rows))
            if len(rows) == count:
                break
    return rows


def take_async(
    url: str, count: int, meanwhile: Meanwhile = nothing, heard: Heard = unheard, **options: Any
) -> list[dict[str, Any]]:
    async def run() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        async with aio.subscribe(url, on_status=_once_live(meanwhile, heard), **options) as feed:
            async for row in feed:
                rows.append(row)
                meanwhile(len(rows))
                if len(rows) == count:
                    break
        return rows

    return asyncio.run(run())


def _once_live(meanwhile: Meanwhile, heard: Heard) -> Callable[[walcast.Status], None]:
    told = False

    def on_status(status: walcast.Status) -> None:
        nonlocal told
        heard(status)
        if status.state == "live" and not told:
            told = True
            meanwhile(0)

    return on_status
