"""Finding a job by any of its names. ``jobs`` offers these functions as its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Executable, bindparam, select

from trainshed.resources.lifecycle import JobState, ProvisioningState
from trainshed.store._statements import first
from trainshed.store.encoding import from_json, reason_from_text, reasons_from_text
from trainshed.store.errors import NotFound
from trainshed.store.records import JobRecord
from trainshed.store.tables import jobs as table

_get = select(table).where(table.c.key == bindparam("of"))
_get_by_id = select(table).where(table.c.id == bindparam("of"))
_get_by_uid = select(table).where(table.c.uid == bindparam("of"))

_NAMES = [column.name for column in table.c]
_DEFINITION, _STATE, _EXECUTION, _ERRORS, _REQUEUE_REASON = (
    _NAMES.index(name) for name in ("definition", "state", "execution", "errors", "requeue_reason")
)


def get(tx: Connection, key: str) -> JobRecord:
    """By key. Raises NotFound."""
    return _one(tx, _get, key)


def get_by_id(tx: Connection, job_id: int) -> JobRecord:
    """Raises NotFound."""
    return _one(tx, _get_by_id, job_id)


def get_by_uid(tx: Connection, uid: str) -> JobRecord:
    """Raises NotFound."""
    return _one(tx, _get_by_uid, uid)


def record_of(row: Sequence[Any]) -> JobRecord:
    """A row as a value; the columns lie in the order of the record's fields."""
    values = list(row)
    values[_DEFINITION] = from_json(values[_DEFINITION])
    values[_STATE] = ProvisioningState(values[_STATE])
    values[_EXECUTION] = JobState(values[_EXECUTION])
    values[_ERRORS] = reasons_from_text(values[_ERRORS])
    values[_REQUEUE_REASON] = reason_from_text(values[_REQUEUE_REASON])
    return JobRecord(*values)


def _one(tx: Connection, statement: Executable, of: str | int) -> JobRecord:
    row = first(tx, statement, {"of": of})
    if row is None:
        raise NotFound("job", of)
    return record_of(row)
