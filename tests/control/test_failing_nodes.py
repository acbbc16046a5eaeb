"""Nodes that die, are taken away, fail their setup, or let attempts die: what becomes of them, and of the jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection

from tests.control.conftest import World
from tests.control.test_clusters import scale_to, steady
from tests.control.test_jobs import Run, in_state, started
from tests.support.factories import make_cluster, make_job
from trainshed.control.nodes import take_away
from trainshed.engines.protocol import GangResult, NodeCondition
from trainshed.resources.lifecycle import AttemptState, JobState, NodeState
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import attempts, clusters, events, jobs, nodes
from trainshed.store.records import AttemptRecord, ClusterRecord, JobRecord, NodeRecord

pytestmark = pytest.mark.slow

MINUTE = 60_000
BROKEN = Reason(ReasonCode.SETUP_TASK_FAILED, "The setup task ended with exit code 3.")


async def lose(world: World, job: JobRecord) -> AttemptRecord:
    """The job's attempt is lost with its first node, and settled."""
    attempt = await started(world, job)
    reason = Reason(ReasonCode.NODE_LOST, f"Node {attempt.node_ids[0]} died.", {"node": attempt.node_ids[0]})
    world.engine.end(attempt.id, GangResult.LOST, reason=reason)
    await world.until(lambda tx: attempts.get(tx, attempt.id).state is AttemptState.LOST)
    return attempt


async def restarted(world: World, job: JobRecord, number: int) -> AttemptRecord:
    """The attempt of this number, once the engine runs it."""
    await world.until(lambda tx: (live := attempts.live_of_job(tx, job.id)) and live.number == number)
    return await started(world, job)


async def succeed(world: World, job: JobRecord) -> None:
    attempt = await started(world, job)
    world.engine.end(attempt.id, GangResult.SUCCEEDED, exit_code=0)
    await world.until(in_state(job, JobState.SUCCEEDED))


def limits(world: World, **changed: int) -> None:
    for name, value in changed.items():
        object.__setattr__(world.settings, name, value)


async def cluster_of(world: World, count: int, **more: Any) -> ClusterRecord:
    cluster = await world.write(lambda tx: make_cluster(tx, nodes=count, **more))
    await world.until(steady(cluster, count))
    return cluster


async def submit(world: World, cluster: ClusterRecord, name: str, **more: Any) -> JobRecord:
    return await world.write(lambda tx: make_job(tx, cluster, name, **more))


async def node_of(world: World, node_id: str) -> NodeRecord:
    return await world.db.read(lambda tx: nodes.get(tx, node_id))


def why_it_left(tx: Connection, cluster: ClusterRecord, node_id: str) -> Reason | None:
    """As the cluster's story tells; None as long as the node is wanted."""
    told = events.page(tx, resource_key=cluster.key, kind=events.Kind.NODE)
    left = (one for one in told if one.details.get("node") == node_id and one.to_state == NodeState.LEAVING.value)
    return next((one.reason for one in left), None)


def codes(cluster: ClusterRecord) -> Callable[[Connection], list[ReasonCode]]:
    return lambda tx: [error.code for error in clusters.get_by_uid(tx, cluster.uid).errors]


def showing(cluster: ClusterRecord, *wanted: ReasonCode) -> Callable[[Connection], bool]:
    return lambda tx: codes(cluster)(tx) == list(wanted)


def test_a_lost_job_runs_on_another_node(run: Run) -> None:
    async def scenario(world: World) -> None:
        cluster = await cluster_of(world, 2)
        job = await submit(world, cluster, "job")
        first = await lose(world, job)
        second = await started(world, job)
        assert (second.number, set(first.node_ids) & set(second.node_ids)) == (2, set())

    run(scenario)


