"""What jobs wait for, and their turns in arrays: on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from tests.store.helpers import ready_cluster
from tests.support.factories import EXPERIMENT_KEY, make_job
from trainshed.resources.conditions import Condition
from trainshed.resources.lifecycle import JobEvent, JobState
from trainshed.store import dependencies, experiments, job_arrays, job_bulk, jobs
from trainshed.store.database import Database
from trainshed.store.errors import AlreadyExists, StaleState
from trainshed.store.records import JobRecord

AFTER, OK, ANY = Condition.AFTER, Condition.AFTER_OK, Condition.AFTER_ANY


@pytest.fixture
def made(db: Database) -> list[JobRecord]:
    """Four jobs; the last two wait for the first two."""
    cluster = ready_cluster(db)

    def make(tx: Connection) -> list[JobRecord]:
        found = [make_job(tx, cluster, name) for name in "abcd"]
        a, b, c, d = found
        dependencies.insert(tx, c.id, [(a.id, AFTER, "a"), (a.id, OK, "a"), (b.id, ANY, "b"), (b.id, ANY, "B")])
        dependencies.insert(tx, d.id, [(a.id, OK, "a")])
        return found

    return db.write_sync(make)


def blocked(db: Database, job: JobRecord) -> int:
    return db.read_sync(lambda tx: jobs.get_by_id(tx, job.id).blocked)


def test_conditions_are_counted_and_met_for_all_who_wait(db: Database, made: list[JobRecord]) -> None:
    a, b, c, d = made
    assert [blocked(db, job) for job in made] == [0, 0, 3, 1]
    assert db.write_sync(lambda tx: dependencies.meet(tx, a.id, [AFTER])) == 1
    assert db.write_sync(lambda tx: dependencies.meet(tx, a.id, [AFTER, OK])) == 2
    assert [blocked(db, c), blocked(db, d)] == [1, 0]
    [rest] = db.read_sync(lambda tx: dependencies.unmet(tx, c.id))
    assert (rest.on_job_id, rest.condition, rest.execution, rest.attempts) == (b.id, "afterAny", JobState.QUEUED, 0)
    assert db.write_sync(lambda tx: dependencies.meet(tx, a.id, [AFTER, OK, ANY])) == 0


def test_who_waits_is_in_no_queue_and_is_not_placed(db: Database, made: list[JobRecord]) -> None:
    c = made[2]
    uid = c.cluster_uid
    assert [job.name for job in db.read_sync(lambda tx: list(jobs.walk(tx, uid, now=1, max_nodes=9, first=9)))] == [
        "a",
        "b",
    ]
    assert [job.name for job in db.read_sync(lambda tx: jobs.blocked(tx, uid, 9))] == ["d", "c"]
    with pytest.raises(StaleState, match="does not wait for nodes"):
        db.write_sync(lambda tx: jobs.place(tx, c.id, 1, "attempt"))


def test_what_is_decided_is_found(db: Database, made: list[JobRecord]) -> None:
    a, b, c, d = made
    assert db.read_sync(lambda tx: dependencies.decided(tx, 9)) == []
    db.write_sync(lambda tx: jobs.place(tx, a.id, 1, "attempt"))
    assert db.read_sync(lambda tx: dependencies.decided(tx, 9)) == [a.id]
    db.write_sync(lambda tx: dependencies.meet(tx, a.id, [AFTER]))
    # It has started, and nobody waits for that any more.
    assert db.read_sync(lambda tx: dependencies.decided(tx, 9)) == []
    db.write_sync(lambda tx: jobs.finish(tx, a.id, JobEvent.FAILED, 1, exit_code=1, errors=(), ended_at=1))
    db.write_sync(lambda tx: jobs.delete(tx, b.id))
    assert db.read_sync(lambda tx: dependencies.decided(tx, 9)) == [a.id, b.id]
    assert db.read_sync(lambda tx: dependencies.decided(tx, 1)) == [a.id]
    [gone] = db.read_sync(lambda tx: dependencies.waiting_on(tx, b.id))
    assert (gone.job_id, gone.on_name, gone.execution, gone.attempts) == (c.id, "B", None, None)
    assert [each.job_id for each in db.read_sync(lambda tx: dependencies.waiting_on(tx, a.id))] == [c.id, d.id]


def test_conditions_go_with_the_job_that_has_them(db: Database, made: list[JobRecord]) -> None:
    db.write_sync(lambda tx: jobs.delete(tx, made[3].id))
    db.write_sync(lambda tx: dependencies.clear(tx, made[2].id))
    assert blocked(db, made[2]) == 0
    assert db.read_sync(lambda tx: dependencies.waiting_on(tx, made[0].id)) == []


def test_all_of_an_experiment_go_together(db: Database, made: list[JobRecord]) -> None:
    db.write_sync(lambda tx: job_bulk.request_deletion(tx, EXPERIMENT_KEY, 1))
    assert db.write_sync(lambda tx: job_bulk.delete_idle(tx, EXPERIMENT_KEY, 1, 100)) == 4
    assert db.read_sync(lambda tx: dependencies.decided(tx, 9)) == []


def test_turns_are_given_in_order_and_beside_other_conditions(db: Database) -> None:
    cluster = ready_cluster(db)
    key = f"{EXPERIMENT_KEY}/sweep"

    def make(tx: Connection) -> tuple[int, list[JobRecord]]:
        array = job_arrays.insert(
            tx, key=key, experiment_key=EXPERIMENT_KEY, name="sweep", definition={"a": 1}, limit=2, now=7
        )
        other = make_job(tx, cluster, "other")
        members = [make_job(tx, cluster, f"sweep-{n}", array_id=array.id, waits_turn=int(n >= 2)) for n in range(5)]
        dependencies.insert(tx, members[2].id, [(other.id, OK, "other")])
        return array.id, members

    array, members = db.write_sync(make)
    found = db.read_sync(lambda tx: job_arrays.get(tx, key))
    assert (found.id, found.definition, found.max_running, found.created_at) == (array, {"a": 1}, 2, 7)
    assert [blocked(db, job) for job in members] == [0, 0, 2, 1, 1]
    assert db.read_sync(lambda tx: job_arrays.room(tx, array)) == 0
    assert db.read_sync(job_arrays.with_line) == [array]
    for job in members[:2]:
        db.write_sync(
            lambda tx, id_=job.id: jobs.finish(tx, id_, JobEvent.FAILED, 1, exit_code=1, errors=(), ended_at=1)
        )
    assert db.read_sync(lambda tx: job_arrays.room(tx, array)) == 2
    db.write_sync(lambda tx: job_arrays.release(tx, array, 2))
    assert [blocked(db, job) for job in members] == [0, 0, 1, 0, 1]
    assert db.read_sync(lambda tx: job_arrays.room(tx, array)) == 0
    counts = db.read_sync(lambda tx: job_arrays.counts(tx, array))
    assert (counts[JobState.FAILED], counts[JobState.QUEUED]) == (2, 3)
    with pytest.raises(AlreadyExists):
        db.write_sync(
            lambda tx: job_arrays.insert(
                tx, key=key, experiment_key=EXPERIMENT_KEY, name="Sweep", definition={}, limit=None, now=1
            )
        )
    db.write_sync(lambda tx: [jobs.delete(tx, id_) for id_ in jobs.of_experiment_ids(tx, EXPERIMENT_KEY)])
    db.write_sync(lambda tx: experiments.delete(tx, EXPERIMENT_KEY))
    assert db.read_sync(lambda tx: job_arrays.page(tx, EXPERIMENT_KEY, None, 9)) == []
