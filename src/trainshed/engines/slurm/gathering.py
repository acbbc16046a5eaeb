"""Jobs that are handed over at about the same time, put together: those that are alike become one job array."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from trainshed.engines.protocol import GangStatus
from trainshed.engines.slurm.records import TicketRecord

#: Seconds for which a ticket waits at most for others that are being written down, and between two looks at them.
_GATHER_SECONDS, _LOOK_AGAIN = 0.25, 0.01
#: Seconds between two submissions of what is alike, in a row: at first, and at most.
_PAUSE_SECONDS, _MOST_PAUSE_SECONDS = 0.1, 1.0

#: Submits tickets that are alike; the end of each that Slurm refuses for good, by ticket.
Submit = Callable[[list[TicketRecord]], Coroutine[Any, Any, dict[str, GangStatus | None]]]


class Gathering:
    """What waits to be submitted: of what is alike, one submission at a time."""

    def __init__(self, coming: Callable[[], bool], likeness: Callable[[TicketRecord], str], submit: Submit) -> None:
        """``coming``: whether others are about to come."""
        self._coming = coming
        self._likeness = likeness
        self._submit = submit
        self._gathered: dict[str, list[tuple[TicketRecord, asyncio.Future[GangStatus | None]]]] = {}
        self._serving: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, ticket: TicketRecord) -> GangStatus | None:
        """Its end when Slurm refuses it for good. Whoever asked may give up: it is submitted all the same."""
        answer: asyncio.Future[GangStatus | None] = asyncio.get_running_loop().create_future()
        likeness = self._likeness(ticket)
        self._gathered.setdefault(likeness, []).append((ticket, answer))
        if likeness not in self._serving:
            self._serving.add(likeness)
            self._start(self._serve(likeness))
        return await asyncio.shield(answer)

    async def close(self, seconds: float) -> None:
        """Submissions that are under way get so long."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, call: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(call)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, likeness: str) -> None:
        """Until none waits. In a long row, later ones wait for each other: meanwhile jobs that run may take them."""
        pause = _PAUSE_SECONDS
        try:
            while likeness in self._gathered:
                await self._wait_for_others()
                # The longest waiting first.
                await self._hand_over(sorted(self._gathered.pop(likeness), key=lambda one: one[0].entry))
                if likeness in self._gathered:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _MOST_PAUSE_SECONDS)
        finally:
            self._serving.discard(likeness)

    async def _wait_for_others(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + _GATHER_SECONDS
        while self._coming() and loop.time() < until:  # noqa: ASYNC110 - threads do not tell
            await asyncio.sleep(_LOOK_AGAIN)

    async def _hand_over(self, group: list[tuple[TicketRecord, asyncio.Future[GangStatus | None]]]) -> None:
        ended: dict[str, GangStatus | None] = {}
        try:
            ended = await self._submit([ticket for ticket, _ in group])
        except Exception as error:
            for _, answer in group:
                if not answer.done():
                    answer.set_exception(error)
        finally:
            for ticket, answer in group:
                if not answer.done():
                    answer.set_result(ended.get(ticket.ticket))
