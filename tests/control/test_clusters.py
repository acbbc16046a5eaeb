"""Clusters under the control loops: provisioned, scaled each way, deleted with everything in them."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection

from tests.control.conftest import World
from tests.control.test_jobs import Run, found_job, in_state, started
from tests.support.factories import EXPERIMENT_KEY, WORKSPACE_KEY, make_cluster, make_job
from trainshed.engines.protocol import GangResult, NodeCondition
from trainshed.resources.lifecycle import (
    AllocationState,
    JobState,
    NodeState,
    OperationState,
    OperationVerb,
    ProvisioningEvent,
    ProvisioningState,
)
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import clusters, experiments, nodes, operations, workspaces
from trainshed.store.errors import or_none
from trainshed.store.records import ClusterRecord, OperationRecord

pytestmark = pytest.mark.slow


def steady(cluster: ClusterRecord, count: int) -> Any:
    def check(tx: Connection) -> bool:
        found = or_none(clusters.get_by_uid, tx, cluster.uid)
        members = nodes.of_cluster(tx, cluster.uid)
        return (
            found is not None
            and found.allocation is AllocationState.STEADY
            and len(members) == count
            and all(node.state is NodeState.READY for node in members)
        )

    return check


def found_cluster(tx: Connection, cluster: ClusterRecord) -> ClusterRecord | None:
    return or_none(clusters.get_by_uid, tx, cluster.uid)


def operation(verb: OperationVerb, key: str, uid: str = "op") -> OperationRecord:
    return OperationRecord(uid, "s", "local", key.replace("/", "$"), verb, key, OperationState.IN_PROGRESS, 1)


async def scale_to(world: World, cluster: ClusterRecord, count: int, option: str = "requeue") -> None:
    scale = {"manual": {"targetNodeCount": count, "nodeDeallocationOption": option}}
    await world.write(lambda tx: clusters.set_scale(tx, cluster.key, scale, world.clock.now))


def test_provisioning_ends_the_operation_and_brings_nodes(run: Run) -> None:
    async def scenario(world: World) -> None:
        def create(tx: Connection) -> ClusterRecord:
            operations.insert(tx, operation(OperationVerb.CREATE_CLUSTER, f"{WORKSPACE_KEY}/c"))
            return make_cluster(tx, nodes=3)

        cluster = await world.write(create)
        await world.until(steady(cluster, 3))
        done = await world.db.read(lambda tx: operations.get(tx, "op"))
        assert done is not None and done.status is OperationState.SUCCEEDED
        assert len(world.engine.nodes) == 3

    run(scenario)


def test_scale_down_takes_idle_nodes_and_new_ones_get_new_names(run: Run) -> None:
    async def scenario(world: World) -> None:
        cluster = await world.write(lambda tx: make_cluster(tx, nodes=3))
        await world.until(steady(cluster, 3))
        before = set(world.engine.nodes)
        await scale_to(world, cluster, 1)
        await world.until(steady(cluster, 1))
        await scale_to(world, cluster, 2)
        await world.until(steady(cluster, 2))
        assert len(set(world.engine.nodes) - before) == 1

    run(scenario)


def test_requeue_runs_the_job_again_after_scaling_up(run: Run) -> None:
    async def scenario(world: World) -> None:
        cluster = await world.write(lambda tx: make_cluster(tx, nodes=1))
        job = await world.write(lambda tx: make_job(tx, cluster))
        first = await started(world, job)
        await scale_to(world, cluster, 0)
        queued = await world.until(in_state(job, JobState.QUEUED))
        assert queued is not None and queued.requeue_reason is not None
        assert queued.requeue_reason.code is ReasonCode.REQUEUED_BY_SCALE_DOWN
        assert queued.lost_attempts == 0
        await world.until(steady(cluster, 0))
        await scale_to(world, cluster, 1)
        assert (await started(world, job)).number == first.number + 1

    run(scenario)


def test_terminate_option_fails_the_job_for_good(run: Run) -> None:
    async def scenario(world: World) -> None:
        cluster = await world.write(lambda tx: make_cluster(tx, nodes=1))
        job = await world.write(lambda tx: make_job(tx, cluster))
        await started(world, job)
        await scale_to(world, cluster, 0, "terminate")
        done = await world.until(in_state(job, JobState.FAILED))
        assert done is not None and done.errors[0].code is ReasonCode.SCALED_DOWN
        await world.until(steady(cluster, 0))

    run(scenario)


def test_wait_option_lets_jobs_end_and_starts_no_others(run: Run) -> None:
    async def scenario(world: World) -> None:
        cluster = await world.write(lambda tx: make_cluster(tx, nodes=2))
        long = await world.write(lambda tx: make_job(tx, cluster, "long", nodes=2))
        attempt = await started(world, long)
        await scale_to(world, cluster, 1, "waitforjobcompletion")
        await world.until(
            lambda tx: (
                (found := or_none(clusters.get_by_uid, tx, cluster.uid))
                and found.allocation is AllocationState.RESIZING
            )
        )
        other = await world.write(lambda tx: make_job(tx, cluster, "other"))
        explained = await world.db.read(lambda tx: world.controller.explain(tx, other))
        assert explained.code is ReasonCode.CLUSTER_DRAINING
        assert world.engine.live() == [attempt.id]
        world.engine.end(attempt.id, GangResult.SUCCEEDED, exit_code=0)
        await started(world, other)
        await world.until(lambda tx: len(nodes.of_cluster(tx, cluster.uid)) == 1)

    run(scenario)


def test_auto_scale_grows_with_the_queue_and_shrinks_when_idle(run: Run) -> None:
    async def scenario(world: World) -> None:
        scale = {"autoScale": {"minimumNodeCount": 0, "maximumNodeCount": 2, "initialNodeCount": 0}}
        cluster = await world.write(lambda tx: make_cluster(tx, scale=scale))
        await world.until(steady(cluster, 0))
        job = await world.write(lambda tx: make_job(tx, cluster, nodes=2))
        attempt = await started(world, job)
        world.engine.end(attempt.id, GangResult.SUCCEEDED, exit_code=0)
        await world.until(in_state(job, JobState.SUCCEEDED))
        assert len(world.engine.nodes) == 2
        world.clock.now += 6 * 60 * 1000
        await world.until(steady(cluster, 0))

    run(scenario)


def test_a_new_controller_tells_the_engine_of_every_cluster(run: Run) -> None:
    async def scenario(world: World) -> None:
        cluster = await world.write(lambda tx: make_cluster(tx, nodes=1))
        await world.until(steady(cluster, 1))
        await world.controller.stop()
        world.engine.clusters.clear()
        world.controller = world.make_controller()
        await world.controller.start()
        await world.until(lambda tx: cluster.uid in world.engine.clusters)

    run(scenario)


def test_a_node_whose_setup_fails_is_unusable_and_says_why(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.engine.prepare_slowly = True
        cluster = await world.write(lambda tx: make_cluster(tx, nodes=1))
        await world.until(lambda tx: bool(world.engine.nodes))
        reason = Reason(ReasonCode.SETUP_TASK_FAILED, "The setup task ended with exit code 3.")
        world.engine.change(next(iter(world.engine.nodes)), NodeCondition.UNUSABLE, reason=reason)
        found = await world.until(lambda tx: (found := found_cluster(tx, cluster)) and found.errors and found)
        assert found.errors[0] == reason
        assert [error.code for error in found.errors[1:]] == [ReasonCode.NODE_REPLACEMENT_SCHEDULED]
        job = await world.write(lambda tx: make_job(tx, cluster))
        explained = await world.db.read(lambda tx: world.controller.explain(tx, job))
        assert explained.code is ReasonCode.NODES_UNUSABLE and "exit code 3" in explained.text

    run(scenario)


def test_a_rebooted_node_prepares_and_comes_back(run: Run) -> None:
    async def scenario(world: World) -> None:
        cluster = await world.write(lambda tx: make_cluster(tx, nodes=1))
        await world.until(steady(cluster, 1))
        node_id = next(iter(world.engine.nodes))
        world.engine.change(node_id, NodeCondition.PREPARING, boot=2)
        await world.until(lambda tx: nodes.of_cluster(tx, cluster.uid)[0].state is NodeState.PREPARING)
        world.engine.change(node_id, NodeCondition.READY)
        await world.until(steady(cluster, 1))

    run(scenario)


def test_nodes_that_cannot_be_had_leave_the_cluster_short_with_the_reason(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.engine.refusal = Reason(ReasonCode.ALLOCATION_FAILED, "The machine has no more CPUs.")
        cluster = await world.write(lambda tx: make_cluster(tx, nodes=2))
        await world.until(
            lambda tx: (
                (found := or_none(clusters.get_by_uid, tx, cluster.uid))
                and found.errors
                and not nodes.of_cluster(tx, cluster.uid)
            )
        )
        job = await world.write(lambda tx: make_job(tx, cluster))
        explained = await world.db.read(lambda tx: world.controller.explain(tx, job))
        assert explained.code is ReasonCode.ALLOCATION_FAILED
        world.engine.refusal = None
        world.clock.now += 61_000
        await started(world, job)

    run(scenario)


def test_nodes_that_nobody_asked_for_are_ended(run: Run) -> None:
    async def scenario(world: World) -> None:
        cluster = await world.write(lambda tx: make_cluster(tx, nodes=1))
        await world.until(steady(cluster, 1))
        from trainshed.engines.protocol import NodeStatus

        world.engine.nodes["stranger"] = NodeStatus("stranger", "x", NodeCondition.READY, 1, "h", "127.9.9.9")
        await world.until(lambda tx: "stranger" not in world.engine.nodes)

    run(scenario)


@pytest.mark.parametrize("stubborn", [False, True])
def test_deleting_a_cluster_ends_its_jobs_and_nodes(run: Run, stubborn: bool) -> None:
    async def scenario(world: World) -> None:
        world.engine.ignore_stops = stubborn
        cluster = await world.write(lambda tx: make_cluster(tx, nodes=1))
        running = await world.write(lambda tx: make_job(tx, cluster, "running"))
        queued = await world.write(lambda tx: make_job(tx, cluster, "queued"))
        attempt = await started(world, running)
        await world.write(
            lambda tx: clusters.apply_provisioning(tx, cluster.key, ProvisioningEvent.DELETE_REQUESTED, world.clock.now)
        )
        await world.until(in_state(queued, JobState.FAILED))
        if stubborn:
            assert await world.db.read(lambda tx: or_none(clusters.get, tx, cluster.key)) is not None
            world.engine.end(attempt.id, GangResult.LOST)
        done = await world.until(in_state(running, JobState.FAILED))
        assert done is not None and done.errors[0].code is ReasonCode.CLUSTER_DELETED
        await world.until(lambda tx: or_none(clusters.get, tx, cluster.key) is None)
        assert not world.engine.nodes
        assert await world.db.read(lambda tx: found_job(tx, running.id)) is not None

    run(scenario)


def test_deleting_a_workspace_takes_everything_with_it(run: Run) -> None:
    async def scenario(world: World) -> None:
        cluster = await world.write(lambda tx: make_cluster(tx, nodes=1))
        job = await world.write(lambda tx: make_job(tx, cluster))
        await started(world, job)

        def delete(tx: Connection) -> None:
            workspaces.apply(tx, WORKSPACE_KEY, ProvisioningEvent.DELETE_REQUESTED, world.clock.now)
            operations.insert(tx, operation(OperationVerb.DELETE_WORKSPACE, WORKSPACE_KEY))

        await world.write(delete)
        await world.until(lambda tx: or_none(workspaces.get, tx, WORKSPACE_KEY) is None)
        done = await world.db.read(lambda tx: operations.get(tx, "op"))
        assert done is not None and done.status is OperationState.SUCCEEDED
        assert not world.engine.nodes and not world.engine.live()

    run(scenario)


def test_operations_that_nobody_finished_are_finished(run: Run) -> None:
    """A deletion begun just after the resource had gone, and a termination begun just after the job had ended."""

    async def scenario(world: World) -> None:
        cluster = await world.write(lambda tx: make_cluster(tx, nodes=1))
        job = await world.write(lambda tx: make_job(tx, cluster))
        attempt = await started(world, job)
        world.engine.end(attempt.id, GangResult.SUCCEEDED, exit_code=0)
        await world.until(in_state(job, JobState.SUCCEEDED))

        def begin(tx: Connection) -> None:
            operations.insert(tx, operation(OperationVerb.DELETE_CLUSTER, f"{WORKSPACE_KEY}/gone", "gone"))
            operations.insert(tx, operation(OperationVerb.DELETE_CLUSTER, cluster.key, "there"))
            operations.insert(tx, operation(OperationVerb.TERMINATE_JOB, job.key, "ended"))

        await world.write(begin)
        await world.until(
            lambda tx: all(operations.get(tx, uid).status is OperationState.SUCCEEDED for uid in ("gone", "ended"))
        )
        still = await world.db.read(lambda tx: operations.get(tx, "there"))
        assert still.status is OperationState.IN_PROGRESS

    run(scenario)


def test_deleting_a_cluster_leaves_the_operation_of_an_experiment_of_the_same_name(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.engine.down = True
        cluster = await world.write(lambda tx: make_cluster(tx, "exp", nodes=0))
        assert cluster.key == EXPERIMENT_KEY

        def begin(tx: Connection) -> None:
            operations.insert(tx, operation(OperationVerb.DELETE_CLUSTER, cluster.key, "cluster"))
            operations.insert(tx, operation(OperationVerb.DELETE_EXPERIMENT, EXPERIMENT_KEY, "experiment"))
            clusters.apply_provisioning(tx, cluster.key, ProvisioningEvent.DELETE_REQUESTED, world.clock.now)

        await world.write(begin)
        world.engine.down = False
        await world.until(lambda tx: operations.get(tx, "cluster").status is OperationState.SUCCEEDED)
        other = await world.db.read(lambda tx: operations.get(tx, "experiment"))
        assert other.status is OperationState.IN_PROGRESS

    run(scenario)


def test_deleting_an_experiment_leaves_the_cluster(run: Run) -> None:
    async def scenario(world: World) -> None:
        cluster = await world.write(lambda tx: make_cluster(tx, nodes=1))
        await world.write(lambda tx: make_job(tx, cluster))
        await world.write(
            lambda tx: experiments.apply(tx, EXPERIMENT_KEY, ProvisioningEvent.DELETE_REQUESTED, world.clock.now)
        )
        await world.until(lambda tx: or_none(experiments.get, tx, EXPERIMENT_KEY) is None)
        found = await world.db.read(lambda tx: or_none(clusters.get, tx, cluster.key))
        assert found is not None and found.state is ProvisioningState.SUCCEEDED

    run(scenario)


def test_a_cluster_stays_short_at_the_quota_and_says_why(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.limit_cores(2)
        cluster = await world.write(lambda tx: make_cluster(tx, nodes=5))
        await world.until(steady(cluster, 2))
        shown = await world.until(lambda tx: clusters.get_by_uid(tx, cluster.uid).errors)
        assert [(error.code, error.details["missingNodes"]) for error in shown] == [
            (ReasonCode.CORE_QUOTA_REACHED, "3")
        ]
        world.limit_cores(4)
        world.controller.wake()
        await world.until(steady(cluster, 4))
        await scale_to(world, cluster, 4)
        await world.until(lambda tx: not clusters.get_by_uid(tx, cluster.uid).errors)

    run(scenario)


def test_what_grows_by_itself_leaves_others_what_they_are_promised(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.limit_cores(5)
        auto = await world.write(
            lambda tx: make_cluster(tx, "auto", scale={"autoScale": {"minimumNodeCount": 0, "maximumNodeCount": 9}})
        )
        await world.until(steady(auto, 0))
        world.engine.down = True

        def both(tx: Connection) -> ClusterRecord:
            make_job(tx, auto, nodes=5)
            return make_cluster(tx, "promised", nodes=3)

        promised = await world.write(both)
        world.engine.down = False
        world.controller.wake()
        await world.until(steady(promised, 3))
        await world.until(steady(auto, 2))
        errors = (await world.db.read(lambda tx: clusters.get_by_uid(tx, auto.uid))).errors
        assert [error.code for error in errors] == [ReasonCode.CORE_QUOTA_REACHED]

    run(scenario)