def test_a_node_on_which_attempts_of_several_jobs_die_is_taken_out_named_and_replaced(run: Run) -> None:
    async def scenario(world: World) -> None:
        cluster = await cluster_of(world, 1)
        one, two = [await submit(world, cluster, name) for name in ("one", "two")]
        lost = await lose(world, one)
        bad = lost.node_ids[0]
        await lose(world, one)
        limits(world, lost_attempts_limit=20)
        await world.write(lambda tx: None)
        await succeed(world, one)
        assert (await node_of(world, bad)).losses == (), "an attempt that ended by itself shows that the node is well"
        await lose(world, two)
        three = await submit(world, cluster, "three", priority=1000)
        await lose(world, two)
        await lose(world, three)
        node = await world.until(lambda tx: (found := nodes.get(tx, bad)).state is NodeState.UNUSABLE and found)
        assert node.reason is not None and node.reason.code is ReasonCode.ATTEMPTS_DIE_ON_NODE
        assert "of two" in node.reason.text and "of three" in node.reason.text
        await world.until(showing(cluster, ReasonCode.ATTEMPTS_DIE_ON_NODE, ReasonCode.NODE_REPLACEMENT_SCHEDULED))
        # That the engine starts it again does not bring it back.
        world.engine.change(bad, NodeCondition.PREPARING, boot=2)
        world.engine.change(bad, NodeCondition.READY)
        world.clock.now += MINUTE
        again = await started(world, three)
        assert again.node_ids[0] != bad
        await world.until(lambda tx: bad not in world.engine.nodes)

    run(scenario)


def test_a_job_that_kills_its_nodes_is_stopped_and_the_nodes_stay(run: Run) -> None:
    async def scenario(world: World) -> None:
        limits(world, lost_attempts_limit=20)
        cluster = await cluster_of(world, 3)
        job = await submit(world, cluster, "killer")
        lost = []
        while (await world.db.read(lambda tx: jobs.get_by_id(tx, job.id))).execution is not JobState.FAILED:
            lost.append(await lose(world, job))
            await succeed(world, await submit(world, cluster, f"other-{len(lost)}"))
        assert 5 <= len(lost) <= 10
        done = await world.until(in_state(job, JobState.FAILED))
        assert done is not None and done.errors[0].code is ReasonCode.JOB_KILLS_NODES
        assert all(attempt.node_ids[0] in done.errors[0].text for attempt in lost)
        members = await world.db.read(lambda tx: nodes.of_cluster(tx, cluster.uid))
        assert [(node.state, node.losses) for node in members] == [(NodeState.READY, ())] * 3

    run(scenario)


def test_a_wide_job_alone_in_a_cluster_that_is_hit_is_not_blamed(run: Run) -> None:
    async def scenario(world: World) -> None:
        limits(world, lost_attempts_limit=20)
        cluster = await cluster_of(world, 3)
        job = await submit(world, cluster, "wide", nodes=3)
        for number in range(1, 9):
            attempt = await restarted(world, job, number)
            node = attempt.node_ids[number % 3]
            reason = Reason(ReasonCode.RUNNER_LOST, "Its runner died.", {"node": node})
            world.engine.end(attempt.id, GangResult.LOST, reason=reason)
        await restarted(world, job, 9)
        await succeed(world, job)
        members = await world.db.read(lambda tx: nodes.of_cluster(tx, cluster.uid))
        assert [(node.state, node.losses) for node in members] == [(NodeState.READY, ())] * 3

    run(scenario)


def test_where_others_lose_attempts_too_no_job_is_to_blame(run: Run) -> None:
    async def scenario(world: World) -> None:
        limits(world, lost_attempts_limit=20, node_losses_limit=100)
        cluster = await cluster_of(world, 3)
        job, other = await submit(world, cluster, "job"), await submit(world, cluster, "other")
        await lose(world, job)
        await lose(world, other)
        for _ in range(6):
            await lose(world, job)
        await succeed(world, job)

    run(scenario)


def test_an_evicted_node_loses_its_attempt_and_the_job_is_not_counted(run: Run) -> None:
    async def scenario(world: World) -> None:
        cluster = await cluster_of(world, 1)
        job = await submit(world, cluster, "job")
        # More often than a job may lose attempts.
        for number in range(1, 5):
            attempt = await started(world, job)
            world.engine.change(attempt.node_ids[0], NodeCondition.EVICTED)
            world.engine.end(attempt.id, GangResult.LOST)
            lost = await world.until(
                lambda tx, of=attempt.id: (found := attempts.get(tx, of)).state is AttemptState.LOST and found
            )
            assert (lost.number, lost.reason and lost.reason.code) == (number, ReasonCode.NODE_EVICTED)
            assert lost.reason is not None and attempt.node_ids[0] in lost.reason.text
        last = await started(world, job)
        assert attempt.node_ids[0] not in last.node_ids
        found = await world.until(in_state(job, JobState.RUNNING))
        assert found is not None and (found.lost_attempts, found.retries) == (0, 0)
        await succeed(world, job)

    run(scenario)


