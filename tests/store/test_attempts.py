"""Attempts: at most one live a job, a node in at most one, ended once."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from tests.store.helpers import OTHER_REASON, REASON, make_node, ready_cluster
from tests.support.factories import make_cluster, make_job
from trainshed.resources.lifecycle import AttemptEvent, AttemptState, NodeEvent
from trainshed.resources.preemption import StopWarning
from trainshed.store import attempts, events, nodes
from trainshed.store.database import Database
from trainshed.store.errors import NotFound, StaleState
from trainshed.store.records import AttemptRecord, ClusterRecord, JobRecord


def _place(
    tx: Connection, cluster: ClusterRecord, job: JobRecord, id: str, *node_ids: str, number: int = 1
) -> AttemptRecord:
    return attempts.insert(tx, id=id, job_id=job.id, number=number, cluster_uid=cluster.uid, node_ids=node_ids, now=10)


def _end(tx: Connection, id: str, event: AttemptEvent = AttemptEvent.SUCCEEDED) -> AttemptRecord:
    return attempts.finish(tx, id, event, 30, exit_code=0, reason=REASON, ended_at=29)


def test_an_attempt_comes_back_as_it_was_placed(db: Database) -> None:
    cluster = ready_cluster(db)

    def place(tx: Connection) -> tuple[JobRecord, AttemptRecord]:
        job = make_job(tx, cluster)
        return job, _place(tx, cluster, job, "a", "c-n1", "c-n0")

    job, attempt = db.write_sync(place)
    assert attempt.node_ids == ("c-n1", "c-n0")

    def look(tx: Connection) -> None:
        assert attempts.get(tx, "a") == attempt
        assert attempts.of_job(tx, job.id) == [attempt]
        assert attempts.live(tx) == [attempt]
        assert attempts.live_of_cluster(tx, cluster.uid) == [attempt]
        assert attempts.live_of_cluster(tx, "none") == []
        assert attempts.live_of_job(tx, job.id) == attempt
        assert [node.attempt_id for node in nodes.of_cluster(tx, cluster.uid)] == ["a", "a"]
        (event,) = events.page(tx, resource_key=job.key, kind="attempt")
        assert event.details == {"attempt": 1, "attemptId": "a", "nodes": ["c-n1", "c-n0"]}

    db.read_sync(look)


def test_a_second_live_attempt_of_a_job_is_refused_and_the_transaction_goes_on(db: Database) -> None:
    cluster = ready_cluster(db)

    def place(tx: Connection) -> None:
        job = make_job(tx, cluster)
        _place(tx, cluster, job, "a", "c-n0")
        with pytest.raises(StaleState, match="live attempt"):
            _place(tx, cluster, job, "b", "c-n1", number=2)
        _end(tx, "a")
        _place(tx, cluster, job, "b", "c-n1", number=2)

    db.write_sync(place)
    assert [attempt.id for attempt in db.read_sync(attempts.live)] == ["b"]


def test_overdue_are_the_live_ones_past_their_jobs_limit(db: Database) -> None:
    cluster = ready_cluster(db, 3)

    def place(tx: Connection) -> None:
        for index, seconds in enumerate((2.0, 100.0, None)):
            job = make_job(tx, cluster, f"job-{index}", wall_clock_seconds=seconds)
            _place(tx, cluster, job, f"a{index}", f"c-n{index}")  # At 10 ms.

    db.write_sync(place)

    def overdue(before: int) -> list[str]:
        return [attempt.id for attempt in db.read_sync(lambda tx: attempts.overdue(tx, before))]

    assert overdue(2010) == []
    assert overdue(2011) == ["a0"]
    assert overdue(10**9) == ["a0", "a1"]
    db.write_sync(lambda tx: _end(tx, "a0"))
    assert overdue(2011) == []


def test_a_node_in_two_live_attempts_is_refused(db: Database) -> None:
    cluster = ready_cluster(db)

    def place(tx: Connection) -> None:
        first, second = make_job(tx, cluster, "a"), make_job(tx, cluster, "b")
        _place(tx, cluster, first, "a", "c-n0")
        with pytest.raises(StaleState, match="ready and free"):
            _place(tx, cluster, second, "b", "c-n1", "c-n0")
        assert attempts.of_job(tx, second.id) == []
        _end(tx, "a")
        _place(tx, cluster, second, "b", "c-n1", "c-n0")

    db.write_sync(place)


def test_the_database_refuses_both_by_itself(db: Database) -> None:
    cluster = ready_cluster(db)

    def place(tx: Connection) -> None:
        for name in "ab":
            _place(tx, cluster, make_job(tx, cluster, name), name, f"c-n{'ab'.index(name)}")

    db.write_sync(place)
    copy = (
        "INSERT INTO attempts (id, job_id, number, cluster_uid, node_ids, state, state_at, placed_at) "
        "SELECT 'x', job_id, 9, cluster_uid, node_ids, 'running', 1, 1 FROM attempts WHERE id = 'a'"
    )
    for statement in (copy, "UPDATE holdings SET node_id = 'c-n0'"):
        with pytest.raises(IntegrityError):
            db.write_sync(lambda tx, statement=statement: tx.execute(text(statement)))


@pytest.mark.parametrize("why", ["not ready", "absent", "of another cluster", "named twice"])
def test_a_node_that_cannot_run_it_is_refused(db: Database, why: str) -> None:
    cluster = ready_cluster(db)

    def place(tx: Connection) -> None:
        job = make_job(tx, cluster)
        make_node(tx, make_cluster(tx, "other"), 0)
        nodes.apply(tx, "c-n1", NodeEvent.REMOVAL_REQUESTED, 5)
        second = {"not ready": "c-n1", "absent": "c-n7", "of another cluster": "other-n0", "named twice": "c-n0"}[why]
        _place(tx, cluster, job, "a", "c-n0", second)

    with pytest.raises(StaleState, match="ready and free"):
        db.write_sync(place)
    assert db.read_sync(attempts.live) == []


def test_a_gang_of_nobody_is_refused(db: Database) -> None:
    cluster = ready_cluster(db)
    with pytest.raises(ValueError, match="at least one node"):
        db.write_sync(lambda tx: _place(tx, cluster, make_job(tx, cluster), "a"))


def test_started_counts_once_and_not_while_stopping(db: Database) -> None:
    cluster = ready_cluster(db)

    def run(tx: Connection) -> None:
        _place(tx, cluster, make_job(tx, cluster, "a"), "a", "c-n0")
        _place(tx, cluster, make_job(tx, cluster, "b"), "b", "c-n1")
        assert attempts.started(tx, "a", 11) is True
        assert attempts.started(tx, "a", 12) is False
        attempts.request_stop(tx, "b", 13, REASON, attempts.REQUEUE)
        assert attempts.started(tx, "b", 14) is False
        assert (attempts.get(tx, "a").state, attempts.get(tx, "a").state_at) == (AttemptState.RUNNING, 11)
        assert attempts.get(tx, "b").state is AttemptState.STOPPING

    db.write_sync(run)


def test_a_stop_without_a_warning_overtakes_one_with(db: Database) -> None:
    cluster = ready_cluster(db)
    job = db.write_sync(lambda tx: make_job(tx, cluster))
    db.write_sync(lambda tx: _place(tx, cluster, job, "a", "c-n0"))
    warning, other = StopWarning("SIGTERM", 7.5), StopWarning("SIGUSR2", 600.0)

    def stop(at: int, after: str, warned: StopWarning | None) -> tuple[object, ...]:
        db.write_sync(lambda tx: attempts.request_stop(tx, "a", at, REASON, after, warned))
        [attempt] = db.read_sync(attempts.live)
        return attempt.stop_warning, attempt.after_stop

    assert stop(1, attempts.REQUEUE, warning) == (warning, "requeue")
    assert stop(2, attempts.REQUEUE, other) == (warning, "requeue")
    assert stop(3, attempts.REQUEUE, None) == (None, "requeue")
    assert stop(4, attempts.REQUEUE, other) == (None, "requeue")
    assert stop(5, attempts.FAIL, None) == (None, "fail")
    assert db.write_sync(lambda tx: _end(tx, "a", AttemptEvent.STOPPED)).stop_warning is None
    logged = db.read_sync(lambda tx: events.page(tx, resource_key=job.key, kind="attempt"))
    assert [(event.at, event.details.get("warning")) for event in logged if event.event == "stop-requested"] == [
        (1, {"signal": "SIGTERM", "seconds": 7.5}),
        (3, None),
        (5, None),
    ]


def test_the_first_reason_to_stop_stays_and_fail_beats_requeue(db: Database) -> None:
    cluster = ready_cluster(db)
    job = db.write_sync(lambda tx: make_job(tx, cluster))
    db.write_sync(lambda tx: _place(tx, cluster, job, "a", "c-n0"))

    def stop(at: int, after: str) -> tuple[object, ...]:
        attempt = db.write_sync(
            lambda tx: attempts.request_stop(tx, "a", at, REASON if at == 1 else OTHER_REASON, after)
        )
        return attempt.state, attempt.state_at, attempt.stop_reason, attempt.after_stop

    assert stop(1, attempts.REQUEUE) == (AttemptState.STOPPING, 1, REASON, "requeue")
    assert stop(2, attempts.REQUEUE) == (AttemptState.STOPPING, 1, REASON, "requeue")
    assert stop(3, attempts.FAIL) == (AttemptState.STOPPING, 1, REASON, "fail")
    assert stop(4, attempts.REQUEUE) == (AttemptState.STOPPING, 1, REASON, "fail")
    over = db.write_sync(lambda tx: _end(tx, "a", AttemptEvent.STOPPED))
    assert db.write_sync(lambda tx: attempts.request_stop(tx, "a", 40, OTHER_REASON, attempts.FAIL)) == over
    with pytest.raises(ValueError, match="after a stop"):
        db.write_sync(lambda tx: attempts.request_stop(tx, "a", 40, REASON, "wait"))
    logged = db.read_sync(lambda tx: events.page(tx, resource_key=job.key, kind="attempt"))
    assert [(event.event, event.at) for event in logged] == [
        ("placed", 10),
        ("stop-requested", 1),
        ("stop-requested", 3),
        ("stopped", 30),
    ]


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (AttemptEvent.SUCCEEDED, AttemptState.SUCCEEDED),
        (AttemptEvent.FAILED, AttemptState.FAILED),
        (AttemptEvent.STOPPED, AttemptState.STOPPED),
        (AttemptEvent.LOST, AttemptState.LOST),
    ],
)
def test_an_outcome_is_applied_once_and_releases_the_nodes(
    db: Database, event: AttemptEvent, state: AttemptState
) -> None:
    cluster = ready_cluster(db)
    db.write_sync(lambda tx: _place(tx, cluster, make_job(tx, cluster), "a", "c-n0", "c-n1"))
    ended = db.write_sync(lambda tx: _end(tx, "a", event))
    assert (ended.state, ended.state_at, ended.ended_at, ended.exit_code, ended.reason) == (state, 30, 29, 0, REASON)
    assert db.read_sync(lambda tx: attempts.get(tx, "a")) == ended
    assert [node.attempt_id for node in db.read_sync(lambda tx: nodes.of_cluster(tx, cluster.uid))] == [None, None]
    with pytest.raises(StaleState, match="over already"):
        db.write_sync(lambda tx: _end(tx, "a", AttemptEvent.LOST))
    assert db.read_sync(lambda tx: attempts.get(tx, "a")) == ended


def test_finish_takes_only_what_ends_an_attempt(db: Database) -> None:
    cluster = ready_cluster(db)
    db.write_sync(lambda tx: _place(tx, cluster, make_job(tx, cluster), "a", "c-n0"))
    with pytest.raises(ValueError, match="does not end"):
        db.write_sync(lambda tx: _end(tx, "a", AttemptEvent.STARTED))


def test_what_is_not_there_is_not_found(db: Database) -> None:
    cluster = ready_cluster(db)
    for call in (
        lambda tx: attempts.get(tx, "none"),
        lambda tx: attempts.started(tx, "none", 1),
        lambda tx: attempts.request_stop(tx, "none", 1, REASON, attempts.FAIL),
        lambda tx: _end(tx, "none"),
        lambda tx: attempts.insert(tx, id="a", job_id=99, number=1, cluster_uid=cluster.uid, node_ids=["c-n0"], now=1),
    ):
        with pytest.raises(NotFound):
            db.write_sync(call)
