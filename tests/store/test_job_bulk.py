"""All jobs of an experiment at once."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, event

from tests.store.helpers import ready_cluster
from tests.support.factories import EXPERIMENT_KEY, WORKSPACE_KEY, make_job
from trainshed.resources.lifecycle import (
    AttemptEvent,
    JobEvent,
    OperationState,
    OperationVerb,
    ProvisioningState,
)
from trainshed.store import attempts, events, experiments, job_bulk, jobs, operations, secrets
from trainshed.store.database import Database
from trainshed.store.records import ExperimentRecord, JobRecord, OperationRecord

pytestmark = pytest.mark.slow

OTHER = f"{WORKSPACE_KEY}/other"


def fill(tx: Connection, cluster: Any, count: int) -> list[JobRecord]:
    """Jobs with a secret and an ended attempt each; the last one still runs. One more in another experiment."""
    made = []
    for number in range(count):
        job = make_job(tx, cluster, f"job{number}")
        secrets.put(tx, job.uid, {"/secrets/0": b"sealed"})
        jobs.place(tx, job.id, 2, f"a{number}")
        attempts.insert(tx, id=f"a{number}", job_id=job.id, number=1, cluster_uid=cluster.uid, node_ids=["c-n0"], now=2)
        if number < count - 1:
            attempts.finish(tx, f"a{number}", AttemptEvent.SUCCEEDED, 3, exit_code=0, reason=None, ended_at=3)
            jobs.finish(tx, job.id, JobEvent.SUCCEEDED, 3, exit_code=0, errors=(), ended_at=3)
        made.append(job)
    return made


@pytest.fixture
def filled(db: Database) -> list[JobRecord]:
    """Four jobs of ``exp``, the last one running."""
    cluster = ready_cluster(db)

    def make(tx: Connection) -> list[JobRecord]:
        made = fill(tx, cluster, 4)
        experiments.insert(tx, ExperimentRecord(OTHER, WORKSPACE_KEY, "other", ProvisioningState.SUCCEEDED, 1, 1, 1))
        return made

    return db.write_sync(make)


def test_every_job_is_asked_to_go_once_with_its_event(db: Database, filled: list[JobRecord]) -> None:
    db.write_sync(lambda tx: jobs.request_deletion(tx, filled[0].id, 5))
    assert db.write_sync(lambda tx: job_bulk.request_deletion(tx, EXPERIMENT_KEY, 7)) == 3
    assert db.write_sync(lambda tx: job_bulk.request_deletion(tx, EXPERIMENT_KEY, 8)) == 0
    for number, job in enumerate(filled):
        record = db.read_sync(lambda tx, job=job: jobs.get_by_id(tx, job.id))
        assert (record.state, record.state_at) == (ProvisioningState.DELETING, 7 if number else 5)
        logged = db.read_sync(lambda tx, job=job: events.page(tx, resource_key=job.key, kind="job"))[-1]
        assert (logged.event, logged.from_state, logged.to_state, logged.at, logged.reason, logged.details) == (
            "delete-requested", "succeeded", "deleting", 7 if number else 5, None, {},
        )  # fmt: skip


def test_those_that_hold_no_node_go_with_all_that_is_theirs(db: Database, filled: list[JobRecord]) -> None:
    def prepare(tx: Connection) -> None:
        job_bulk.request_deletion(tx, EXPERIMENT_KEY, 7)
        for job in (filled[0], filled[3]):
            for verb in (OperationVerb.DELETE_JOB, OperationVerb.CREATE_JOB):
                operations.insert(
                    tx,
                    OperationRecord(f"{verb}-{job.name}", "s", "l", "r", verb, job.key, OperationState.IN_PROGRESS, 1),
                )

    db.write_sync(prepare)
    assert db.write_sync(lambda tx: job_bulk.delete_idle(tx, EXPERIMENT_KEY, 9, limit=100)) == 3
    assert db.read_sync(lambda tx: [job.name for job in jobs.page(tx, EXPERIMENT_KEY, None, 10)]) == ["job3"]
    assert db.read_sync(lambda tx: [bool(secrets.get(tx, job.uid)) for job in filled]) == [False] * 3 + [True]
    assert db.read_sync(lambda tx: attempts.live_of_job(tx, filled[3].id)) is not None
    assert db.read_sync(lambda tx: operations.get(tx, "delete-job-job0")).ended_at == 9
    assert {operation.id for operation in db.read_sync(operations.in_progress)} == {
        "create-job-job0", "delete-job-job3", "create-job-job3",
    }  # fmt: skip
    assert db.read_sync(lambda tx: events.page(tx, resource_key=filled[0].key)) != []
    assert db.read_sync(lambda tx: job_bulk.any_of(tx, EXPERIMENT_KEY)) is True


def test_only_those_that_were_asked_to_go(db: Database, filled: list[JobRecord]) -> None:
    assert db.write_sync(lambda tx: job_bulk.delete_idle(tx, EXPERIMENT_KEY, 9, limit=100)) == 0
    db.write_sync(lambda tx: job_bulk.request_deletion(tx, OTHER, 7))
    assert db.write_sync(lambda tx: job_bulk.delete_idle(tx, OTHER, 9, limit=100)) == 0
    assert db.read_sync(lambda tx: len(jobs.page(tx, EXPERIMENT_KEY, None, 10))) == 4
    assert db.read_sync(lambda tx: job_bulk.any_of(tx, OTHER)) is False


def test_the_oldest_first_in_bounded_steps(db: Database, filled: list[JobRecord]) -> None:
    db.write_sync(lambda tx: job_bulk.request_deletion(tx, EXPERIMENT_KEY, 7))
    left = []
    for _ in range(3):
        db.write_sync(lambda tx: job_bulk.delete_idle(tx, EXPERIMENT_KEY, 9, limit=2))
        left.append(db.read_sync(lambda tx: [job.name for job in jobs.page(tx, EXPERIMENT_KEY, None, 10)]))
    assert left == [["job2", "job3"], ["job3"], ["job3"]]


def test_the_number_of_statements_does_not_grow_with_the_jobs(db: Database) -> None:
    cluster = ready_cluster(db)

    def taken(tx: Connection) -> int:
        statements: list[str] = []

        def note(conn: object, cursor: object, statement: str, *_: object) -> None:
            statements.append(statement)

        event.listen(tx, "before_cursor_execute", note)
        job_bulk.request_deletion(tx, EXPERIMENT_KEY, 7)
        job_bulk.delete_idle(tx, EXPERIMENT_KEY, 9, limit=1000)
        event.remove(tx, "before_cursor_execute", note)
        return len(statements)

    def run(tx: Connection, count: int) -> int:
        for number in range(count):
            make_job(tx, cluster, f"of{count}-{number}")
        return taken(tx)

    few = db.write_sync(lambda tx: run(tx, 2))
    many = db.write_sync(lambda tx: run(tx, 100))
    assert few == many <= 8
