"""Looks at the database after every transaction: tells what changed and checks every invariant."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from sqlalchemy import Connection

from tests.simulation import reasons
from tests.simulation.invariants import CHECKS, Context
from tests.simulation.snapshot import Job, Snapshot, take
from tests.simulation.store import Store
from tests.simulation.story import Story
from trainshed.resources.reasons import Reason
from trainshed.store import jobs
from trainshed.store.records import JobRecord

#: How likely it is that a transaction is followed by a question why one of the queued jobs waits.
_ASKING = 0.15

Explain = Callable[[Connection, JobRecord], Reason]


class Watch:
    """Holds the last snapshot."""

    def __init__(self, store: Store, story: Story, context: Context, roll: random.Random) -> None:
        self._store = store
        self._story = story
        self._context = context
        self._roll = roll
        self.snapshot = Snapshot()
        self._seq = 0
        self._changes = -1

    def step(self, explain: Explain | None, *, engine_available: bool) -> None:
        """A transaction was committed."""
        if self._store.driver.total_changes != self._changes:
            self._changes = self._store.driver.total_changes
            now = take(self._store.driver, self._seq)
            self._tell(now)
            self._context.past.note(self.snapshot, now)
            for name, check in CHECKS.items():
                for text in check(self.snapshot, now, self._context):
                    self._story.violated(name, text)
            self.snapshot = now
        if explain is not None and self._roll.random() < _ASKING:
            waiting = self.waiting()
            if waiting:
                self.ask(self._roll.choice(waiting), explain, engine_available=engine_available)

    def waiting(self) -> list[Job]:
        """Jobs that wait and that nobody wants deleted."""
        return [job for job in self.snapshot.jobs.values() if job.execution == "queued" and job.state != "deleting"]

    def ask(self, job: Job, explain: Explain, *, engine_available: bool) -> Reason:
        """Why the job waits; checked."""
        tx = self._store.connection
        reason = explain(tx, jobs.get_by_id(tx, job.id))
        self._story.count(f"reason {reason.code.value}")
        facts = reasons.Facts(self.snapshot, job, self._context, engine_available=engine_available)
        text = reasons.wrong(reason, facts)
        if text is not None:
            self._story.violated("every-wait-has-a-reason", text)
        return reason

    def _tell(self, now: Snapshot) -> None:
        for event in now.events:
            self._seq = event.seq
            details = json.loads(event.details) if event.details else {}
            thing = details.get("node") or details.get("attemptId") or event.key.rpartition("/")[2]
            step = f"{event.before or ''}>{event.after or ''}"
            self._story.tell(f"{event.kind}: {event.event}", thing, step)
            self._story.count(f"{event.kind} {event.before or ''} --{event.event}-> {event.after or ''}")
            if event.reason is not None and "DependencyFailed" in event.reason:
                self._story.count("failed for another job")
