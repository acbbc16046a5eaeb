"""Every change of a job's states, each by its lifecycle and with its event. ``jobs`` offers these as its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Executable, bindparam, func, select, update
from sqlalchemy import delete as delete_from

from trainshed.resources.lifecycle import JOB, PROVISIONING, JobEvent, JobState, ProvisioningEvent, ProvisioningState
from trainshed.resources.reasons import Reason
from trainshed.store import events, secrets
from trainshed.store._statements import first, refused_as, rows_changed
from trainshed.store.encoding import reason_to_text, reasons_to_text
from trainshed.store.errors import InUse, NotFound, StaleState
from trainshed.store.job_lookup import get_by_id
from trainshed.store.records import JobRecord
from trainshed.store.tables import HANDED_OVER, QUEUED, attempts
from trainshed.store.tables import jobs as table

_of = table.c.id == bindparam("of")
_position = select(table.c.key, table.c.execution, table.c.state).where(_of)
_place = (
    update(table)
    .where(_of, QUEUED)
    .values(
        execution=JobState.RUNNING.value,
        execution_at=bindparam("now"),
        started_at=bindparam("now"),
        attempts=table.c.attempts + 1,
    )
    .returning(table.c.key, table.c.attempts)
)
_hand_over = (
    update(table)
    .where(_of, QUEUED)
    .values(handed_over=1, attempts=table.c.attempts + 1)
    .returning(table.c.key, table.c.attempts)
)
_begin = (
    update(table)
    .where(_of, HANDED_OVER)
    .values(
        execution=JobState.RUNNING.value,
        execution_at=bindparam("now"),
        started_at=bindparam("started"),
        handed_over=0,
    )
    .returning(table.c.key, table.c.attempts)
)
_requeue = (
    update(table)
    .where(_of, table.c.execution == bindparam("before"))
    .values(
        execution=bindparam("after"),
        execution_at=bindparam("now"),
        started_at=None,
        lost_attempts=table.c.lost_attempts + bindparam("lost"),
        retries=table.c.retries + bindparam("retried"),
        preemptions=table.c.preemptions + bindparam("preempted"),
        returned=bindparam("preempted"),
        not_before=bindparam("not_before", type_=table.c.not_before.type),
        requeue_reason=bindparam("why"),
        handed_over=0,
    )
)
_finish = (
    update(table)
    .where(_of, table.c.execution == bindparam("before"))
    .values(
        execution=bindparam("after"),
        execution_at=bindparam("now"),
        started_at=func.coalesce(bindparam("started", type_=table.c.started_at.type), table.c.started_at),
        ended_at=bindparam("ended"),
        handed_over=0,
        exit_code=bindparam("code"),
        errors=bindparam("why"),
    )
)
_terminate = (
    update(table)
    .where(_of, table.c.execution == bindparam("before"))
    .values(execution=bindparam("after"), execution_at=bindparam("now"))
)
_request_deletion = (
    update(table)
    .where(_of, table.c.state == bindparam("before"))
    .values(state=bindparam("after"), state_at=bindparam("now"))
)
_uid = select(table.c.uid).where(_of)
_delete_attempts = delete_from(attempts).where(attempts.c.job_id == bindparam("of"))
_delete = delete_from(table).where(_of)


def place(tx: Connection, job_id: int, now: int, attempt_id: str) -> None:
    """The job got nodes: it runs, as its next attempt. Raises NotFound, StaleState when it does not wait any more."""
    row = first(tx, _place, {"of": job_id, "now": now})
    if row is None:
        key, execution, state = _positioned(tx, job_id)
        raise StaleState(f"job {key} does not wait for nodes: its execution is {execution}, its record {state}")
    key, number = row
    details = {"attempt": number, "attemptId": attempt_id}
    _log(tx, key, JobEvent.PLACED.value, JobState.QUEUED.value, JobState.RUNNING.value, now, details=details)


def hand_over(tx: Connection, job_id: int, now: int, attempt_id: str) -> None:
    """An engine that queues by itself gets the job, as its next attempt; it stays queued until that has begun.

    Raises NotFound, StaleState when it does not wait any more.
    """
    row = first(tx, _hand_over, {"of": job_id})
    if row is None:
        key, execution, state = _positioned(tx, job_id)
        raise StaleState(f"job {key} does not wait: its execution is {execution}, its record {state}")
    key, number = row
    details = {"attempt": number, "attemptId": attempt_id}
    queued = JobState.QUEUED.value
    _log(tx, key, JobEvent.HANDED_OVER.value, queued, queued, now, details=details)


def begin(tx: Connection, job_id: int, now: int, attempt_id: str, started_at: int) -> bool:
    """The engine that the job was handed over to has started it. False when it was not waiting there any more."""
    row = first(tx, _begin, {"of": job_id, "now": now, "started": started_at})
    if row is None:
        return False
    key, number = row
    details = {"attempt": number, "attemptId": attempt_id}
    _log(tx, key, JobEvent.PLACED.value, JobState.QUEUED.value, JobState.RUNNING.value, now, details=details)
    return True


def requeue(tx: Connection, job_id: int, now: int, reason: Reason, lost: bool) -> None:
    """The attempt ended through no fault of the job: it waits again, in its old place.

    ``lost`` counts the attempt as lost to infrastructure. Raises NotFound, ImpossibleTransition.
    """
    _requeue_as(tx, job_id, now, reason, {"lost": int(lost)})


def preempt(tx: Connection, job_id: int, now: int, reason: Reason) -> None:
    """The attempt had to make room: the job waits again, before the others of its class.

    Raises NotFound, ImpossibleTransition.
    """
    _requeue_as(tx, job_id, now, reason, {"preempted": 1})


def retry(tx: Connection, job_id: int, now: int, reason: Reason, not_before: int) -> None:
    """The job failed by itself and is tried again, not before ``not_before`` (Unix ms): that counts as a retry.

    Raises NotFound, ImpossibleTransition.
    """
    _requeue_as(tx, job_id, now, reason, {"retried": 1, "not_before": not_before})


def _requeue_as(tx: Connection, job_id: int, now: int, reason: Reason, counted: dict[str, Any]) -> None:
    key, execution, _ = _positioned(tx, job_id)
    before = JobState(execution)
    after = JOB.after(before, JobEvent.REQUEUED)
    parameters = {
        "of": job_id,
        "before": before.value,
        "after": after.value,
        "now": now,
        "why": reason_to_text(reason),
        "lost": 0,
        "retried": 0,
        "preempted": 0,
        "not_before": None,
        **counted,
    }
    _change(tx, _requeue, parameters, key)
    _log(tx, key, JobEvent.REQUEUED.value, before.value, after.value, now, reason)


def finish(
    tx: Connection,
    job_id: int,
    event: JobEvent,
    now: int,
    *,
    exit_code: int | None,
    errors: Iterable[Reason],
    ended_at: int,
    started_at: int | None = None,
) -> None:
    """The job has succeeded or failed, for good. Raises NotFound, ImpossibleTransition.

    ``started_at`` replaces the time at which it was placed, where the engine knows better.
    """
    errors = tuple(errors)
    key, execution, _ = _positioned(tx, job_id)
    before = JobState(execution)
    after = JOB.after(before, event)
    if after not in JOB.final:
        raise ValueError(f"{event} does not end a job")
    parameters = {
        "of": job_id,
        "before": before.value,
        "after": after.value,
        "now": now,
        "started": started_at,
        "ended": ended_at,
        "code": exit_code,
        "why": reasons_to_text(errors),
    }
    _change(tx, _finish, parameters, key)
    details = None if exit_code is None else {"exitCode": exit_code}
    _log(tx, key, event.value, before.value, after.value, now, errors[0] if errors else None, details)


def request_termination(tx: Connection, job_id: int, now: int) -> JobRecord:
    """A user wants the job to stop. No change when it is stopping or over. Raises NotFound."""
    key, execution, _ = _positioned(tx, job_id)
    before, event = JobState(execution), JobEvent.TERMINATE_REQUESTED
    if JOB.allows(before, event):
        after = JOB.after(before, event)
        _change(tx, _terminate, {"of": job_id, "before": before.value, "after": after.value, "now": now}, key)
        _log(tx, key, event.value, before.value, after.value, now)
    return get_by_id(tx, job_id)


def request_deletion(tx: Connection, job_id: int, now: int) -> JobRecord:
    """A user wants the job gone. Its execution stays as it is until it was stopped. Raises NotFound."""
    key, _, state = _positioned(tx, job_id)
    before, event = ProvisioningState(state), ProvisioningEvent.DELETE_REQUESTED
    if PROVISIONING.allows(before, event):
        after = PROVISIONING.after(before, event)
        _change(tx, _request_deletion, {"of": job_id, "before": before.value, "after": after.value, "now": now}, key)
        _log(tx, key, event.value, before.value, after.value, now)
    return get_by_id(tx, job_id)


def delete(tx: Connection, job_id: int) -> None:
    """Remove a job with its attempts and secrets; its events stay. Raises NotFound, InUse while an attempt is live."""
    uid = tx.execute(_uid, {"of": job_id}).scalar()
    if uid is None:
        raise NotFound("job", job_id)
    with refused_as(tx, lambda: InUse(f"job {job_id} still has an attempt that holds nodes")):
        tx.execute(_delete_attempts, {"of": job_id})
    tx.execute(_delete, {"of": job_id})
    secrets.delete(tx, uid)


def _positioned(tx: Connection, job_id: int) -> tuple[str, str, str]:
    row = first(tx, _position, {"of": job_id})
    if row is None:
        raise NotFound("job", job_id)
    return row[0], row[1], row[2]


def _change(tx: Connection, statement: Executable, parameters: dict[str, Any], key: str) -> None:
    if rows_changed(tx, statement, parameters) != 1:
        raise StaleState(f"job {key} is no longer {parameters['before']}")


def _log(
    tx: Connection,
    key: str,
    event: str,
    before: str | None,
    after: str,
    now: int,
    reason: Reason | None = None,
    details: dict[str, Any] | None = None,
) -> None:
    events.append(
        tx,
        kind=events.Kind.JOB,
        resource_key=key,
        event=event,
        from_state=before,
        to_state=after,
        now=now,
        reason=reason,
        details=details,
    )
