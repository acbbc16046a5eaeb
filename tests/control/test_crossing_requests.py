"""Requests and views that cross on their way, and calls that are lost: stories that the simulation told first."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from tests.control.conftest import World
from tests.control.test_clusters import found_cluster, operation, steady
from tests.control.test_jobs import Run
from tests.support.factories import WORKSPACE_KEY, make_cluster
from trainshed.engines.protocol import ClusterSpec, NodeCondition
from trainshed.resources.lifecycle import NodeState, OperationState, OperationVerb, ProvisioningEvent
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import clusters, nodes, operations
from trainshed.store.records import ClusterRecord


def delete(tx: Connection, cluster: ClusterRecord, world: World) -> None:
    clusters.apply_provisioning(tx, cluster.key, ProvisioningEvent.DELETE_REQUESTED, world.clock.now)


def test_a_cluster_deleted_before_it_is_provisioned_ends_its_creation(run: Run) -> None:
    async def scenario(world: World) -> None:
        def create(tx: Connection) -> ClusterRecord:
            operations.insert(tx, operation(OperationVerb.CREATE_CLUSTER, f"{WORKSPACE_KEY}/c"))
            cluster = make_cluster(tx)
            delete(tx, cluster, world)
            return cluster

        cluster = await world.write(create)
        await world.until(lambda tx: found_cluster(tx, cluster) is None)
        ended = await world.db.read(lambda tx: operations.get(tx, "op"))
        assert ended.status is OperationState.SUCCEEDED

    run(scenario)


def test_a_cluster_that_the_engine_was_not_told_to_forget_is_forgotten(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.engine.clusters["gone"] = ClusterSpec("gone", "c", 1, False, "STANDARD_D1", 1, 1024, 0)
        cluster = await world.write(make_cluster)
        await world.until(steady(cluster, 2))
        await world.until(lambda tx: set(world.engine.clusters) == {cluster.uid})

    run(scenario)


def test_a_node_that_the_engine_made_anew_is_of_use_again(run: Run) -> None:
    """It counts its boots from one, as the unusable node of that name did."""

    async def scenario(world: World) -> None:
        cluster = await world.write(lambda tx: make_cluster(tx, nodes=1))
        await world.until(steady(cluster, 1))
        (node_id,) = world.engine.nodes
        why = Reason(ReasonCode.SETUP_TASK_FAILED, "The setup task failed.")
        world.engine.change(node_id, NodeCondition.UNUSABLE, reason=why)
        await world.until(lambda tx: nodes.get(tx, node_id).state is NodeState.UNUSABLE)
        fresh = replace(world.engine.nodes[node_id], condition=NodeCondition.READY, reason=None)
        world.engine.nodes[node_id] = fresh
        world.controller.wake()
        await world.until(steady(cluster, 1))

    run(scenario)


def test_nodes_that_are_still_asked_for_are_not_taken_for_gone(run: Run) -> None:
    """They would appear after their cluster is gone, in a subnet that another cluster may have by then."""

    async def scenario(world: World) -> None:
        world.engine.adds.clear()
        cluster = await world.write(make_cluster)
        await world.until(lambda tx: world.engine.adds_waiting > 0)
        views = world.engine.views
        world.controller.wake()
        await world.until(lambda tx: world.engine.views > views + 1)
        await world.write(lambda tx: delete(tx, cluster, world))

        def leaving(tx: Connection) -> bool:
            return [node.state for node in nodes.of_cluster(tx, cluster.uid)] == [NodeState.LEAVING] * 2

        await world.until(leaving)
        views = world.engine.views
        await world.until(lambda tx: world.engine.views > views + 2)
        assert await world.db.read(leaving)
        # Nor are they asked for a second time, which might be granted when the first is refused.
        assert world.engine.adds_waiting == 1
        world.engine.adds.set()
        await world.until(lambda tx: found_cluster(tx, cluster) is None)
        await world.until(lambda tx: not world.engine.nodes and not world.engine.clusters)

    run(scenario)
