"""The one thread that writes: what waits is carried out together and made durable by one commit.

Each function runs in a savepoint of its own, so that one that raises takes back only what it did. Nothing is delayed
to make a group larger: a group is what arrived while the last one was being synced to the disk.
"""

from __future__ import annotations

import queue
import threading
import time

from trainshed.store.backend import Backend, Session
from trainshed.store.errors import StoreClosed, StoreUnavailable
from trainshed.store.tickets import Outcome, Ticket, deliver

#: Most functions in one commit, so that the first of them does not wait long for the last.
MAX_GROUP = 128
#: How long a group is tried again while the database is busy or away, in seconds.
PATIENCE = 30.0
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 1.0


class Writer:
    """Takes tickets from any thread and settles each after the commit that holds it."""

    def __init__(self, backend: Backend, *, patience: float = PATIENCE) -> None:
        self._backend = backend
        self._patience = patience
        self._queue: queue.SimpleQueue[Ticket | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._closing = threading.Event()
        self._session: Session | None = None
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

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
                self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        open_ = True
        while open_:
            group: list[Ticket] = []
            ticket = self._queue.get()
            while ticket is not None:
                group.append(ticket)
                if len(group) == MAX_GROUP:
                    break
                try:
                    ticket = self._queue.get_nowait()
                except queue.Empty:
                    break
            open_ = ticket is not None
            if group:
                deliver(self._carry_out(group))
        self._drop_session()

    def _carry_out(self, group: list[Ticket]) -> list[Outcome]:
        give_up_at = time.monotonic() + self._patience
        pause = FIRST_PAUSE
        while True:
            try:
                return self._try(group)
            except Exception as exc:
                self._drop_session()
                if isinstance(exc, StoreUnavailable):
                    error = exc
                elif not self._backend.is_passing(exc):
                    error = StoreUnavailable(f"the database did not take the change: {exc}")
                    error.__cause__ = exc
                elif time.monotonic() > give_up_at or self._closing.is_set():
                    error = StoreUnavailable(f"the database could not be written to: {exc}")
                    error.__cause__ = exc
                else:
                    self._closing.wait(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
                    continue
                return [Outcome(ticket, error=error) for ticket in group]

    def _try(self, group: list[Ticket]) -> list[Outcome]:
        """One transaction. Raises when the transaction as a whole failed; nothing of it is stored then."""
        session = self._session
        if session is None:
            session = self._session = self._backend.writer()
        session.begin()
        if len(group) == 1:
            outcome = self._call(session, group[0])
            if outcome.error is not None:
                session.roll_back()
                return [outcome]
            outcomes = [outcome]
        else:
            outcomes = []
            for ticket in group:
                session.savepoint()
                outcome = self._call(session, ticket)
                if outcome.error is None:
                    session.release()
                else:
                    session.roll_back_to_savepoint()
                outcomes.append(outcome)
        try:
            session.commit()
        except Exception:
            # Closed first: on a connection that still stands the transaction would stay in progress for ever.
            self._drop_session()
            if not self._backend.was_committed(session):
                raise
        return outcomes

    def _call(self, session: Session, ticket: Ticket) -> Outcome:
        try:
            return Outcome(ticket, ticket.call(session.connection))
        except BaseException as exc:
            if self._backend.is_passing(exc):
                raise
            return Outcome(ticket, error=exc)

    def _drop_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
