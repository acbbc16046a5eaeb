"""Jobs that wait for others join their queues, or fail, when those have started, ended or gone.

In the transaction in which that happens; and by each full pass, for what it left or did not see.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection

from trainshed.control.actions import Actions
from trainshed.control.arrays import give_turns, why_in_line
from trainshed.resources.conditions import Condition
from trainshed.resources.lifecycle import JobEvent, JobState, ProvisioningState
from trainshed.resources.reasons import Reason
from trainshed.scheduling.dependencies import Dependency, Other, Verdict, impossible, judge, waiting
from trainshed.store import dependencies, job_arrays, jobs
from trainshed.store.records import DependencyRecord, JobRecord

#: Jobs that one call fails: a transaction must not hold up the others for long. The next full pass goes on.
FAILED_AT_ONCE = 1_000
#: Jobs whose followers one full pass looks at.
LOOKED_AT = 1_000


@dataclass(frozen=True, slots=True)
class Followed:
    """What came of it: whether jobs may have joined their queues, and whether some are left to be failed."""

    released: bool
    more: bool = False


def follow(tx: Connection, job_ids: Iterable[int], now: int) -> Followed:
    """These jobs have started, ended or were deleted: tell those that wait for them, and those that wait for those."""
    pending = deque(job_ids)
    released, failed = False, 0
    while pending:
        on = pending.popleft()
        impossible_for: dict[int, DependencyRecord] = {}
        met: set[Condition] = set()
        for record in dependencies.waiting_on(tx, on):
            verdict = judge(Condition(record.condition), _other(record))
            if verdict is Verdict.MET:
                met.add(Condition(record.condition))
            elif verdict is Verdict.IMPOSSIBLE:
                impossible_for.setdefault(record.job_id, record)
        if met:
            dependencies.meet(tx, on, met)
            released = True
        for job_id, record in impossible_for.items():
            if failed == FAILED_AT_ONCE:
                return Followed(released, more=True)
            dependencies.clear(tx, job_id)
            if _fail(tx, job_id, impossible(_dependency(record)), now):
                pending.append(job_id)
                failed += 1
    return Followed(released)


def advance_dependencies(tx: Connection, actions: Actions, now: int) -> None:
    """What should have been told and was not: jobs that were deleted together, or that ended while it was written."""
    for array_id in job_arrays.with_line(tx):
        give_turns(tx, array_id)
    found = dependencies.decided(tx, LOOKED_AT)
    if found and (follow(tx, found, now).more or len(found) == LOOKED_AT):
        actions.again = True


def why_blocked(tx: Connection, job: JobRecord) -> Reason:
    """What a job still waits for: other jobs, or its turn in its array."""
    unmet = dependencies.unmet(tx, job.id)
    return waiting([_dependency(record) for record in unmet]) if unmet else why_in_line(tx, job)


def _fail(tx: Connection, job_id: int, reason: Reason, now: int) -> bool:
    """False for one that is about to end anyway."""
    job = jobs.get_by_id(tx, job_id)
    if job.execution is not JobState.QUEUED or job.state is ProvisioningState.DELETING:
        return False
    jobs.finish(tx, job_id, JobEvent.FAILED, now, exit_code=None, errors=(reason,), ended_at=now)
    give_turns(tx, job.array_id)
    return True


def _dependency(record: DependencyRecord) -> Dependency:
    return Dependency(record.on_name, Condition(record.condition), _other(record))


def _other(record: DependencyRecord) -> Other | None:
    if record.execution is None or record.attempts is None:
        return None
    return Other(record.execution, record.attempts)
