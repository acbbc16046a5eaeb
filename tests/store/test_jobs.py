"""Jobs: submission, the queue's order, and every change of state."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from tests.store.helpers import OTHER_REASON, REASON, ready_cluster
from tests.support.factories import EXPERIMENT_KEY, make_cluster, make_job, waiting_in
from trainshed.resources.lifecycle import AttemptEvent, ImpossibleTransition, JobEvent, JobState, ProvisioningState
from trainshed.store import attempts, events, experiments, jobs, secrets
from trainshed.store.database import Database
from trainshed.store.errors import AlreadyExists, InUse, NotFound, StaleState
from trainshed.store.records import JobRecord


def _get(db: Database, job: JobRecord) -> JobRecord:
    return db.read_sync(lambda tx: jobs.get_by_id(tx, job.id))


def _story(db: Database, job: JobRecord) -> list[tuple[str, str | None, str | None]]:
    logged = db.read_sync(lambda tx: events.page(tx, resource_key=job.key, kind="job"))
    return [(event.event, event.from_state, event.to_state) for event in logged]


def test_a_job_comes_back_as_it_was_returned(db: Database) -> None:
    cluster = ready_cluster(db)
    job = db.write_sync(lambda tx: make_job(tx, cluster, wall_clock_seconds=0.1, now=1_700_000_000_123))
    assert db.read_sync(lambda tx: jobs.get(tx, job.key)) == job
    assert db.read_sync(lambda tx: jobs.get_by_uid(tx, job.uid)) == job
    assert _get(db, job) == job
    assert _story(db, job) == [("submitted", None, "queued")]
    with pytest.raises(AlreadyExists):
        db.write_sync(lambda tx: make_job(tx, cluster))
    with pytest.raises(InUse):
        db.write_sync(lambda tx: experiments.delete(tx, EXPERIMENT_KEY))


def test_ids_grow_and_are_never_given_again(db: Database) -> None:
    cluster = ready_cluster(db)
    first = db.write_sync(lambda tx: make_job(tx, cluster, "a"))
    second = db.write_sync(lambda tx: make_job(tx, cluster, "b"))
    db.write_sync(lambda tx: jobs.delete(tx, second.id))
    third = db.write_sync(lambda tx: make_job(tx, cluster, "b"))
    assert first.id < second.id < third.id


def test_pages_follow_the_order_of_submission(db: Database) -> None:
    cluster = ready_cluster(db)
    ids = [db.write_sync(lambda tx, n=n: make_job(tx, cluster, f"j{n}")).id for n in (3, 1, 2)]
    assert db.read_sync(lambda tx: jobs.of_experiment_ids(tx, EXPERIMENT_KEY)) == ids
    assert [job.id for job in db.read_sync(lambda tx: jobs.page(tx, EXPERIMENT_KEY, None, 2))] == ids[:2]
    assert [job.id for job in db.read_sync(lambda tx: jobs.page(tx, EXPERIMENT_KEY, ids[1], 2))] == ids[2:]


def test_the_queue_goes_by_priority_then_submission(db: Database) -> None:
    cluster = ready_cluster(db)

    def submit(tx: Connection) -> list[JobRecord]:
        other = make_cluster(tx, "other")
        make_job(tx, other, "elsewhere", priority=1000)
        priorities = (0, -1000, 0, 1000, 0)
        return [make_job(tx, cluster, f"j{n}", priority=priority) for n, priority in enumerate(priorities)]

    submitted = db.write_sync(submit)
    order = [submitted[n] for n in (3, 0, 2, 4, 1)]

    def look(tx: Connection) -> None:
        head = waiting_in(tx, cluster)
        assert [(job.id, job.key, job.name, job.priority, job.node_count, job.queued_at) for job in head] == [
            (job.id, job.key, job.name, job.priority, 1, job.execution_at) for job in order
        ]
        assert len(head) == 5 and [job.id for job in waiting_in(tx, cluster, first=2)] == [job.id for job in head]
        assert [jobs.queue_ahead(tx, job, 1) for job in order] == [(0, None), *((n, head[0]) for n in range(1, 5))]

    db.read_sync(look)
    assert len(db.read_sync(jobs.clusters_with_queue)) == 2
    db.write_sync(lambda tx: jobs.request_deletion(tx, order[0].id, 5))
    db.write_sync(lambda tx: jobs.place(tx, order[1].id, 5, "a"))
    assert [job.id for job in db.read_sync(lambda tx: waiting_in(tx, cluster))] == [job.id for job in order[2:]]


def test_clusters_with_a_queue_are_found_also_when_they_are_gone(db: Database) -> None:
    cluster = ready_cluster(db)

    def submit(tx: Connection) -> tuple[str, ...]:
        uids = [cluster.uid]
        for name in ("d", "e", "f"):
            uids.append(make_cluster(tx, name).uid)
        for n, uid in enumerate((*uids, *uids)):
            job = make_job(tx, cluster, f"j{n}")
            tx.exec_driver_sql(f"UPDATE jobs SET cluster_uid = '{uid}' WHERE id = {job.id}")
        tx.exec_driver_sql("DELETE FROM clusters WHERE name = 'e'")
        return tuple(uids)

    uids = db.write_sync(submit)
    assert db.read_sync(jobs.clusters_with_queue) == sorted(uids)


def test_no_queue_no_clusters(db: Database) -> None:
    cluster = ready_cluster(db)
    assert db.read_sync(jobs.clusters_with_queue) == []
    assert db.read_sync(lambda tx: waiting_in(tx, cluster)) == []


def test_a_requeued_job_keeps_its_place_and_counts_its_attempts(db: Database) -> None:
    cluster = ready_cluster(db)
    job, later = db.write_sync(lambda tx: (make_job(tx, cluster, "a"), make_job(tx, cluster, "b")))
    db.write_sync(lambda tx: jobs.place(tx, job.id, 10, "first"))
    placed = _get(db, job)
    assert (placed.execution, placed.execution_at, placed.started_at) == (JobState.RUNNING, 10, 10)
    assert (placed.attempts, placed.lost_attempts) == (1, 0)
    db.write_sync(lambda tx: jobs.requeue(tx, job.id, 11, REASON, lost=True))
    queued = _get(db, job)
    assert (queued.execution, queued.started_at, queued.requeue_reason) == (JobState.QUEUED, None, REASON)
    assert (queued.attempts, queued.lost_attempts) == (1, 1)
    assert [item.id for item in db.read_sync(lambda tx: waiting_in(tx, cluster))] == [
        job.id,
        later.id,
    ]
    db.write_sync(lambda tx: jobs.place(tx, job.id, 12, "second"))
    db.write_sync(lambda tx: jobs.requeue(tx, job.id, 13, OTHER_REASON, lost=False))
    assert (_get(db, job).attempts, _get(db, job).lost_attempts) == (2, 1)
    assert [event for event, _, _ in _story(db, job)] == ["submitted", "placed", "requeued", "placed", "requeued"]


def test_a_job_ends_once(db: Database) -> None:
    cluster = ready_cluster(db)
    job = db.write_sync(lambda tx: make_job(tx, cluster))

    def run(tx: Connection) -> None:
        jobs.place(tx, job.id, 10, "a")
        jobs.finish(tx, job.id, JobEvent.FAILED, 21, exit_code=3, errors=[REASON], ended_at=20, started_at=12)

    db.write_sync(run)
    ended = _get(db, job)
    assert (ended.execution, ended.execution_at, ended.exit_code, ended.errors) == (JobState.FAILED, 21, 3, (REASON,))
    assert (ended.started_at, ended.ended_at, ended.modified_at) == (12, 20, job.modified_at)
    for call in (
        lambda tx: jobs.finish(tx, job.id, JobEvent.SUCCEEDED, 30, exit_code=0, errors=(), ended_at=30),
        lambda tx: jobs.requeue(tx, job.id, 30, REASON, lost=True),
    ):
        with pytest.raises(ImpossibleTransition):
            db.write_sync(call)
    with pytest.raises(StaleState, match="failed"):
        db.write_sync(lambda tx: jobs.place(tx, job.id, 30, "b"))
    assert _get(db, job) == ended


def test_finish_takes_only_what_ends_a_job(db: Database) -> None:
    cluster = ready_cluster(db)
    job = db.write_sync(lambda tx: make_job(tx, cluster))
    with pytest.raises(ValueError, match="does not end"):
        db.write_sync(lambda tx: jobs.finish(tx, job.id, JobEvent.PLACED, 1, exit_code=0, errors=(), ended_at=1))


def test_termination_is_asked_for_once_and_never_of_a_job_that_is_over(db: Database) -> None:
    cluster = ready_cluster(db)
    job = db.write_sync(lambda tx: make_job(tx, cluster))
    stopping = db.write_sync(lambda tx: jobs.request_termination(tx, job.id, 5))
    assert (stopping.execution, stopping.execution_at) == (JobState.TERMINATING, 5)
    assert db.write_sync(lambda tx: jobs.request_termination(tx, job.id, 6)) == stopping
    assert db.read_sync(jobs.ending) == [stopping]
    db.write_sync(
        lambda tx: jobs.finish(tx, job.id, JobEvent.FAILED, 7, exit_code=None, errors=[OTHER_REASON], ended_at=7)
    )
    over = _get(db, job)
    assert (over.started_at, over.exit_code) == (None, None)
    assert db.write_sync(lambda tx: jobs.request_termination(tx, job.id, 8)) == over
    assert db.read_sync(jobs.ending) == []
    assert [event for event, _, _ in _story(db, job)] == ["submitted", "terminate-requested", "failed"]


def test_a_job_to_be_deleted_waits_no_more(db: Database) -> None:
    cluster = ready_cluster(db)
    job = db.write_sync(lambda tx: make_job(tx, cluster))
    asked = db.write_sync(lambda tx: jobs.request_deletion(tx, job.id, 5))
    assert (asked.state, asked.state_at, asked.execution) == (ProvisioningState.DELETING, 5, JobState.QUEUED)
    assert db.write_sync(lambda tx: jobs.request_deletion(tx, job.id, 6)) == asked
    assert db.read_sync(jobs.ending) == [asked]
    assert db.read_sync(jobs.clusters_with_queue) == []
    with pytest.raises(StaleState, match="deleting"):
        db.write_sync(lambda tx: jobs.place(tx, job.id, 7, "a"))


def test_deletion_takes_attempts_and_secrets_but_no_live_attempt(db: Database) -> None:
    cluster = ready_cluster(db)

    def run(tx: Connection) -> JobRecord:
        job = make_job(tx, cluster)
        secrets.put(tx, job.uid, {"/secrets/0": b"sealed"})
        attempts.insert(tx, id="a", job_id=job.id, number=1, cluster_uid=cluster.uid, node_ids=["c-n0"], now=5)
        return job

    job = db.write_sync(run)
    with pytest.raises(InUse):
        db.write_sync(lambda tx: jobs.delete(tx, job.id))
    db.write_sync(lambda tx: attempts.finish(tx, "a", AttemptEvent.LOST, 6, exit_code=None, reason=REASON, ended_at=6))
    db.write_sync(lambda tx: jobs.delete(tx, job.id))
    with pytest.raises(NotFound):
        _get(db, job)
    assert db.read_sync(lambda tx: attempts.of_job(tx, job.id)) == []
    assert db.read_sync(lambda tx: secrets.get(tx, job.uid)) == {}
    assert _story(db, job) == [("submitted", None, "queued")]


def test_jobs_of_a_cluster_and_counts(db: Database) -> None:
    cluster = ready_cluster(db)
    a, b, c = db.write_sync(lambda tx: [make_job(tx, cluster, name) for name in "abc"])
    db.write_sync(lambda tx: jobs.place(tx, b.id, 5, "x"))
    db.write_sync(lambda tx: jobs.request_termination(tx, c.id, 5))

    def names(*states: JobState) -> list[str]:
        return [job.name for job in db.read_sync(lambda tx: jobs.of_cluster(tx, cluster.uid, states))]

    assert names(JobState.QUEUED, JobState.RUNNING) == ["a", "b"]
    assert names(JobState.TERMINATING) == ["c"]
    assert names() == []
    counts = db.read_sync(jobs.counts_by_state)
    assert counts == dict.fromkeys(JobState, 0) | {
        JobState.QUEUED: 1,
        JobState.RUNNING: 1,
        JobState.TERMINATING: 1,
    }
    assert a.execution is JobState.QUEUED


def test_what_is_not_there_is_not_found(db: Database) -> None:
    for call in (
        lambda tx: jobs.get(tx, "none"),
        lambda tx: jobs.get_by_id(tx, 9),
        lambda tx: jobs.get_by_uid(tx, "none"),
        lambda tx: jobs.place(tx, 9, 1, "a"),
        lambda tx: jobs.requeue(tx, 9, 1, REASON, lost=False),
        lambda tx: jobs.finish(tx, 9, JobEvent.FAILED, 1, exit_code=None, errors=(), ended_at=1),
        lambda tx: jobs.request_termination(tx, 9, 1),
        lambda tx: jobs.request_deletion(tx, 9, 1),
        lambda tx: jobs.delete(tx, 9),
    ):
        with pytest.raises(NotFound):
            db.write_sync(call)
