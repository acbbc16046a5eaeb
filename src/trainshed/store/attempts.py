"""Attempts: one run of a job each, recorded before it is acted upon, with the nodes that it holds while it is live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into

from trainshed.resources.lifecycle import ATTEMPT, AttemptEvent, AttemptState, NodeState
from trainshed.resources.preemption import StopWarning
from trainshed.resources.reasons import Reason
from trainshed.store import events
from trainshed.store._statements import first, refused_as, rows_changed
from trainshed.store.encoding import from_json, reason_from_text, reason_to_text, to_json
from trainshed.store.errors import NotFound, StaleState
from trainshed.store.records import AttemptRecord
from trainshed.store.tables import LIVE, LOST, holdings, jobs, nodes
from trainshed.store.tables import attempts as table

#: What may follow a stop.
FAIL = "fail"
REQUEUE = "requeue"

#: Who came to an end of its own ran on nodes that are well.
_PROOF_OF_HEALTH = (AttemptState.SUCCEEDED, AttemptState.FAILED)

_of = table.c.id == bindparam("of")
_job = table.c.job_id == bindparam("job_id")
_insert = insert_into(table).inline()
_hold = insert_into(holdings).inline()
_free_nodes = (
    select(func.count())
    .select_from(nodes.outerjoin(holdings, holdings.c.node_id == nodes.c.id))
    .where(
        nodes.c.id.in_(bindparam("node_ids", expanding=True)),
        nodes.c.cluster_uid == bindparam("cluster_uid"),
        nodes.c.state == NodeState.READY.value,
        holdings.c.node_id.is_(None),
    )
)
_job_key = select(jobs.c.key).where(jobs.c.id == bindparam("of"))
_with_job_key = select(table, jobs.c.key).select_from(table.join(jobs, jobs.c.id == table.c.job_id)).where(_of)
_get = select(table).where(_of)
_of_job = select(table).where(_job).order_by(table.c.number)
_live = select(table).where(LIVE).order_by(table.c.placed_at, table.c.id)
_wall_clock = select(jobs.c.wall_clock_seconds).where(jobs.c.id == table.c.job_id).scalar_subquery()
_since = func.coalesce(table.c.began_at, table.c.placed_at)
_overdue = _live.where(table.c.waiting.is_(None), _since + _wall_clock * 1000 < bindparam("before"))
_live_of_job = select(table).where(_job, LIVE)
_live_of_cluster = _live.where(table.c.cluster_uid == bindparam("cluster_uid"))
_lost_of_cluster = (
    select(table)
    .where(LOST, table.c.cluster_uid == bindparam("cluster_uid"), table.c.ended_at >= bindparam("since"))
    .order_by(table.c.ended_at, table.c.id)
)
_change = update(table).where(_of, table.c.state == bindparam("before"))
_started = _change.values(state=bindparam("after"), state_at=bindparam("now"))
_set_waiting = update(table).where(_of, table.c.waiting.is_not(None)).values(waiting=bindparam("why"))
_began = (
    update(table)
    .where(_of, LIVE, table.c.began_at.is_(None))
    .values(waiting=None, began_at=bindparam("at"), node_ids=bindparam("held"))
)
_free_of_these = (
    select(nodes.c.id)
    .select_from(nodes.outerjoin(holdings, holdings.c.node_id == nodes.c.id))
    .where(nodes.c.id.in_(bindparam("node_ids", expanding=True)), holdings.c.node_id.is_(None))
)
_request_stop = _started.values(
    stop_reason=bindparam("why"), after_stop=bindparam("follows"), stop_warning=bindparam("warned")
)
_hasten_stop = update(table).where(_of).values(after_stop=bindparam("follows"), stop_warning=None)
_finish = _started.values(reason=bindparam("why"), exit_code=bindparam("code"), ended_at=bindparam("ended"))
_mark_released = (
    update(nodes)
    .where(nodes.c.id.in_(select(holdings.c.node_id).where(holdings.c.attempt_id == bindparam("of"))))
    .values(released_at=bindparam("now"))
)
_mark_well = (
    update(nodes)
    .where(
        nodes.c.id.in_(select(holdings.c.node_id).where(holdings.c.attempt_id == bindparam("of"))),
        nodes.c.losses.is_not(None),
    )
    .values(losses=None)
)
_release = delete_from(holdings).where(holdings.c.attempt_id == bindparam("of"))


def insert(
    tx: Connection, *, id: str, job_id: int, number: int, cluster_uid: str, node_ids: Sequence[str], now: int
) -> AttemptRecord:
    """Record an attempt that is about to be started on these nodes, the first of them its master.

    Raises StaleState when the job has a live attempt, the id or number was used, or one of the nodes is not there,
    not ready, or held by another attempt.
    """
    if not node_ids:
        raise ValueError("an attempt needs at least one node")
    count = tx.execute(_free_nodes, {"node_ids": list(node_ids), "cluster_uid": cluster_uid}).scalar_one()
    if count != len(node_ids):
        raise StaleState(f"not every node of attempt {number} of job {job_id} is ready and free: {', '.join(node_ids)}")
    job_key = tx.execute(_job_key, {"of": job_id}).scalar()
    if job_key is None:
        raise NotFound("job", job_id)
    row = {
        "id": id,
        "job_id": job_id,
        "number": number,
        "cluster_uid": cluster_uid,
        "node_ids": to_json(list(node_ids)),
        "state": ATTEMPT.initial.value,
        "state_at": now,
        "placed_at": now,
    }
    with refused_as(tx, lambda: StaleState(f"job {job_key} has a live attempt, or one of this id or number {number}")):
        tx.execute(_insert, row)
    with refused_as(tx, lambda: StaleState(f"a node of attempt {number} of job {job_key} is held by another attempt")):
        tx.execute(_hold, [{"node_id": node_id, "attempt_id": id} for node_id in node_ids])
    record = AttemptRecord(id, job_id, number, cluster_uid, tuple(node_ids), ATTEMPT.initial, now, now)
    _log(tx, job_key, record, AttemptState.PLACED.value, None, ATTEMPT.initial, now, nodes=list(node_ids))
    return record


def hand_over(
    tx: Connection, *, id: str, job_id: int, number: int, cluster_uid: str, waiting: Reason, now: int
) -> AttemptRecord:
    """Record an attempt that is about to be handed over to an engine that queues by itself, which finds the nodes.

    Raises NotFound, and StaleState when the job has a live attempt, or the id or number was used.
    """
    job_key = tx.execute(_job_key, {"of": job_id}).scalar()
    if job_key is None:
        raise NotFound("job", job_id)
    row = {
        "id": id,
        "job_id": job_id,
        "number": number,
        "cluster_uid": cluster_uid,
        "node_ids": to_json([]),
        "state": ATTEMPT.initial.value,
        "state_at": now,
        "placed_at": now,
        "waiting": reason_to_text(waiting),
    }
    with refused_as(tx, lambda: StaleState(f"job {job_key} has a live attempt, or one of this id or number {number}")):
        tx.execute(_insert, row)
    record = AttemptRecord(id, job_id, number, cluster_uid, (), ATTEMPT.initial, now, now, waiting=waiting)
    _log(tx, job_key, record, AttemptState.PLACED.value, None, ATTEMPT.initial, now, waiting)
    return record


def set_waiting(tx: Connection, id: str, reason: Reason) -> None:
    """Why the engine has not begun the attempt yet; nothing to record when it has."""
    tx.execute(_set_waiting, {"of": id, "why": reason_to_text(reason)})


def begin(tx: Connection, id: str, began_at: int, node_ids: Sequence[str], now: int) -> bool:
    """The engine that it was handed over to has started it on these nodes: from now on it holds those that nobody holds
    (an engine may put several on one). False when that is recorded, or it is over. Raises NotFound.
    """
    parameters = {"of": id, "at": began_at, "held": to_json(list(node_ids))}
    if rows_changed(tx, _began, parameters) != 1:
        get(tx, id)
        return False
    free = [row[0] for row in tx.execute(_free_of_these, {"node_ids": list(node_ids)})]
    if free:
        tx.execute(_hold, [{"node_id": node_id, "attempt_id": id} for node_id in free])
    started(tx, id, now)
    return True


def get(tx: Connection, id: str) -> AttemptRecord:
    """Raises NotFound."""
    row = first(tx, _get, {"of": id})
    if row is None:
        raise NotFound("attempt", id)
    return _record(row)


def of_job(tx: Connection, job_id: int) -> list[AttemptRecord]:
    """All attempts of a job, the first first."""
    return [_record(row) for row in tx.execute(_of_job, {"job_id": job_id})]


def live(tx: Connection) -> list[AttemptRecord]:
    """Every attempt that may have processes, the oldest first."""
    return [_record(row) for row in tx.execute(_live)]


def overdue(tx: Connection, before: int) -> list[AttemptRecord]:
    """Live attempts whose wall-clock limit, counted from when they got their nodes, was over at that time (Unix ms)."""
    return [_record(row) for row in tx.execute(_overdue, {"before": before})]


def live_of_job(tx: Connection, job_id: int) -> AttemptRecord | None:
    """The job's live attempt, if it has one; it never has two."""
    row = first(tx, _live_of_job, {"job_id": job_id})
    return None if row is None else _record(row)


