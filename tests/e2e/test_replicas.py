"""Several processes of the service on one PostgreSQL: one controls, whatever is killed or frozen."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live_service import custom
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.replicas import Nursery, Replica, Site, site, wait_for
from trainshed.client import Client
from trainshed.resources.lifecycle import JobState
from trainshed.store import clusters, jobs

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

#: Seconds of a lease; and by how much a take-over may come later: a process that is ready has to get the CPU.
LEASE, LATE = 2.0, 1.0
#: Seconds between two kills of the leader, and how many there are.
EVERY = float(os.environ.get("TRAINSHED_TEST_KILL_EVERY", "3.5"))
KILLS = int(os.environ.get("TRAINSHED_TEST_KILLS", "6"))


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A private server."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """What starts processes."""
    made = Nursery()
    yield made
    made.close()


@pytest.fixture
def shared(postgres: PostgresServer, nursery: Nursery, tmp_path: Path) -> Iterator[Site]:
    """A home and a database, without any process."""
    with site(nursery, tmp_path / "home", postgres.url(postgres.create()), LEASE) as made:
        yield made


def _make_cluster(client: Client, nodes: int) -> str:
    client.workspaces.create("default", location="local")
    client.experiments.create("default")
    client.clusters.create(
        "c",
        {
            "vmSize": "STANDARD_D1",
            "scaleSettings": {"manual": {"targetNodeCount": nodes}},
            "userAccountSettings": {"adminUserName": "tester", "adminUserPassword": "only-for-tests-1"},
        },
    )
    wait_for(lambda: client.clusters.get("c").nodes_in("idle") == nodes, "idle nodes")
    return str(client.clusters.get("c").id)


def _noting(path: Path, job: str, seconds: float) -> str:
    """A command that notes its start and its end, each by one write to the end of the file."""
    return f"bash -c 'echo {job} start >> {path}; sleep {seconds}; echo {job} end >> {path}'"


def _notes(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for line in path.read_text().splitlines():
        job, what = line.split()
        found[job].append(what)
    return found


def test_the_leader_is_killed_again_and_again_under_load(shared: Site, tmp_path: Path) -> None:
    apis = [shared.start("--role", "api"), shared.start("--role", "api")]
    for _ in range(2):
        shared.start("--role", "controller")
    for replica in shared.replicas:
        assert replica.ready()["status"] == "ready"
    cluster = _make_cluster(apis[0].client, 4)
    notes, submitted, over = tmp_path / "notes", [], threading.Event()
    notes.touch()

    def load() -> None:
        """About as many jobs as the nodes can run, by both processes in turn."""
        for number, api in zip(itertools.count(), itertools.cycle(apis)):
            if over.wait(0.15):
                return
            name = f"j{number}"
            api.client.jobs.create(name, custom(_noting(notes, name, 0.3), cluster))
            submitted.append(name)

    thread = threading.Thread(target=load)
    thread.start()
    gaps = []
    try:
        for _ in range(KILLS):
            leader = shared.leader()
            wait_for(lambda one=leader: _stands_by(shared, one), "a process that stands by")
            before = shared.lease_now()
            seen = len(notes.read_bytes())
            wait_for(lambda seen=seen: len(notes.read_bytes()) > seen, "a job that runs")
            assert before is not None
            killed = time.time()
            leader.kill()
            shared.start("--role", "controller")
            now = wait_for(lambda old=before.token: _taken_over(shared, old), "a take-over")
            gaps.append(now - killed)
            over.wait(max(0.0, killed + EVERY - time.time()))
    finally:
        over.set()
        thread.join()

    def all_over() -> bool:
        counts = shared.db.read_sync(jobs.counts_by_state)
        return counts.get(JobState.SUCCEEDED, 0) + counts.get(JobState.FAILED, 0) == len(submitted)

    wait_for(all_over, "the end of all jobs", 90)
    print(f"{len(submitted)} jobs, take-overs after {', '.join(f'{gap:.2f}' for gap in gaps)} s")
    # Nothing but controllers died, so each job ran once, from its start to its end.
    assert _notes(notes) == {name: ["start", "end"] for name in submitted}
    uid = shared.db.read_sync(clusters.all)[0].uid
    succeeded = shared.db.read_sync(lambda tx: jobs.of_cluster(tx, uid, (JobState.SUCCEEDED,)))
    assert {job.name: job.attempts for job in succeeded} == dict.fromkeys(submitted, 1)
    assert max(gaps) <= LEASE + LATE


def _told(shared: Site) -> int | None:
    try:
        return int(json.loads((shared.home / "service.json").read_text())["pid"])
    except FileNotFoundError:
        return None


def _stands_by(shared: Site, leader: Replica) -> bool:
    others = [one for one in shared.controllers if one is not leader and one.alive]
    return any(one.ready()["role"] == "standby" for one in others)


def _taken_over(shared: Site, token: int) -> float | None:
    """When (Unix s) somebody else got the lease."""
    lease = shared.lease_now()
    return lease.acquired_at / 1000 if lease is not None and lease.token > token and lease.held else None


def test_a_leader_that_was_frozen_changes_nothing_when_it_goes_on(shared: Site, tmp_path: Path) -> None:
    """It has connections, events in hand and jobs to start when somebody else takes over."""
    api = shared.start("--role", "api")
    first = shared.start("--role", "controller")
    wait_for(lambda: first.ready()["role"] == "leader", "a leader")
    cluster = _make_cluster(api.client, 2)
    notes = tmp_path / "notes"
    notes.touch()
    names = [f"j{number}" for number in range(12)]
    for name in names[:6]:
        api.client.jobs.create(name, custom(_noting(notes, name, 0.5), cluster))
    second = shared.start("--role", "controller")
    wait_for(lambda: second.ready()["role"] == "standby", "a process that stands by")
    first.freeze()
    assert shared.leader(but=first) is second
    for name in names[6:]:
        api.client.jobs.create(name, custom(_noting(notes, name, 0.2), cluster))
    wait_for(lambda: notes.read_text().count("end") > 3, "jobs that end under the other leader")
    token = shared.lease_now()
    first.go_on()
    wait_for(lambda: "leads no more" in first.log.read_text(), "the end of the former leader's term")
    wait_for(lambda: first.ready()["role"] == "standby", "the former leader to stand by")
    wait_for(lambda: shared.db.read_sync(jobs.counts_by_state).get(JobState.SUCCEEDED) == len(names), "all jobs")
    after = shared.lease_now()
    assert token is not None
    assert after is not None
    assert (after.token, after.holder) == (token.token, token.holder)
    assert _notes(notes) == {name: ["start", "end"] for name in names}


def test_a_clean_stop_gives_the_lease_back_and_jobs_go_on(shared: Site, tmp_path: Path) -> None:
    # A lease that would keep the other one waiting for longer than this test waits.
    shared.lease = 60.0
    one = shared.start()
    cluster = _make_cluster(one.client, 1)
    other = shared.start()
    wait_for(lambda: other.ready()["role"] == "standby", "a process that stands by")
    assert "pid" in other.ready()["leader"]
    assert "trainshed_leader 0.0" in other.get("/metrics").text
    # What the one that stands by takes in, the leader is woken for at once; and both can say why a job waits.
    before = time.monotonic()
    other.client.jobs.create("j", custom("sleep 4", cluster))
    wait_for(lambda: other.client.jobs.get("j").execution_state is JobState.RUNNING, "the job")
    assert time.monotonic() - before < 4.0
    other.client.jobs.create("k", custom("true", cluster))
    why = other.client.jobs.get("k").why_waiting
    assert why is not None
    assert why == one.client.jobs.get("k").why_waiting
    assert why.code not in ("NoActiveController", "EngineUnavailable")
    assert one.stop() == 0
    assert shared.leader(but=one) is other
    wait_for(lambda: other.client.jobs.get("k").execution_state is JobState.SUCCEEDED, "the job that waited")
    assert [attempt.get("state") for attempt in other.client.jobs.attempts("j")] == ["succeeded"]
    assert "trainshed_leader 1.0" in other.get("/metrics").text
    wait_for(lambda: _told(shared) == other.pid, "a file that names the process that is left")
