"""Clusters on an engine that queues by itself: what is handed over, what is mirrored, and who runs again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection

from tests.control.queueing import NODE_FAIL, Site
from tests.support.factories import WORKSPACE_KEY, make_cluster, make_job
from tests.support.simulated_engine import IN_QUEUE
from trainshed.engines.protocol import GangResult, NodeCondition
from trainshed.resources.conditions import Condition
from trainshed.resources.lifecycle import AttemptState, JobState, NodeState, ProvisioningEvent
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import (
    attempts,
    clusters,
    dependencies,
    draining,
    events,
    jobs,
    meta,
    nodes,
    principals,
    usage,
)
from trainshed.store.records import JobRecord, PrincipalRecord

pytestmark = pytest.mark.slow

PRIORITY = Reason(ReasonCode.WAITING_BEHIND_JOBS, "Reason=Priority", {"said": "Priority"})
PREEMPTED = Reason(ReasonCode.PREEMPTED, "Slurm: PREEMPTED.")


def test_a_job_is_handed_over_at_once_and_runs_when_the_engine_says(on_site: Any) -> None:
    async def scenario(site: Site) -> None:
        cluster = await site.cluster(nodes=4)
        assert site.hpc.clusters[cluster.uid].options == {"partition": "gpu"}
        assert site.hpc.clusters[cluster.uid].max_nodes == 4
        for name in ("n1", "n2"):
            site.hpc.show_node(cluster.uid, name)
        job = await site.job(cluster, nodes=2, priority=1000)
        attempt = await site.handed(job)
        spec = site.hpc.specs[attempt.id]
        assert (spec.node_ids, spec.node_count, spec.priority, spec.engine) == ((), 2, 1000, "hpc")
        site.hpc.wait(attempt.id, PRIORITY)
        await site.world.until(lambda tx: attempts.get(tx, attempt.id).waiting == PRIORITY)
        waiting = await site.now(job)
        assert (waiting.execution, waiting.handed_over, waiting.started_at) == (JobState.QUEUED, 1, None)
        assert await site.why(job) == PRIORITY
        listed = await site.world.db.read(lambda tx: site.world.controller.queue(tx, cluster, 10))
        assert [(one.position, one.job.id, one.reason) for one in listed] == [(1, job.id, PRIORITY)]
        site.hpc.begin(attempt.id, "n2", "n1", at=1234)
        running = await site.until_state(job, JobState.RUNNING)
        assert (running.started_at, running.handed_over) == (1234, 0)
        attempt = await site.world.db.read(lambda tx: attempts.get(tx, attempt.id))
        ids = tuple(f"tvm-{cluster.pool}_{name}" for name in ("n2", "n1"))
        assert (attempt.state, attempt.node_ids, attempt.waiting) == (AttemptState.RUNNING, ids, None)
        counts = await site.world.db.read(lambda tx: clusters.node_counts(tx, cluster.uid))
        assert (counts["running"], counts["idle"]) == (2, 0)
        site.hpc.end(attempt.id, GangResult.SUCCEEDED, exit_code=0)
        await site.until_state(job, JobState.SUCCEEDED)
        await site.world.until(lambda tx: attempt.id in site.hpc.forgotten)
        assert attempt.id not in site.world.engine.specs
        counts = await site.world.db.read(lambda tx: clusters.node_counts(tx, cluster.uid))
        assert (counts["running"], counts["idle"]) == (0, 2)

    on_site(scenario)


def test_one_that_ends_between_two_looks_has_run(on_site: Any) -> None:
    async def scenario(site: Site) -> None:
        cluster = await site.cluster()
        good, bad = await site.job(cluster, "good"), await site.job(cluster, "bad")
        first, second = await site.handed(good), await site.handed(bad)
        site.hpc.end(first.id, GangResult.SUCCEEDED, exit_code=0)
        site.hpc.gangs[second.id] = replace(site.hpc.gangs[second.id], waiting=None, started_at=5)
        failed = Reason(ReasonCode.JOB_FAILED, "exit 3")
        site.hpc.end(second.id, GangResult.FAILED, exit_code=3, reason=failed)
        assert (await site.until_state(good, JobState.SUCCEEDED)).started_at == 1
        ended = await site.until_state(bad, JobState.FAILED)
        assert (ended.exit_code, ended.started_at, ended.errors[0].code) == (3, 5, ReasonCode.JOB_FAILED)

    on_site(scenario)


def test_what_the_engine_queues_again_is_the_next_attempt(on_site: Any) -> None:
    async def scenario(site: Site) -> None:
        cluster = await site.cluster()
        site.hpc.show_node(cluster.uid, "n1")
        job = await site.job(cluster)
        first = await site.handed(job)
        site.hpc.begin(first.id, "n1")
        await site.until_state(job, JobState.RUNNING)
        site.hpc.end_again(first.id, NODE_FAIL)
        second = await site.handed(job, 2)
        assert site.hpc.taken_up == [second.id]
        lost = await site.now(job)
        assert (lost.execution, lost.lost_attempts, lost.requeue_reason) == (JobState.QUEUED, 1, NODE_FAIL)
        site.hpc.begin(second.id, "n1")
        await site.until_state(job, JobState.RUNNING)
        site.hpc.end_again(second.id, PREEMPTED, GangResult.STOPPED)
        third = await site.handed(job, 3)
        again = await site.now(job)
        assert (again.lost_attempts, again.preemptions) == (1, 1)
        site.hpc.begin(third.id, "n1")
        await site.until_state(job, JobState.RUNNING)
        site.hpc.end(third.id, GangResult.SUCCEEDED, exit_code=0)
        await site.until_state(job, JobState.SUCCEEDED)
        told = await site.world.db.read(lambda tx: attempts.of_job(tx, job.id))
        states = [AttemptState.LOST, AttemptState.STOPPED, AttemptState.SUCCEEDED]
        assert [attempt.state for attempt in told] == states
        # The engine's nodes are not ours to blame.
        node = await site.world.db.read(lambda tx: nodes.of_cluster(tx, cluster.uid)[0])
        assert (node.state, node.losses) == (NodeState.READY, ())

    on_site(scenario)


def test_what_nobody_wants_any_more_is_not_taken_up(on_site: Any) -> None:
    async def scenario(site: Site) -> None:
        cluster = await site.cluster()
        job = await site.job(cluster)
        attempt = await site.handed(job)
        site.hpc.begin(attempt.id)
        await site.until_state(job, JobState.RUNNING)
        site.hpc.ignore_stops = True
        now = site.world.clock.now
        await site.world.write(lambda tx: jobs.request_termination(tx, job.id, now))
        await site.world.until(lambda tx: attempts.get(tx, attempt.id).state is AttemptState.STOPPING)
        site.hpc.end_again(attempt.id, NODE_FAIL)
        ended = await site.until_state(job, JobState.FAILED)
        assert ended.errors[0].code is ReasonCode.JOB_TERMINATED
        await site.world.until(lambda tx: attempt.id in site.hpc.forgotten)
        assert site.hpc.queued_again == {} and site.hpc.taken_up == []

    on_site(scenario)


def test_a_job_that_waits_there_can_be_terminated(on_site: Any) -> None:
    async def scenario(site: Site) -> None:
        cluster = await site.cluster()
        job = await site.job(cluster)
        attempt = await site.handed(job)
        now = site.world.clock.now
        await site.world.write(lambda tx: jobs.request_termination(tx, job.id, now))
        ended = await site.until_state(job, JobState.FAILED)
        assert ended.errors[0].code is ReasonCode.JOB_TERMINATED
        assert [one for one, _ in site.hpc.stopped] == [attempt.id]
        used = await site.world.db.read(lambda tx: usage.since(tx, WORKSPACE_KEY, 0))
        assert sum(one.node_ms for one in used) == 0

    on_site(scenario)


def test_one_that_was_cancelled_there_ends_with_that_reason(on_site: Any) -> None:
    async def scenario(site: Site) -> None:
        cluster = await site.cluster()
        job = await site.job(cluster)
        attempt = await site.handed(job)
        cancelled = Reason(ReasonCode.JOB_TERMINATED, "It was cancelled in Slurm.")
        site.hpc.end(attempt.id, GangResult.FAILED, reason=cancelled)
        ended = await site.until_state(job, JobState.FAILED)
        assert ended.errors == (cancelled,)

    on_site(scenario)


def test_many_are_handed_over(on_site: Any) -> None:
    async def scenario(site: Site) -> None:
        cluster = await site.cluster(nodes=100)
        await site.world.write(lambda tx: [make_job(tx, cluster, f"j{number}", nodes=100) for number in range(12)])
        await site.world.until(lambda tx: len(site.hpc.gangs) == 12)
        assert len(site.hpc.started) == len(set(site.hpc.started))

    on_site(scenario)


def test_nodes_are_seen_not_made(on_site: Any) -> None:
    async def scenario(site: Site) -> None:
        cluster = await site.cluster()
        site.hpc.show_node(cluster.uid, "n1")
        site.hpc.show_node(cluster.uid, "n2", NodeCondition.PREPARING)

        def states(tx: Connection) -> dict[str, NodeState]:
            return {node.host_name: node.state for node in nodes.of_cluster(tx, cluster.uid)}

        ready, preparing, unusable = NodeState.READY, NodeState.PREPARING, NodeState.UNUSABLE
        await site.world.until(lambda tx: states(tx) == {"n1": ready, "n2": preparing})
        down = Reason(ReasonCode.NODES_UNUSABLE, "n1 is DOWN")
        site.hpc.change("n1", NodeCondition.UNUSABLE, reason=down)
        site.hpc.change("n2", NodeCondition.READY)
        await site.world.until(lambda tx: states(tx) == {"n1": unusable, "n2": ready})
        await site.world.until(lambda tx: clusters.get(tx, cluster.key).errors == (down,))
        site.hpc.change("n1", NodeCondition.READY)
        site.hpc.hide_node("n2")
        await site.world.until(lambda tx: states(tx) == {"n1": ready})
        site.hpc.show_node(cluster.uid, "n2")
        await site.world.until(lambda tx: states(tx) == {"n1": ready, "n2": ready})
        assert site.world.engine.nodes == {}

    on_site(scenario)


def test_deleting_the_cluster_ends_what_waits_and_runs_there(on_site: Any) -> None:
    async def scenario(site: Site) -> None:
        cluster = await site.cluster()
        site.hpc.show_node(cluster.uid, "n1")
        running, waiting = await site.job(cluster, "running"), await site.job(cluster, "waiting")
        attempt = await site.handed(running)
        await site.handed(waiting)
        site.hpc.begin(attempt.id, "n1")
        await site.until_state(running, JobState.RUNNING)
        event = ProvisioningEvent.DELETE_REQUESTED
        await site.world.write(lambda tx: clusters.apply_provisioning(tx, cluster.key, event, 2))
        for job in (running, waiting):
            assert (await site.until_state(job, JobState.FAILED)).errors[0].code is ReasonCode.CLUSTER_DELETED
        await site.world.until(lambda tx: cluster.uid not in clusters.uids(tx))
        await site.world.until(lambda tx: cluster.uid not in site.hpc.clusters)

    on_site(scenario)


def test_a_service_that_comes_again_finds_what_waits(on_site: Any) -> None:
    async def scenario(site: Site) -> None:
        cluster = await site.cluster()
        job = await site.job(cluster)
        attempt = await site.handed(job)
        await site.world.controller.stop()
        site.hpc.begin(attempt.id)
        site.world.controller = site.world.make_controller()
        await site.world.controller.start()
        await site.until_state(job, JobState.RUNNING)
        assert site.hpc.started == [attempt.id]

    on_site(scenario)


def test_an_engine_that_is_away_stops_only_its_own(on_site: Any) -> None:
    async def scenario(site: Site) -> None:
        cluster = await site.cluster()
        site.hpc.show_node(cluster.uid, "n1")
        running, waiting = await site.job(cluster, "running"), await site.job(cluster, "waiting")
        attempt = await site.handed(running)
        await site.handed(waiting)
        site.hpc.begin(attempt.id, "n1")
        await site.until_state(running, JobState.RUNNING)
        site.hpc.down = True
        await site.world.until(lambda tx: "hpc" in (meta.get(tx, "engines away") or ""))
        late = await site.job(cluster, "late")
        here = await site.world.write(lambda tx: make_cluster(tx, "here", nodes=1))
        own = await site.job(here, "own")
        await site.until_state(own, JobState.RUNNING)
        for job in (waiting, late):
            why = await site.why(job)
            assert why.code is ReasonCode.ENGINE_UNAVAILABLE and "hpc" in why.text
        assert IN_QUEUE.text in (await site.why(waiting)).text
        assert (await site.now(running)).execution is JobState.RUNNING
        left = await site.world.db.read(lambda tx: nodes.of_cluster(tx, cluster.uid))
        assert [node.state for node in left] == [NodeState.READY]
        assert site.world.controller.engine_available
        site.hpc.down = False
        await site.handed(late)
        assert await site.why(waiting) == IN_QUEUE
        assert len(site.hpc.started) == 3

    on_site(scenario)


def test_the_service_s_own_engine_away_is_no_reason_for_jobs_elsewhere(on_site: Any) -> None:
    async def scenario(site: Site) -> None:
        there = await site.cluster()
        here = await site.world.write(lambda tx: make_cluster(tx, "here", nodes=1))
        site.world.engine.down = True
        controller = site.world.controller
        await site.world.until(lambda tx: not controller.engine_available)
        elsewhere, own = await site.job(there, "elsewhere"), await site.job(here, "own")
        attempt = await site.handed(elsewhere)
        site.hpc.wait(attempt.id, PRIORITY)
        await site.world.until(lambda tx: attempts.get(tx, attempt.id).waiting == PRIORITY)
        # What a leader writes beside its lease, for those who only answer.
        assert controller.engines_reached
        for job, code in ((elsewhere, PRIORITY.code), (own, ReasonCode.ENGINE_UNAVAILABLE)):
            assert (await site.why(job)).code is code

    on_site(scenario)


def test_a_job_that_waits_for_its_start_waits_for_the_engine(on_site: Any) -> None:
    """``after``: another job is to have started. Being in an engine's queue is not that."""

    async def scenario(site: Site) -> None:
        cluster = await site.cluster()
        first = await site.job(cluster, "first")

        def make(tx: Connection) -> JobRecord:
            second = make_job(tx, cluster, "second")
            dependencies.insert(tx, second.id, [(first.id, Condition.AFTER, "first")])
            return second

        attempt = await site.handed(first)
        second = await site.world.write(make)
        site.hpc.wait(attempt.id, PRIORITY)
        await site.world.until(lambda tx: attempts.get(tx, attempt.id).waiting == PRIORITY)
        assert (await site.why(second)).code is ReasonCode.WAITING_FOR_DEPENDENCIES
        site.hpc.begin(attempt.id)
        await site.handed(second)

    on_site(scenario)