@pytest.mark.parametrize("code", [ReasonCode.NODE_LOST, ReasonCode.NODE_DAEMON_LOST])
def test_a_job_whose_nodes_die_for_good_is_stopped_at_the_limit(run: Run, code: ReasonCode) -> None:
    """Where nodes that die are replaced by others, there is no node that could show that it is well."""

    async def scenario(world: World) -> None:
        limits(world, lost_attempts_limit=4)
        cluster = await cluster_of(world, 1)
        job = await submit(world, cluster, "job")
        seen = set()
        for number in range(1, 5):
            attempt = await restarted(world, job, number)
            (node_id,) = attempt.node_ids
            seen.add(node_id)
            why = Reason(code, f"Machine of {node_id} is gone.", {"node": node_id})
            world.engine.change(node_id, NodeCondition.LOST, reason=why)
            world.engine.end(attempt.id, GangResult.LOST, reason=why)
            lost = await world.until(
                lambda tx, of=attempt.id: (found := attempts.get(tx, of)).state is AttemptState.LOST and found
            )
            assert lost.reason == why
            # It is gone soon; its story tells what became of it.
            left = await world.until(lambda tx, of=node_id: why_it_left(tx, cluster, of))
            assert left == why
        failed = await world.until(in_state(job, JobState.FAILED))
        assert failed is not None and failed.errors[0].code is ReasonCode.TOO_MANY_LOST_ATTEMPTS
        # Each was taken out of the engine, and another came.
        assert len(seen) == 4
        await world.until(lambda tx: not seen & set(world.engine.nodes))
        await world.until(steady(cluster, 1))

    run(scenario)


@pytest.mark.parametrize("gang_is_told", [True, False])
def test_a_node_that_is_no_longer_there_was_taken_back(run: Run, gang_is_told: bool) -> None:
    async def scenario(world: World) -> None:
        cluster = await cluster_of(world, 2)
        job = await submit(world, cluster, "job", nodes=2)
        attempt = await started(world, job)
        del world.engine.nodes[attempt.node_ids[1]]
        if gang_is_told:
            gone = Reason(ReasonCode.NODE_EVICTED, "The node was taken back.", {"node": attempt.node_ids[1]})
            world.engine.end(attempt.id, GangResult.LOST, reason=gone)
        world.controller.wake()
        again = await restarted(world, job, 2)
        assert attempt.node_ids[1] not in again.node_ids
        assert attempt.node_ids[0] in again.node_ids
        found = await world.until(in_state(job, JobState.RUNNING))
        assert found is not None and found.lost_attempts == 0
        assert (await node_of(world, attempt.node_ids[1])).state is NodeState.GONE

    run(scenario)


def test_an_administrator_takes_a_node_away_while_a_job_runs(run: Run) -> None:
    async def scenario(world: World) -> None:
        cluster = await cluster_of(world, 1)
        job = await submit(world, cluster, "job")
        attempt = await started(world, job)
        node_id = attempt.node_ids[0]
        await world.write(lambda tx: take_away(tx, nodes.get(tx, node_id), world.clock.now, "An operator took it."))
        await world.until(lambda tx: node_id not in world.engine.nodes)
        world.engine.end(attempt.id, GangResult.LOST)
        await restarted(world, job, 2)
        queued = await world.until(in_state(job, JobState.RUNNING))
        assert queued is not None and queued.requeue_reason is not None
        assert queued.requeue_reason.code is ReasonCode.NODE_EVICTED and "An operator" in queued.requeue_reason.text

    run(scenario)


def test_a_node_that_becomes_unusable_gives_its_job_back(run: Run) -> None:
    async def scenario(world: World) -> None:
        cluster = await cluster_of(world, 2)
        job = await submit(world, cluster, "job")
        attempt = await started(world, job)
        world.engine.change(attempt.node_ids[0], NodeCondition.UNUSABLE, reason=BROKEN)
        again = await restarted(world, job, 2)
        assert again.node_ids != attempt.node_ids
        found = await world.until(in_state(job, JobState.RUNNING))
        assert found is not None and found.requeue_reason == BROKEN and found.lost_attempts == 0

    run(scenario)