def live_of_cluster(tx: Connection, cluster_uid: str) -> list[AttemptRecord]:
    """The live attempts on a cluster's nodes, the oldest first."""
    return [_record(row) for row in tx.execute(_live_of_cluster, {"cluster_uid": cluster_uid})]


def lost_of_cluster(tx: Connection, cluster_uid: str, since: int) -> list[AttemptRecord]:
    """The attempts that were lost on a cluster's nodes since then (Unix ms), the first first."""
    return [_record(row) for row in tx.execute(_lost_of_cluster, {"cluster_uid": cluster_uid, "since": since})]


def started(tx: Connection, id: str, now: int) -> bool:
    """The engine started the attempt. False when it is past that (running, stopping or over). Raises NotFound."""
    attempt, job_key = _with_key(tx, id)
    if not ATTEMPT.allows(attempt.state, AttemptEvent.STARTED):
        return False
    after = ATTEMPT.after(attempt.state, AttemptEvent.STARTED)
    _apply(tx, _started, attempt, after, now, {})
    _log(tx, job_key, attempt, AttemptEvent.STARTED.value, attempt.state, after, now)
    return True


def request_stop(
    tx: Connection, id: str, now: int, reason: Reason, after: str, warning: StopWarning | None = None
) -> AttemptRecord:
    """Record that the attempt is to be stopped, why, and whether its job then fails or is queued again.

    Of an attempt that is stopping already the first reason stays, but ``FAIL`` replaces ``REQUEUE``, and a stop without
    a warning one with a warning. An attempt that is over stays as it is. Raises NotFound.
    """
    if after not in (FAIL, REQUEUE):
        raise ValueError(f"after a stop comes {FAIL!r} or {REQUEUE!r}, not {after!r}")
    attempt, job_key = _with_key(tx, id)
    event = AttemptEvent.STOP_REQUESTED
    if ATTEMPT.allows(attempt.state, event):
        state = ATTEMPT.after(attempt.state, event)
        told = None if warning is None else warning.to_json()
        parameters = {
            "why": reason_to_text(reason),
            "follows": after,
            "warned": None if told is None else to_json(told),
        }
        _apply(tx, _request_stop, attempt, state, now, parameters)
        details = {} if told is None else {"warning": told}
        _log(tx, job_key, attempt, event.value, attempt.state, state, now, reason, after=after, **details)
    elif attempt.state is AttemptState.STOPPING and _hastens(attempt, after, warning):
        follows = FAIL if after == FAIL else attempt.after_stop
        tx.execute(_hasten_stop, {"of": id, "follows": follows})
        _log(tx, job_key, attempt, event.value, attempt.state, attempt.state, now, reason, after=follows)
    return get(tx, id)


