"""Jobs that are handed over at about the same time, put together: those that are alike become one job array."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from trainshed.engines.protocol import GangStatus
from trainshed.engines.slurm.records import TicketRecord

#: Seconds for which a ticket waits at most for others that are being written down, and between two looks at them.
_GATHER_SECONDS, _LOOK_AGAIN = 0.25, 0.01

#: Submits tickets that are alike; the end of each that Slurm refuses for good, by ticket.
Submit = Callable[[list[TicketRecord]], Coroutine[Any, Any, dict[str, GangStatus | None]]]


class Gathering:
    """What waits to be submitted."""

    def __init__(self, coming: Callable[[], bool], likeness: Callable[[TicketRecord], str], submit: Submit) -> None:
        """``coming``: whether others are about to come."""
        self._coming = coming
        self._likeness = likeness
        self._submit = submit
        self._gathered: list[tuple[TicketRecord, asyncio.Future[GangStatus | None]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._gathering = False

    async def submit(self, ticket: TicketRecord) -> GangStatus | None:
        """Its end when Slurm refuses it for good. Whoever asked may give up: it is submitted all the same."""
        answer: asyncio.Future[GangStatus | None] = asyncio.get_running_loop().create_future()
        self._gathered.append((ticket, answer))
        if not self._gathering:
            self._gathering = True
            self._start(self._gather())
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

    async def _gather(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + _GATHER_SECONDS
        while self._coming() and loop.time() < until:  # noqa: ASYNC110 - threads do not tell
            await asyncio.sleep(_LOOK_AGAIN)
        gathered, self._gathered, self._gathering = self._gathered, [], False
        groups: dict[str, list[tuple[TicketRecord, asyncio.Future[GangStatus | None]]]] = {}
        for one in gathered:
            groups.setdefault(self._likeness(one[0]), []).append(one)
        for group in groups.values():
            group.sort(key=lambda one: one[0].entry)  # The longest waiting first.
            self._start(self._hand_over(group))

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
