"""Waking another process: what is said while a notice is under way is said once, by the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from trainshed.store.errors import StoreError

#: Seconds until a notice that could not be sent is sent again.
_PAUSE = 1.0


class Notifier:
    """Sends notices in the background, one at a time."""

    def __init__(self, send: Callable[[str], Awaitable[None]]) -> None:
        """``send`` raises StoreError when it cannot."""
        self._send = send
        self._due: set[str] = set()
        self._any = asyncio.Event()

    def say(self, notice: str) -> None:
        """Have it sent soon."""
        self._due.add(notice)
        self._any.set()

    async def run(self) -> None:
        """Send what is to be said, until cancelled."""
        while True:
            await self._any.wait()
            self._any.clear()
            while self._due:
                notice = self._due.pop()
                try:
                    await self._send(notice)
                except StoreError:
                    # The leader's slow clock sees to it meanwhile.
                    self._due.add(notice)
                    await asyncio.sleep(_PAUSE)