def _hastens(attempt: AttemptRecord, after: str, warning: StopWarning | None) -> bool:
    """Whether a further request to stop changes anything about the one that there is."""
    sooner = attempt.stop_warning is not None and warning is None
    return sooner or (after == FAIL and attempt.after_stop == REQUEUE)


def finish(
    tx: Connection,
    id: str,
    event: AttemptEvent,
    now: int,
    *,
    exit_code: int | None,
    reason: Reason | None,
    ended_at: int,
    container: dict[str, str] | None = None,
) -> AttemptRecord:
    """The attempt is over: record how, and release its nodes. The image of its container goes into its last event.

    Raises StaleState when it was over already, so that an outcome reported twice is applied once; NotFound.
    """
    attempt, job_key = _with_key(tx, id)
    if attempt.state in ATTEMPT.final:
        raise StaleState(f"attempt {id} is over already: {attempt.state.value}")
    after = ATTEMPT.after(attempt.state, event)
    if after not in ATTEMPT.final:
        raise ValueError(f"{event} does not end an attempt")
    parameters = {"why": reason_to_text(reason), "code": exit_code, "ended": ended_at}
    _apply(tx, _finish, attempt, after, now, parameters)
    tx.execute(_mark_released, {"of": id, "now": now})
    if after in _PROOF_OF_HEALTH:
        tx.execute(_mark_well, {"of": id})
    tx.execute(_release, {"of": id})
    extra: dict[str, Any] = {} if exit_code is None else {"exitCode": exit_code}
    if container:
        extra["container"] = container
    _log(tx, job_key, attempt, event.value, attempt.state, after, now, reason, **extra)
    return AttemptRecord(
        attempt.id,
        attempt.job_id,
        attempt.number,
        attempt.cluster_uid,
        attempt.node_ids,
        after,
        now,
        attempt.placed_at,
        ended_at,
        exit_code,
        reason,
        attempt.stop_reason,
        attempt.after_stop,
        attempt.stop_warning,
        attempt.waiting,
        attempt.began_at,
    )


