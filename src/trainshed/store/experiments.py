"""Experiments: folders of jobs in a workspace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select
from sqlalchemy import insert as insert_into

from trainshed.resources.lifecycle import ProvisioningEvent, ProvisioningState
from trainshed.store._provisioning import Provisioned
from trainshed.store._statements import first, refused_as
from trainshed.store.errors import AlreadyExists, NotFound
from trainshed.store.events import Kind
from trainshed.store.records import ExperimentRecord
from trainshed.store.tables import DELETING
from trainshed.store.tables import experiments as table

_provisioned = Provisioned(table, Kind.EXPERIMENT)

_insert = insert_into(table).inline()
_get = select(table).where(table.c.key == bindparam("of"))
_of_workspace = select(table).where(table.c.workspace_key == bindparam("workspace_key")).order_by(table.c.key)
_page = _of_workspace.where(table.c.key > bindparam("after")).limit(bindparam("limit"))
_deleting = select(table).where(DELETING).order_by(table.c.key)


def insert(tx: Connection, experiment: ExperimentRecord) -> None:
    """Store a new experiment. Raises AlreadyExists; the workspace must exist."""
    with refused_as(tx, lambda: AlreadyExists("experiment", experiment.key)):
        tx.execute(
            _insert,
            {
                "key": experiment.key,
                "workspace_key": experiment.workspace_key,
                "name": experiment.name,
                "state": experiment.state.value,
                "state_at": experiment.state_at,
                "created_at": experiment.created_at,
                "modified_at": experiment.modified_at,
            },
        )
    _provisioned.created(tx, experiment.key, experiment.state, experiment.created_at)


def get(tx: Connection, key: str) -> ExperimentRecord:
    """Raises NotFound."""
    row = first(tx, _get, {"of": key})
    if row is None:
        raise NotFound("experiment", key)
    return _record(row)


def page(tx: Connection, workspace_key: str, after: str | None, limit: int) -> list[ExperimentRecord]:
    """Experiments of a workspace in the order of their keys, after the key ``after``."""
    rows = tx.execute(_page, {"workspace_key": workspace_key, "after": after or "", "limit": limit})
    return [_record(row) for row in rows]


def of_workspace(tx: Connection, workspace_key: str) -> list[ExperimentRecord]:
    """All experiments of a workspace."""
    return [_record(row) for row in tx.execute(_of_workspace, {"workspace_key": workspace_key})]


def apply(tx: Connection, key: str, event: ProvisioningEvent, now: int) -> ExperimentRecord:
    """Change the provisioning state. Raises NotFound, ImpossibleTransition."""
    _provisioned.apply(tx, key, event, now)
    return get(tx, key)


def deleting(tx: Connection) -> list[ExperimentRecord]:
    """Experiments whose deletion was asked for."""
    return [_record(row) for row in tx.execute(_deleting)]


def delete(tx: Connection, key: str) -> None:
    """Remove an empty experiment. Raises NotFound, InUse while it has jobs."""
    _provisioned.delete(tx, key)


def _record(row: Sequence[Any]) -> ExperimentRecord:
    key, workspace_key, name, state, state_at, created_at, modified_at = row
    return ExperimentRecord(key, workspace_key, name, ProvisioningState(state), state_at, created_at, modified_at)
