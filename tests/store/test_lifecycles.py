"""The database itself refuses every change of state that its lifecycle does not allow, also by a raw UPDATE."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from tests.support.factories import EXPERIMENT_KEY, WORKSPACE_KEY, make_cluster, make_job, make_parents
from trainshed.resources.lifecycle import (
    ALLOCATION,
    ATTEMPT,
    JOB,
    NODE,
    OPERATION,
    PROVISIONING,
    AllocationState,
    AttemptState,
    JobState,
    Lifecycle,
    NodeState,
    OperationState,
    ProvisioningState,
)
from trainshed.store.database import Database

_COLUMNS = [
    ("workspaces", "state", PROVISIONING, ProvisioningState),
    ("experiments", "state", PROVISIONING, ProvisioningState),
    ("clusters", "state", PROVISIONING, ProvisioningState),
    ("clusters", "allocation", ALLOCATION, AllocationState),
    ("nodes", "state", NODE, NodeState),
    ("jobs", "state", PROVISIONING, ProvisioningState),
    ("jobs", "execution", JOB, JobState),
    ("attempts", "state", ATTEMPT, AttemptState),
    ("operations", "status", OPERATION, OperationState),
]


def _insert_with(tx: Connection, table: str, column: str, state: str) -> None:
    """Make the table's only row anew, in that state."""
    for name in ("holdings", "attempts", "jobs", "nodes", "clusters", "experiments", "workspaces", "operations"):
        tx.execute(text(f"DELETE FROM {name}"))
    values = {
        "workspaces": {"key": WORKSPACE_KEY, "subscription": "s", "resource_group": "g", "name": "w"}
        | {"location": "l", "tags": "{}", "state": "succeeded", "state_at": 1, "created_at": 1, "modified_at": 1},
        "experiments": {"key": EXPERIMENT_KEY, "workspace_key": WORKSPACE_KEY, "name": "e", "state": "succeeded"}
        | {"state_at": 1, "created_at": 1, "modified_at": 1},
        "clusters": {"key": "c", "workspace_key": WORKSPACE_KEY, "name": "c", "uid": "u", "pool": 1, "engine": "local"}
        | {"vm_size": "v", "definition": "{}", "scale": "{}", "state": "creating", "state_at": 1}
        | {"allocation": "steady", "allocation_at": 1, "errors": "[]", "created_at": 1, "modified_at": 1}
        | {"next_ordinal": 0},
        "nodes": {"id": "n", "cluster_uid": "u", "ordinal": 0, "state": "ready", "state_at": 1, "boot": 1}
        | {"host_name": "h", "address": "a"},
        "jobs": {"id": 1, "key": "j", "experiment_key": EXPERIMENT_KEY, "workspace_key": WORKSPACE_KEY}
        | {"cluster_key": "c", "cluster_uid": "u", "name": "j", "uid": "j", "segment": "s", "priority": 0}
        | {"node_count": 1, "tool_type": "custom", "definition": "{}", "state": "succeeded", "state_at": 1}
        | {"execution": "queued", "execution_at": 1, "created_at": 1, "modified_at": 1, "errors": "[]"}
        | {"attempts": 0, "lost_attempts": 0},
        "attempts": {"id": "a", "job_id": 1, "number": 1, "cluster_uid": "u", "node_ids": "[]", "state": "placed"}
        | {"state_at": 1, "placed_at": 1},
        "operations": {"id": "o", "subscription": "s", "location": "l", "resource_id": "r", "verb": "create"}
        | {"resource_key": "k", "status": "InProgress", "started_at": 1},
    }
    parents = {"experiments": 1, "clusters": 1, "nodes": 3, "jobs": 2, "attempts": 5}
    needed = ["workspaces", "experiments", "clusters", "nodes", "jobs"][: parents.get(table, 0)]
    for name in dict.fromkeys([*needed, table]):
        row = dict(values[name])
        if name == table:
            row[column] = state
        names = ", ".join(row)
        tx.execute(text(f"INSERT INTO {name} ({names}) VALUES ({', '.join(':' + key for key in row)})"), row)


@pytest.mark.parametrize(("table", "column", "lifecycle", "states"), _COLUMNS, ids=lambda value: str(value)[:12])
def test_only_the_lifecycles_pairs_are_taken(
    db: Database,
    table: str,
    column: str,
    lifecycle: Lifecycle[object, object],
    states: type,
) -> None:
    taken: set[tuple[str, str]] = set()
    values = [state.value for state in states]
    for before in values:
        for after in values:

            def change(tx: Connection, before: str = before, after: str = after) -> None:
                _insert_with(tx, table, column, before)
                tx.execute(text(f"UPDATE {table} SET {column} = :after"), {"after": after})

            try:
                db.write_sync(change)
            except IntegrityError as exc:
                assert f"{table}.{column} cannot change" in str(exc)
            else:
                if before != after:
                    taken.add((before, after))
    assert taken == lifecycle.pairs


@pytest.mark.parametrize(("table", "column"), [(table, column) for table, column, _, _ in _COLUMNS])
def test_a_state_that_does_not_exist_is_refused(db: Database, table: str, column: str) -> None:
    with pytest.raises(IntegrityError):
        db.write_sync(lambda tx: _insert_with(tx, table, column, "dreaming"))


def test_a_row_below_another_keeps_it(db: Database) -> None:
    def fill(tx: Connection) -> None:
        make_parents(tx)
        make_job(tx, make_cluster(tx))

    db.write_sync(fill)
    for parent in ("workspaces", "experiments"):
        with pytest.raises(IntegrityError):
            db.write_sync(lambda tx, parent=parent: tx.execute(text(f"DELETE FROM {parent}")))
