"""What an attempt's end means for its job."""

from __future__ import annotations

import contextlib

from sqlalchemy import Connection

from trainshed.engines.protocol import GangResult, GangStatus
from trainshed.resources.lifecycle import (
    AttemptEvent,
    JobEvent,
    JobState,
    OperationEvent,
    OperationVerb,
    ProvisioningState,
)
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import attempts, jobs, operations
from trainshed.store.errors import NotFound, StaleState
from trainshed.store.records import AttemptRecord, JobRecord

TERMINATED = Reason(ReasonCode.JOB_TERMINATED, "The specified job has been terminated by the user")

_ATTEMPT_EVENT = {
    GangResult.SUCCEEDED: AttemptEvent.SUCCEEDED,
    GangResult.FAILED: AttemptEvent.FAILED,
    GangResult.STOPPED: AttemptEvent.STOPPED,
    GangResult.LOST: AttemptEvent.LOST,
}


def settle(tx: Connection, status: GangStatus, now: int, lost_attempts_limit: int) -> None:
    """Apply a gang's final status to its attempt and job. Applying it again changes nothing."""
    assert status.result is not None, "only an ended gang can be settled"
    ended_at = status.ended_at or now
    try:
        attempt = attempts.finish(
            tx,
            status.attempt_id,
            _ATTEMPT_EVENT[status.result],
            now,
            exit_code=status.exit_code,
            reason=status.reason,
            ended_at=ended_at,
        )
    except (StaleState, NotFound):
        return  # Applied before, or the job was deleted: the engine may forget it.
    job = jobs.get_by_id(tx, attempt.job_id)
    _settle_job(tx, job, attempt, status, now, ended_at, lost_attempts_limit)


def record_start(tx: Connection, attempt_id: str, now: int) -> None:
    """The engine has taken the attempt on. Nothing to record when it has ended or is stopping already."""
    with contextlib.suppress(NotFound):
        attempts.started(tx, attempt_id, now)


def _settle_job(
    tx: Connection, job: JobRecord, attempt: AttemptRecord, status: GangStatus, now: int, ended_at: int, limit: int
) -> None:
    if status.result is GangResult.SUCCEEDED:
        finish_job(tx, job, JobEvent.SUCCEEDED, now, exit_code=status.exit_code or 0, errors=(), ended_at=ended_at)
    elif status.result is GangResult.FAILED:
        errors = (status.reason,) if status.reason else ()
        finish_job(tx, job, JobEvent.FAILED, now, exit_code=status.exit_code, errors=errors, ended_at=ended_at)
    elif job.execution is JobState.TERMINATING or job.state is ProvisioningState.DELETING:
        finish_job(tx, job, JobEvent.FAILED, now, exit_code=None, errors=(TERMINATED,), ended_at=ended_at)
    elif attempt.after_stop == "fail":
        errors = (attempt.stop_reason,) if attempt.stop_reason else ()
        finish_job(tx, job, JobEvent.FAILED, now, exit_code=None, errors=errors, ended_at=ended_at)
    elif status.result is GangResult.STOPPED or attempt.after_stop == "requeue":
        jobs.requeue(tx, job.id, now, attempt.stop_reason or status.reason or _lost(attempt), lost=False)
    elif job.lost_attempts + 1 >= limit:
        reason = Reason(
            ReasonCode.TOO_MANY_LOST_ATTEMPTS,
            f"The job lost {job.lost_attempts + 1} attempts to failing nodes and is not tried again. Last loss: "
            f"{(status.reason or _lost(attempt)).text}",
        )
        finish_job(tx, job, JobEvent.FAILED, now, exit_code=None, errors=(reason,), ended_at=ended_at)
    else:
        jobs.requeue(tx, job.id, now, status.reason or _lost(attempt), lost=True)


def _lost(attempt: AttemptRecord) -> Reason:
    nodes = ", ".join(attempt.node_ids)
    return Reason(ReasonCode.NODE_LOST, f"Attempt {attempt.number} was lost with its nodes ({nodes}).")


def finish_job(
    tx: Connection,
    job: JobRecord,
    event: JobEvent,
    now: int,
    *,
    exit_code: int | None,
    errors: tuple[Reason, ...],
    ended_at: int,
    started_at: int | None = None,
) -> None:
    """Bring a job to its end, and with it any terminate operation that waits for it."""
    jobs.finish(tx, job.id, event, now, exit_code=exit_code, errors=errors, ended_at=ended_at, started_at=started_at)
    if job.execution is JobState.TERMINATING:
        operations.finish_for(tx, OperationVerb.TERMINATE_JOB, job.key, OperationEvent.SUCCEEDED, now)