def _with_key(tx: Connection, id: str) -> tuple[AttemptRecord, str]:
    row = first(tx, _with_job_key, {"of": id})
    if row is None:
        raise NotFound("attempt", id)
    return _record(row[:-1]), row[-1]


def _apply(
    tx: Connection, statement: Any, attempt: AttemptRecord, after: AttemptState, now: int, parameters: dict[str, Any]
) -> None:
    parameters |= {"of": attempt.id, "before": attempt.state.value, "after": after.value, "now": now}
    if rows_changed(tx, statement, parameters) != 1:
        raise StaleState(f"attempt {attempt.id} is no longer {attempt.state.value}")


def _log(
    tx: Connection,
    job_key: str,
    attempt: AttemptRecord,
    event: str,
    before: AttemptState | None,
    to: AttemptState,
    now: int,
    reason: Reason | None = None,
    **details: Any,
) -> None:
    events.append(
        tx,
        kind=events.Kind.ATTEMPT,
        resource_key=job_key,
        event=event,
        from_state=None if before is None else before.value,
        to_state=to.value,
        now=now,
        reason=reason,
        details={"attempt": attempt.number, "attemptId": attempt.id, **details},
    )


def _record(row: Sequence[Any]) -> AttemptRecord:
    (
        id,
        job_id,
        number,
        cluster_uid,
        node_ids,
        state,
        state_at,
        placed_at,
        ended_at,
        exit_code,
        reason,
        stop_reason,
        after_stop,
        stop_warning,
        waiting,
        began_at,
    ) = row
    return AttemptRecord(
        id,
        job_id,
        number,
        cluster_uid,
        tuple(from_json(node_ids)),
        AttemptState(state),
        state_at,
        placed_at,
        ended_at,
        exit_code,
        reason_from_text(reason),
        reason_from_text(stop_reason),
        after_stop,
        StopWarning.from_json(from_json(stop_warning)) if stop_warning else None,
        reason_from_text(waiting),
        began_at,
    )
