"""The append-only log of what happened to every resource: what the API, the command line and the portal tell of."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, and_, bindparam, insert, or_, select

from trainshed.resources.reasons import Reason
from trainshed.store.encoding import details_from_text, details_to_text, reason_from_text, reason_to_text
from trainshed.store.records import EventRecord
from trainshed.store.tables import events


class Kind(StrEnum):
    """What an event happened to. Attempts are listed under their job's key, nodes under their cluster's."""

    WORKSPACE = "workspace"
    EXPERIMENT = "experiment"
    CLUSTER = "cluster"
    NODE = "node"
    JOB = "job"
    ATTEMPT = "attempt"
    FILE_SERVER = "fileServer"
    RESOURCE_GROUP = "resourceGroup"


#: Events that are not a lifecycle's.
SUBMITTED = "submitted"
CREATED = "created"

_COLUMNS = [column for column in events.c if column is not events.c.seq]
_append = insert(events).values({column.name: bindparam(column.name) for column in _COLUMNS}).inline()

_page = (
    select(events)
    .where(
        and_(
            events.c.resource_key == bindparam("resource_key"),
            events.c.seq > bindparam("after_seq"),
            events.c.at >= bindparam("since"),
            or_(bindparam("any_kind"), events.c.kind == bindparam("kind")),
        )
    )
    .order_by(events.c.seq)
    .limit(bindparam("limit"))
)


def append(
    tx: Connection,
    *,
    kind: str,
    resource_key: str,
    event: str,
    from_state: str | None,
    to_state: str | None,
    now: int,
    reason: Reason | None = None,
    details: dict[str, Any] | None = None,
) -> None:
    """Add an entry; it is there exactly when the change that it tells of is."""
    tx.execute(
        _append,
        {
            "at": now,
            "kind": kind,
            "resource_key": resource_key,
            "event": event,
            "from_state": from_state,
            "to_state": to_state,
            "reason": reason_to_text(reason),
            "details": details_to_text(details),
        },
    )


def page(
    tx: Connection,
    *,
    resource_key: str,
    kind: str | None = None,
    after_seq: int = 0,
    since: int = 0,
    limit: int = 1000,
) -> list[EventRecord]:
    """Entries of a resource in the order in which they happened.

    ``since`` (Unix ms): give the resource's ``created_at`` to leave out an earlier resource of the same name.
    """
    rows = tx.execute(
        _page,
        {
            "resource_key": resource_key,
            "any_kind": kind is None,
            "kind": kind or "",
            "after_seq": after_seq,
            "since": since,
            "limit": limit,
        },
    )
    return [_record(row) for row in rows]


def _record(row: Sequence[Any]) -> EventRecord:
    seq, at, kind, resource_key, event, from_state, to_state, reason, details = row
    return EventRecord(
        seq, at, kind, resource_key, event, from_state, to_state, reason_from_text(reason), details_from_text(details)
    )
