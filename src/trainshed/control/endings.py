"""Jobs that are to end: terminate and delete, in whatever state they are."""

from __future__ import annotations

from sqlalchemy import Connection

from trainshed.control.actions import Actions, StopGang
from trainshed.control.arrays import give_turns
from trainshed.control.dependencies import follow
from trainshed.control.outcomes import TERMINATED, finish_job
from trainshed.resources.lifecycle import (
    AttemptState,
    JobEvent,
    OperationEvent,
    OperationVerb,
    ProvisioningState,
)
from trainshed.resources.preemption import StopWarning
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import attempts, jobs, operations, secrets
from trainshed.store.records import AttemptRecord, JobRecord

_DELETED = Reason(ReasonCode.DELETED_BY_USER, "The job was deleted while it ran.")


def end_jobs(tx: Connection, actions: Actions, now: int) -> None:
    """Advance every job that somebody asked to terminate or to delete."""
    for job in jobs.ending(tx):
        attempt = attempts.live_of_job(tx, job.id)
        deleting = job.state is ProvisioningState.DELETING
        if attempt is not None:
            stop_attempt(tx, attempt, _DELETED if deleting else TERMINATED, "fail", actions, now)
        elif deleting:
            delete_job(tx, job, now)
        else:
            # Never started: the original then shows the moment of the request as its start (rest-contract section 8).
            finish_job(
                tx,
                job,
                JobEvent.FAILED,
                now,
                exit_code=None,
                errors=(TERMINATED,),
                ended_at=now,
                started_at=job.execution_at if job.started_at is None else None,
            )


def stop_attempt(
    tx: Connection,
    attempt: AttemptRecord,
    reason: Reason,
    after: str,
    actions: Actions,
    now: int,
    warning: StopWarning | None = None,
) -> None:
    """Record that the attempt is to stop, and have the engine told. Once is enough, but again does no harm.

    An attempt that is only warned is stopped by a later request without a warning, and not the other way round.
    """
    stronger = after == "fail" and attempt.after_stop == "requeue"
    sooner = attempt.stop_warning is not None and warning is None
    if attempt.state is not AttemptState.STOPPING or stronger or sooner:
        attempts.request_stop(tx, attempt.id, now, reason, after, warning)
    elif attempt.stop_warning is None:
        warning = None
    actions.stops.append(StopGang(attempt.id, reason, warning))


def delete_job(tx: Connection, job: JobRecord, now: int) -> None:
    """Remove the record of a job that has no live attempt. Its files in storage stay."""
    operations.finish_for(tx, OperationVerb.TERMINATE_JOB, job.key, OperationEvent.SUCCEEDED, now)
    secrets.delete(tx, job.uid)
    jobs.delete(tx, job.id)
    give_turns(tx, job.array_id)
    follow(tx, [job.id], now)
    operations.finish_for(tx, OperationVerb.DELETE_JOB, job.key, OperationEvent.SUCCEEDED, now)
