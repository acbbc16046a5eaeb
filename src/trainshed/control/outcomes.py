"""What an attempt's end means for its job."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from sqlalchemy import Connection

from trainshed.control.arrays import give_turns
from trainshed.control.consumption import count_usage
from trainshed.control.dependencies import follow
from trainshed.control.losses import judge, why_lost
from trainshed.engines.protocol import GangResult, GangStatus
from trainshed.resources.lifecycle import (
    AttemptEvent,
    JobEvent,
    JobState,
    OperationEvent,
    OperationVerb,
    ProvisioningState,
)
from trainshed.resources.preemption import excused
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.scheduling.health import LossLimits
from trainshed.scheduling.retrying import Retrying
from trainshed.store import attempts, dependencies, jobs, operations
from trainshed.store.errors import NotFound, StaleState, or_none
from trainshed.store.records import AttemptRecord, JobRecord

TERMINATED = Reason(ReasonCode.JOB_TERMINATED, "The specified job has been terminated by the user")

_ATTEMPT_EVENT = {
    GangResult.SUCCEEDED: AttemptEvent.SUCCEEDED,
    GangResult.FAILED: AttemptEvent.FAILED,
    GangResult.STOPPED: AttemptEvent.STOPPED,
    GangResult.LOST: AttemptEvent.LOST,
}


def settle(tx: Connection, status: GangStatus, now: int, limits: LossLimits) -> int | None:
    """Apply a gang's final status to its attempt and job. Applying it again changes nothing.

    Returns when (Unix ms) the job is tried again, if its retryPolicy has it wait.
    """
    status = _as_preempted(tx, status)
    result = status.result
    assert result is not None, "only an ended gang can be settled"
    ended_at = status.ended_at or now
    try:
        if result is GangResult.LOST:
            status = replace(status, reason=why_lost(tx, attempts.get(tx, status.attempt_id), status.reason))
        attempt = attempts.finish(
            tx,
            status.attempt_id,
            _ATTEMPT_EVENT[result],
            now,
            exit_code=status.exit_code,
            reason=status.reason,
            ended_at=ended_at,
            container=status.container,
        )
    except (StaleState, NotFound):
        return None  # Applied before, or the job was deleted: the engine may forget it.
    job = jobs.get_by_id(tx, attempt.job_id)
    count_usage(tx, job, attempt, ended_at)
    return _settle_job(tx, job, attempt, status, now, ended_at, limits)


def _as_preempted(tx: Connection, status: GangStatus) -> GangStatus:
    """A job that ends badly while it makes room for others has made room: it is not asked why."""
    if status.result is not GangResult.FAILED or not excused(status.reason.code if status.reason else None):
        return status
    attempt = or_none(attempts.get, tx, status.attempt_id)
    if attempt is None or attempt.after_stop != attempts.REQUEUE or not _made_room(attempt):
        return status
    return replace(status, result=GangResult.STOPPED, reason=attempt.stop_reason)


def _made_room(attempt: AttemptRecord) -> bool:
    return attempt.stop_reason is not None and attempt.stop_reason.code is ReasonCode.PREEMPTED


def record_start(tx: Connection, attempt_id: str, now: int) -> None:
    """The engine has taken the attempt on. Nothing to record when it has ended or is stopping already."""
    with contextlib.suppress(NotFound):
        attempts.started(tx, attempt_id, now)


def _settle_job(
    tx: Connection,
    job: JobRecord,
    attempt: AttemptRecord,
    status: GangStatus,
    now: int,
    ended_at: int,
    limits: LossLimits,
) -> int | None:
    if status.result is GangResult.SUCCEEDED:
        finish_job(tx, job, JobEvent.SUCCEEDED, now, exit_code=status.exit_code or 0, errors=(), ended_at=ended_at)
    elif status.result is GangResult.FAILED:
        return _settle_failure(tx, job, attempt, status, now, ended_at)
    elif job.execution is JobState.TERMINATING or job.state is ProvisioningState.DELETING:
        finish_job(tx, job, JobEvent.FAILED, now, exit_code=None, errors=(TERMINATED,), ended_at=ended_at)
    elif attempt.after_stop == "fail":
        errors = (attempt.stop_reason,) if attempt.stop_reason else ()
        finish_job(tx, job, JobEvent.FAILED, now, exit_code=None, errors=errors, ended_at=ended_at)
    elif attempt.stop_reason is not None and _made_room(attempt):
        jobs.preempt(tx, job.id, now, attempt.stop_reason)
    elif attempt.stop_reason is None and status.reason is not None and status.reason.code is ReasonCode.PREEMPTED:
        # By an engine that queues and pre-empts by itself.
        jobs.preempt(tx, job.id, now, status.reason)
    elif status.result is GangResult.STOPPED or attempt.after_stop == "requeue":
        reason = attempt.stop_reason or status.reason or why_lost(tx, attempt, None)
        jobs.requeue(tx, job.id, now, reason, lost=False)
    else:
        _settle_loss(tx, job, attempt, status.reason or why_lost(tx, attempt, None), now, ended_at, limits)
    return None


def _settle_loss(
    tx: Connection,
    job: JobRecord,
    attempt: AttemptRecord,
    reason: Reason,
    now: int,
    ended_at: int,
    limits: LossLimits,
) -> None:
    verdict = judge(tx, job, attempt, reason, now, limits)
    if verdict is not None:
        finish_job(tx, job, JobEvent.FAILED, now, exit_code=None, errors=(verdict,), ended_at=ended_at)
    else:
        jobs.requeue(tx, job.id, now, reason, lost=reason.code is not ReasonCode.NODE_EVICTED)


def _settle_failure(
    tx: Connection, job: JobRecord, attempt: AttemptRecord, status: GangStatus, now: int, ended_at: int
) -> int | None:
    """The job failed by itself: its retryPolicy decides, unless somebody wants it to end."""
    policy = Retrying.of(job.definition)
    unwanted = job.execution is not JobState.RUNNING or job.state is ProvisioningState.DELETING
    delay = None if unwanted or attempt.after_stop == "fail" else policy.after(status.exit_code, job.retries)
    if delay is not None:
        reason = Reason(
            ReasonCode.JOB_RETRIED,
            f"Attempt {attempt.number} ended with exit code {status.exit_code}, which is failure {job.retries + 1} of "
            f"the {policy.max_retries + 1} that end the job; it is tried again {_when(delay)}.",
            {"exitCode": str(status.exit_code), "retry": str(job.retries + 1), "maxRetries": str(policy.max_retries)},
        )
        jobs.retry(tx, job.id, now, reason, now + delay)
        return now + delay
    errors = [status.reason] if status.reason else []
    if job.retries and policy.covers(status.exit_code) and not unwanted:
        errors.append(_exhausted(job))
    elif job.retries and errors:
        errors[0] = replace(errors[0], details={**errors[0].details, "retries": str(job.retries)})
    finish_job(tx, job, JobEvent.FAILED, now, exit_code=status.exit_code, errors=tuple(errors), ended_at=ended_at)
    return None


def _when(delay_ms: int) -> str:
    return f"in {max(1, round(delay_ms / 1000))} s" if delay_ms else "at once"


def _exhausted(job: JobRecord) -> Reason:
    times = "once" if job.retries == 1 else f"{job.retries} times"
    return Reason(
        ReasonCode.RETRIES_EXHAUSTED,
        f"The job was tried again {times}, as often as retryPolicy.maxRetries allows, and failed each time.",
        {"retries": str(job.retries)},
    )


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
    """Bring a job to its end, and with it any terminate operation that waits for it. Jobs that wait for it follow."""
    jobs.finish(tx, job.id, event, now, exit_code=exit_code, errors=errors, ended_at=ended_at, started_at=started_at)
    if job.blocked:
        dependencies.clear(tx, job.id)
    give_turns(tx, job.array_id)
    if job.execution is JobState.TERMINATING:
        operations.finish_for(tx, OperationVerb.TERMINATE_JOB, job.key, OperationEvent.SUCCEEDED, now)
    follow(tx, [job.id], now)