def test_a_service_that_drains_hands_over_nothing_more(on_site: Any) -> None:
    async def scenario(site: Site) -> None:
        cluster = await site.cluster()
        job = await site.job(cluster)
        attempt = await site.handed(job)
        site.hpc.begin(attempt.id)
        await site.until_state(job, JobState.RUNNING)
        await site.world.write(lambda tx: draining.request(tx, "drain"))
        late = await site.job(cluster, "late")
        site.hpc.end_again(attempt.id, NODE_FAIL)
        await site.world.until(lambda tx: (drain := draining.last(tx)) is not None and drain.done)
        # The engine is asked after that was recorded.
        await site.world.until(lambda tx: site.hpc.queued_again == {})
        assert site.hpc.started == [attempt.id]
        for one in (job, late):
            assert (await site.why(one)).code is ReasonCode.SERVICE_DRAINING
        await site.world.write(draining.take_back)
        await site.handed(job, 2)
        await site.handed(late)

    on_site(scenario)


def test_the_story_is_told(on_site: Any) -> None:
    async def scenario(site: Site) -> None:
        cluster = await site.cluster()
        job = await site.job(cluster)
        attempt = await site.handed(job)
        site.hpc.begin(attempt.id)
        site.hpc.end(attempt.id, GangResult.SUCCEEDED, exit_code=0)
        await site.until_state(job, JobState.SUCCEEDED)
        told = await site.world.db.read(
            lambda tx: [event.event for event in events.page(tx, resource_key=job.key, since=0, limit=20)]
        )
        assert told == ["submitted", "placed", "handed-over", "started", "placed", "succeeded", "succeeded"]

    on_site(scenario)


def test_the_engine_is_told_who_submitted_a_job(on_site: Any) -> None:
    async def scenario(site: Site) -> None:
        cluster = await site.cluster()
        ann = PrincipalRecord("ann-id", "User", "ann@example.org", "Ann", None, None, None, 1)
        await site.world.write(lambda tx: principals.insert(tx, ann))
        by = {name: await site.job(cluster, f"by-{name}", submitted_by=name) for name in ("ann-id", "gone", None)}
        told = {name: site.hpc.specs[(await site.handed(job)).id] for name, job in by.items()}
        assert {name: gang.submitter for name, gang in told.items()} == {"ann-id": ann.name, "gone": "", None: ""}

    on_site(scenario)
