"""A few threads that read, each with a connection of its own, beside the writer and never in its way."""

from __future__ import annotations

import queue
import threading
import time

from trainshed.store.backend import Backend, Session
from trainshed.store.errors import StoreClosed, StoreUnavailable
from trainshed.store.tickets import Outcome, Ticket, deliver
from trainshed.store.writer import FIRST_PAUSE, LONGEST_PAUSE, PATIENCE


class Readers:
    """Takes tickets from any thread; each runs in a transaction that sees one moment."""

    def __init__(self, backend: Backend, count: int, *, patience: float = PATIENCE) -> None:
        self._backend = backend
        self._patience = patience
        self._queue: queue.SimpleQueue[Ticket | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=f"store-reader-{number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, ticket: Ticket) -> None:
        """Carry the ticket out soon. Raises StoreClosed after ``close``."""
        with self._lock:
            if self._closed:
                raise StoreClosed
            self._queue.put(ticket)

    def close(self) -> None:
        """Carry out what was submitted, then end. Waits for that."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._closing.set()
                for _ in self._threads:
                    self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        session: Session | None = None
        while (ticket := self._queue.get()) is not None:
            outcome, session = self._carry_out(ticket, session)
            deliver((outcome,))
            # Holds nothing of the last caller's while it waits for the next.
            del ticket, outcome
        if session is not None:
            session.close()

    def _carry_out(self, ticket: Ticket, session: Session | None) -> tuple[Outcome, Session | None]:
        give_up_at = time.monotonic() + self._patience
        pause = FIRST_PAUSE
        while True:
            try:
                if session is None:
                    session = self._backend.reader()
                session.begin()
                try:
                    return Outcome(ticket, ticket.call(session.connection)), session
                finally:
                    session.roll_back()
            except BaseException as exc:
                if not self._backend.is_passing(exc):
                    # The transaction is over; whether the connection is still good is not worth finding out.
                    if session is not None:
                        session.close()
                    return Outcome(ticket, error=exc), None
                if session is not None:
                    session.close()
                    session = None
                if time.monotonic() > give_up_at or self._closing.is_set():
                    error = StoreUnavailable(f"the database could not be read: {exc}")
                    error.__cause__ = exc
                    return Outcome(ticket, error=error), None
                self._closing.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
