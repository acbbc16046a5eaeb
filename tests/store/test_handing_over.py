"""Jobs that an engine with a queue of its own has: queued for users, in no queue of ours, with a live attempt."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from tests.store.helpers import OTHER_REASON, REASON, ready_cluster
from tests.support.factories import make_job
from trainshed.resources.lifecycle import AttemptEvent, AttemptState, JobEvent, JobState
from trainshed.store import attempts, jobs, nodes, usage
from trainshed.store.database import Database
from trainshed.store.errors import InUse, NotFound, StaleState
from trainshed.store.records import ClusterRecord, JobRecord


def _hand_over(tx: Connection, cluster: ClusterRecord, job: JobRecord, id: str, number: int = 1) -> None:
    attempts.hand_over(tx, id=id, job_id=job.id, number=number, cluster_uid=cluster.uid, waiting=REASON, now=10)
    jobs.hand_over(tx, job.id, 10, id)


def _queued(tx: Connection, cluster: ClusterRecord) -> list[int]:
    return [job.id for job in jobs.walk(tx, cluster.uid, now=100, max_nodes=100, first=10)]


def test_it_is_in_no_queue_until_it_comes_back(db: Database) -> None:
    cluster = ready_cluster(db)

    def work(tx: Connection) -> None:
        first, second = make_job(tx, cluster, "first"), make_job(tx, cluster, "second")
        _hand_over(tx, cluster, first, "a")
        assert _queued(tx, cluster) == [second.id]
        assert [job.id for job in jobs.handed_over(tx, cluster.uid, 10)] == [first.id]
        assert jobs.handed_over(tx, cluster.uid, 0) == []
        handed = jobs.get_by_id(tx, first.id)
        assert (handed.execution, handed.attempts, handed.begun) == (JobState.QUEUED, 1, 0)
        attempt = attempts.get(tx, "a")
        assert attempt == attempts.live_of_job(tx, first.id)
        assert (attempt.waiting, attempt.node_ids, attempt.handed_over, attempt.since) == (REASON, (), True, 10)
        assert [holder.waiting for holder in usage.holders(tx)] == [True]
        with pytest.raises(StaleState, match="does not wait"):
            jobs.hand_over(tx, first.id, 10, "a")
        attempts.finish(tx, "a", AttemptEvent.LOST, 20, exit_code=None, reason=OTHER_REASON, ended_at=20)
        jobs.requeue(tx, first.id, 20, OTHER_REASON, lost=True)
        assert _queued(tx, cluster) == [first.id, second.id]
        assert jobs.get_by_id(tx, first.id).handed_over == 0
        _hand_over(tx, cluster, jobs.get_by_id(tx, first.id), "b", 2)

    db.write_sync(work)


def test_it_begins_once_on_nodes_that_it_holds(db: Database) -> None:
    cluster = ready_cluster(db)

    def work(tx: Connection) -> None:
        job, other = make_job(tx, cluster), make_job(tx, cluster, "other")
        _hand_over(tx, cluster, job, "a")
        attempts.set_waiting(tx, "a", OTHER_REASON)
        assert attempts.get(tx, "a").waiting == OTHER_REASON
        assert attempts.overdue(tx, 10**12) == []
        assert attempts.begin(tx, "a", 50, ("c-n1", "c-n0"), 60)
        assert jobs.begin(tx, job.id, 60, "a", 50)
        began = attempts.get(tx, "a")
        assert (began.state, began.waiting, began.since) == (AttemptState.RUNNING, None, 50)
        assert began.node_ids == ("c-n1", "c-n0")
        assert [node.attempt_id for node in nodes.of_cluster(tx, cluster.uid)] == ["a", "a"]
        running = jobs.get_by_id(tx, job.id)
        assert (running.execution, running.started_at, running.begun) == (JobState.RUNNING, 50, 1)
        assert [(holder.waiting, holder.placed_at) for holder in usage.holders(tx)] == [(False, 50)]
        # The wall clock counts from there.
        assert attempts.overdue(tx, 50 + 3_600_000) == []
        assert [attempt.id for attempt in attempts.overdue(tx, 51 + 3_600_000)] == ["a"]
        assert not attempts.begin(tx, "a", 70, (), 70)
        assert not jobs.begin(tx, job.id, 70, "a", 70)
        attempts.set_waiting(tx, "a", OTHER_REASON)
        assert attempts.get(tx, "a").waiting is None
        with pytest.raises(NotFound):
            attempts.begin(tx, "none", 1, (), 1)
        # An engine may put several on one node: the first one holds it here.
        _hand_over(tx, cluster, other, "b")
        assert attempts.begin(tx, "b", 55, ("c-n1",), 60)
        assert [node.attempt_id for node in nodes.of_cluster(tx, cluster.uid)] == ["a", "a"]

    db.write_sync(work)


def test_a_second_live_attempt_is_refused(db: Database) -> None:
    cluster = ready_cluster(db)

    def work(tx: Connection) -> None:
        job = make_job(tx, cluster)
        _hand_over(tx, cluster, job, "a")
        with pytest.raises(StaleState, match="live attempt"):
            attempts.hand_over(tx, id="b", job_id=job.id, number=2, cluster_uid=cluster.uid, waiting=REASON, now=10)
        with pytest.raises(NotFound):
            attempts.hand_over(tx, id="b", job_id=999, number=1, cluster_uid=cluster.uid, waiting=REASON, now=10)

    db.write_sync(work)


def test_one_that_never_began_can_fail(db: Database) -> None:
    cluster = ready_cluster(db)

    def work(tx: Connection) -> None:
        job = make_job(tx, cluster)
        _hand_over(tx, cluster, job, "a")
        attempts.finish(tx, "a", AttemptEvent.FAILED, 20, exit_code=None, reason=REASON, ended_at=20)
        jobs.finish(tx, job.id, JobEvent.FAILED, 20, exit_code=None, errors=(REASON,), ended_at=20)
        assert jobs.handed_over(tx, cluster.uid, 10) == []
        assert jobs.get_by_id(tx, job.id).handed_over == 0

    db.write_sync(work)


def test_a_node_that_an_engine_does_not_show_any_more_is_forgotten_when_free(db: Database) -> None:
    cluster = ready_cluster(db)

    def work(tx: Connection) -> None:
        job = make_job(tx, cluster)
        _hand_over(tx, cluster, job, "a")
        attempts.begin(tx, "a", 50, ("c-n0",), 60)
        with pytest.raises(InUse):
            nodes.delete(tx, "c-n0")
        attempts.finish(tx, "a", AttemptEvent.SUCCEEDED, 70, exit_code=0, reason=None, ended_at=70)
        nodes.delete(tx, "c-n0")
        assert [node.id for node in nodes.of_cluster(tx, cluster.uid)] == ["c-n1"]
        with pytest.raises(NotFound):
            nodes.delete(tx, "c-n0")

    db.write_sync(work)
