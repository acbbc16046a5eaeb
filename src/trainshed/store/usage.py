"""What attempts used, added up by hour, user and experiment: for fair share and budgets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, text
from sqlalchemy import insert as insert_into
from sqlalchemy import update as update_of

from trainshed.store._statements import rows_changed
from trainshed.store.encoding import from_json
from trainshed.store.tables import attempts, jobs
from trainshed.store.tables import usage as table

HOUR_MS = 3_600_000

_at = (
    table.c.workspace_key == bindparam("workspace"),
    table.c.hour == bindparam("at"),
    table.c.user_id == bindparam("who"),
    table.c.experiment_key == bindparam("experiment"),
    table.c.vm_size == bindparam("size"),
    table.c.vm_priority == bindparam("priority"),
)
_more = update_of(table).where(*_at).values(node_ms=table.c.node_ms + bindparam("ms"))
_insert = insert_into(table).values(
    workspace_key=bindparam("workspace"),
    hour=bindparam("at"),
    user_id=bindparam("who"),
    experiment_key=bindparam("experiment"),
    vm_size=bindparam("size"),
    vm_priority=bindparam("priority"),
    node_ms=bindparam("ms"),
)
_since = (
    select(
        table.c.user_id,
        table.c.experiment_key,
        table.c.hour,
        table.c.vm_size,
        table.c.vm_priority,
        table.c.node_ms,
    )
    .where(table.c.workspace_key == bindparam("workspace"), table.c.hour >= bindparam("since"))
    .order_by(table.c.hour)
)
_running = (
    select(
        jobs.c.id,
        jobs.c.workspace_key,
        func.coalesce(jobs.c.submitted_by, ""),
        jobs.c.experiment_key,
        jobs.c.cluster_uid,
        jobs.c.priority,
        jobs.c.node_count,
        jobs.c.wall_clock_seconds,
        func.coalesce(attempts.c.began_at, attempts.c.placed_at),
        attempts.c.state,
        attempts.c.state_at,
        attempts.c.id,
        attempts.c.waiting.is_not(None),
        attempts.c.stop_warning,
    )
    .join(attempts, attempts.c.job_id == jobs.c.id)
    .where(text("attempts.state IN ('placed', 'running', 'stopping')"))
)


@dataclass(frozen=True, slots=True)
class Used:
    """What one user used for one experiment in the attempts that ended in one hour."""

    user: str
    experiment_key: str
    #: Unix hours.
    hour: int
    vm_size: str
    #: ``dedicated`` or ``lowpriority``.
    vm_priority: str
    node_ms: int


@dataclass(frozen=True, slots=True)
class Holder:
    """A job that holds nodes, with what the scheduler needs of it."""

    job_id: int
    workspace_key: str
    user: str
    experiment_key: str
    cluster_uid: str
    priority: int
    node_count: int
    wall_clock_seconds: float | None
    placed_at: int
    state: str
    state_at: int
    attempt_id: str
    #: It waits in an engine's own queue: it holds its place in limits, and uses nothing.
    waiting: bool = False
    #: Of one that was told to stop: seconds that it has before SIGTERM.
    warned: float = 0.0


def add(
    tx: Connection,
    *,
    workspace_key: str,
    user: str,
    experiment_key: str,
    vm_size: str,
    vm_priority: str,
    ended_at: int,
    node_ms: int,
) -> None:
    """An attempt is over and used so much: milliseconds times nodes."""
    values = {
        "workspace": workspace_key,
        "at": ended_at // HOUR_MS,
        "who": user,
        "experiment": experiment_key,
        "size": vm_size,
        "priority": vm_priority,
        "ms": node_ms,
    }
    if rows_changed(tx, _more, values) == 0:
        tx.execute(_insert, values)


def since(tx: Connection, workspace_key: str, start: int) -> list[Used]:
    """What was used in attempts of the workspace that ended in the hour of ``start`` (Unix ms) or later."""
    return [Used(*row) for row in tx.execute(_since, {"workspace": workspace_key, "since": start // HOUR_MS})]


def holders(tx: Connection) -> list[Holder]:
    """Every job that holds nodes now."""
    return [_holder(*row) for row in tx.execute(_running)]


def _holder(*row: Any) -> Holder:
    *facts, waiting, warning = row
    return replace(Holder(*facts), waiting=bool(waiting), warned=from_json(warning)["seconds"] if warning else 0.0)