async def fail_setup(world: World, cluster: ClusterRecord) -> None:
    """All nodes that prepare report that their setup failed."""
    await world.until(
        lambda tx: (
            [node for node in nodes.of_cluster(tx, cluster.uid) if node.state is NodeState.PREPARING]
            and all(node.id in world.engine.nodes for node in nodes.of_cluster(tx, cluster.uid))
        )
    )
    for node in await world.db.read(lambda tx: nodes.of_cluster(tx, cluster.uid)):
        if node.state is NodeState.PREPARING:
            world.engine.change(node.id, NodeCondition.UNUSABLE, reason=BROKEN)
    await world.until(lambda tx: all(node.state is NodeState.UNUSABLE for node in nodes.of_cluster(tx, cluster.uid)))


def test_nodes_that_fail_their_setup_are_replaced_with_growing_pauses_then_left_to_a_person(run: Run) -> None:
    async def scenario(world: World) -> None:
        limits(world, replacement_tries=3)
        world.engine.prepare_slowly = True
        cluster = await world.write(lambda tx: make_cluster(tx, nodes=1))
        seen = set()
        for pause in (1, 2, 4):
            await fail_setup(world, cluster)
            seen |= set(world.engine.nodes)
            await world.until(showing(cluster, BROKEN.code, ReasonCode.NODE_REPLACEMENT_SCHEDULED))
            world.clock.now += pause * MINUTE - 1000
            world.controller.wake()
            held = await world.db.read(lambda tx: [node.id for node in nodes.of_cluster(tx, cluster.uid)])
            assert set(held) <= seen, "it was replaced too early"
            world.clock.now += 1000
            world.controller.wake()
            await world.until(lambda tx, old=set(seen): world.engine.nodes and not set(world.engine.nodes) & old)
        await fail_setup(world, cluster)
        await world.until(showing(cluster, BROKEN.code, ReasonCode.NODE_REPLACEMENT_GIVEN_UP))
        assert len(seen) == 3
        # A resize, to the size that it has too, tries at once.
        last = set(world.engine.nodes)
        world.engine.prepare_slowly = False
        await scale_to(world, cluster, 1)
        await world.until(steady(cluster, 1))
        assert not last & set(world.engine.nodes)
        await world.until(lambda tx: clusters.get_by_uid(tx, cluster.uid).recovery is None)
        await world.until(showing(cluster))

    run(scenario)


def test_an_auto_scaled_cluster_replaces_its_failed_node_while_a_job_waits(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.engine.prepare_slowly = True
        scale = {"autoScale": {"minimumNodeCount": 0, "maximumNodeCount": 1, "initialNodeCount": 0}}
        cluster = await world.write(lambda tx: make_cluster(tx, scale=scale))
        job = await submit(world, cluster, "job")
        await fail_setup(world, cluster)
        await world.until(showing(cluster, BROKEN.code, ReasonCode.NODE_REPLACEMENT_SCHEDULED))
        world.engine.prepare_slowly = False
        world.clock.now += MINUTE
        await succeed(world, job)
        await world.until(showing(cluster))

    run(scenario)


def test_nodes_that_cannot_be_had_are_asked_for_with_growing_pauses_and_the_pause_survives_a_restart(run: Run) -> None:
    async def scenario(world: World) -> None:
        refusal = Reason(ReasonCode.ALLOCATION_FAILED, "The machine has no more CPUs.")
        world.engine.refusal = refusal
        cluster = await world.write(lambda tx: make_cluster(tx, nodes=1))
        for failures in (1, 2, 3):
            await world.until(
                lambda tx, n=failures: (
                    (found := clusters.get_by_uid(tx, cluster.uid).recovery)
                    and found["failures"] == n
                    and showing(cluster, refusal.code, ReasonCode.NODE_REPLACEMENT_SCHEDULED)(tx)
                )
            )
            await world.controller.stop()
            world.controller = world.make_controller()
            await world.controller.start()
            world.clock.now += 2 ** (failures - 1) * MINUTE - 1000
            assert await world.db.read(lambda tx: nodes.of_cluster(tx, cluster.uid)) == []
            world.clock.now += 1000
            world.controller.wake()
        world.engine.refusal = None
        world.clock.now += 10 * MINUTE
        await world.until(steady(cluster, 1))
        await world.until(showing(cluster))

    run(scenario)
