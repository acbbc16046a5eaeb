"""An event loop whose time stands still while something is to be done, and jumps when nothing is."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

#: Steps after which a run is given up: something goes on for ever.
MAX_STEPS = 200_000


class NothingLeft(Exception):
    """Everybody waits and nothing is scheduled that could wake anybody."""


class Endless(Exception):
    """More steps than a run can need."""


class VirtualLoop(asyncio.BaseEventLoop):
    """No file descriptors, no threads, no real waits: the same calls come in the same order every time."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._steps = 0
        # What asyncio waits with: time jumps to the next timer instead.
        self._selector = self
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list[Any]:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise Endless(f"the loop has made {MAX_STEPS} steps by second {self._now:.3f}")
        if timeout is None:
            raise NothingLeft(f"nothing is scheduled any more at second {self._now:.3f}")
        if timeout > 0:
            self._now += timeout
        return []

    def _process_events(self, events: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end in virtual time. Tasks that are left are cancelled."""
    loop = VirtualLoop()
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main)
    finally:
        try:
            left = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        finally:
            asyncio.set_event_loop(None)
            loop.close()
