"""A function on its way to a database thread, and its result on the way back to whoever awaits it."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Ticket:
    """``call`` is to run with a connection; ``future`` gets what comes of it.

    ``loop`` is the event loop that the future belongs to, or None for a thread that waits.
    """

    call: Callable[[Connection], Any]
    future: asyncio.Future[Any] | concurrent.futures.Future[Any]
    loop: asyncio.AbstractEventLoop | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a ticket: a value, or the exception that its caller is to get."""

    ticket: Ticket
    value: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        """Hand it to the future. A caller that was cancelled meanwhile is past caring."""
        future = self.ticket.future
        if future.done():
            return
        if self.error is None:
            future.set_result(self.value)
        elif isinstance(self.error, StopIteration):
            # A future cannot carry StopIteration, and would leave its caller waiting for ever.
            future.set_exception(RuntimeError("a store function raised StopIteration"))
        else:
            future.set_exception(self.error)


def async_ticket(call: Callable[[Connection], Any]) -> Ticket:
    """A ticket that is awaited in the running event loop."""
    loop = asyncio.get_running_loop()
    return Ticket(call, loop.create_future(), loop)


def sync_ticket(call: Callable[[Connection], Any]) -> Ticket:
    """A ticket that a thread waits for."""
    return Ticket(call, concurrent.futures.Future(), None)


def _settle(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        outcome.settle()


def deliver(outcomes: Iterable[Outcome]) -> None:
    """Settle the outcomes, waking each event loop once for all that belong to it."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.ticket.loop is None:
            outcome.settle()
        else:
            by_loop.setdefault(outcome.ticket.loop, []).append(outcome)
    for loop, its_outcomes in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, its_outcomes)
        except RuntimeError:
            pass  # That loop was closed: nobody waits there any more.
