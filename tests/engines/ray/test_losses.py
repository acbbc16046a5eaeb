"""Whatever dies of Ray or of the engine: what is told is true, nothing of a lost attempt lives, and none runs twice."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.engines.conformance import mounts
from tests.engines.lab import Lab, cluster_spec, eventually, living, mark, sleeper, stubborn
from tests.engines.processes import command_of, everything_below, parent_of
from tests.engines.ray.cluster import RayNodes
from tests.engines.ray.fixtures import run_on_ray
from trainshed.engines.local.leftovers import marked
from trainshed.engines.protocol import EngineUnavailable, EngineView, GangResult, NodeCondition
from trainshed.engines.ray.engine import RayEngine
from trainshed.engines.ray.places import Places
from trainshed.resources.reasons import ReasonCode

pytestmark = pytest.mark.slow


def line_of(pid: int) -> list[int]:
    """The node's warden, and the processes from it down to this one."""
    line = [pid]
    while (parent := parent_of(line[0])) > 1:
        line.insert(0, parent)
    wardens = [index for index, one in enumerate(line) if "warden.start" in command_of(one)]
    assert wardens, f"{pid} does not descend from a warden: {[command_of(one) for one in line]}"
    return line[wardens[0] :]


def bridge_of(lab: Lab) -> int:
    assert isinstance(lab.engine, RayEngine)
    return lab.engine.bridge_pid


def test_a_raylet_that_dies_loses_its_gangs(ray_nodes: RayNodes, home: Path) -> None:
    async def body(lab: Lab) -> None:
        cluster = cluster_spec()
        nodes = await lab.add_nodes(2, cluster)
        name = mark()
        prepare = f"{stubborn(name)}; {sleeper(name)}"
        attempt = await lab.run("true", nodes, cluster, preparation=prepare)
        await eventually(lambda: len(living(name)) == 4, "both nodes prepare")
        address = (await lab.node(nodes[1])).address
        # One of six: other tests need four.
        ray_nodes.kill_raylet(address)
        status = await lab.end_of(attempt)
        # At the moment at which the loss is told, nothing of it lives any more.
        assert living(name) == []
        assert status.result is GangResult.LOST
        assert status.reason is not None and status.reason.code is ReasonCode.NODE_LOST
        assert nodes[1] in (status.reason.text, *status.reason.details.values())
        # By the proof that the node's warden left, not because time went by.
        assert "nothing was heard" not in status.reason.text
        lost = await lab.node(nodes[1], NodeCondition.EVICTED)
        assert lost.reason is not None and address in lost.reason.text
        # The other goes on, and so does the cluster with another machine.
        (other,) = await lab.add_nodes(1, cluster)
        both = await lab.run("true", (nodes[0], other), cluster)
        assert (await lab.end_of(both)).result is GangResult.SUCCEEDED
        await lab.engine.remove_nodes((nodes[1],))
        await lab.until(lambda view: nodes[1] not in {n.node_id for n in view.nodes} or None, "the node is gone")

    run_on_ray(ray_nodes, home, body)


@pytest.mark.parametrize("who", ["agent", "warden", "node", "runner"])
def test_a_process_of_the_node_that_is_killed(ray_nodes: RayNodes, home: Path, who: str) -> None:
    async def body(lab: Lab) -> None:
        cluster = cluster_spec()
        nodes = await lab.add_nodes(1, cluster)
        foreground, detached = mark(), mark()
        attempt = await lab.run(f"{stubborn(detached)}; {sleeper(foreground)}", nodes, cluster)
        await eventually(lambda: living(foreground) and living(detached), "the job")
        warden, node, runner = line_of(living(foreground)[0])[:3]
        agent = ray_nodes.agent((await lab.node(nodes[0])).address)
        os.kill({"agent": agent, "warden": warden, "node": node, "runner": runner}[who], signal.SIGKILL)
        status = await lab.end_of(attempt)
        assert living(foreground) + living(detached) == []
        assert status.result is GangResult.LOST
        assert status.reason is not None
        assert status.reason.code in (ReasonCode.RUNNER_LOST, ReasonCode.NODE_LOST)
        # The node is whole, or starts again by itself.
        await lab.node(nodes[0], boot=1 if who == "runner" else 2)
        assert (await lab.end_of(await lab.run("true", nodes, cluster))).result is GangResult.SUCCEEDED

    run_on_ray(ray_nodes, home, body)


def test_a_bridge_that_is_killed_loses_nothing(ray_nodes: RayNodes, home: Path) -> None:
    async def body(lab: Lab) -> None:
        cluster = cluster_spec()
        nodes = await lab.add_nodes(2, cluster)
        go = mounts(lab, cluster) / "go"
        name = mark()
        command = f"(exec -a {name} sleep 1000) & until [ -e $AZ_BATCHAI_MOUNT_ROOT/go ]; do sleep 0.02; done; exit 5"
        attempt = await lab.run(command, nodes, cluster)
        await eventually(lambda: living(name), "the job")
        before, killed = living(name), bridge_of(lab)
        os.kill(killed, signal.SIGKILL)

        async def away() -> bool:
            try:
                await lab.engine.view()
            except EngineUnavailable as refusal:
                assert refusal.reason.code is ReasonCode.ENGINE_UNAVAILABLE
                return True
            return False

        while not await away():
            pass
        await lab.until(lambda view: True, "the engine again")
        assert bridge_of(lab) not in (0, killed)
        assert living(name) == before
        assert {(await lab.node(node)).boot for node in nodes} == {1}
        go.touch()
        assert (await lab.end_of(attempt)).exit_code == 5
        # What ends while no bridge is there is told by the next one.
        ended = await lab.run("until [ -e $AZ_BATCHAI_MOUNT_ROOT/gone ]; do sleep 0.02; done; exit 6", nodes, cluster)
        os.kill(bridge_of(lab), signal.SIGKILL)
        (mounts(lab, cluster) / "gone").touch()
        assert (await lab.end_of(ended)).exit_code == 6

    run_on_ray(ray_nodes, home, body)


@pytest.mark.timeout(300)
def test_a_head_that_is_restarted_loses_what_ran_and_doubles_nothing(own_nodes: RayNodes, home: Path) -> None:
    """Ray's head forgets everything, and its nodes end themselves: they are joined again by who runs the machines."""

    for _ in range(2):
        own_nodes.add_node()
    own_nodes.wait_for(2)

    async def body(lab: Lab) -> None:
        cluster = cluster_spec()
        nodes = await lab.add_nodes(2, cluster)
        name = mark()
        command = f"echo ran >> $AZ_BATCHAI_MOUNT_ROOT/runs; {stubborn(name)}; {sleeper(name)}"
        attempt = await lab.run(command, nodes, cluster)
        await eventually(lambda: len(living(name)) == 2, "the job")
        own_nodes.kill_head()
        for address in list(own_nodes.nodes):
            own_nodes.kill_node(address)
        own_nodes.start_head()
        for _ in range(2):
            own_nodes.add_node()
        own_nodes.wait_for(2)
        status = await lab.end_of(attempt)
        assert living(name) == []
        assert status.result is GangResult.LOST
        for node in nodes:
            await lab.node(node, NodeCondition.EVICTED)
        await lab.engine.remove_nodes(nodes)

        def gone(view: EngineView) -> bool | None:
            return True if not view.nodes else None

        await lab.until(gone, "the nodes are gone")
        again = await lab.add_nodes(2, cluster)
        assert (await lab.end_of(await lab.run("true", again, cluster))).result is GangResult.SUCCEEDED
        assert (mounts(lab, cluster) / "runs").read_text() == "ran\n"

    run_on_ray(own_nodes, home, body)


def test_what_is_shut_down_leaves_nothing_but_files(ray_nodes: RayNodes, home: Path) -> None:
    async def body(lab: Lab) -> None:
        cluster = cluster_spec(setup_secrets={"TOKEN": "setup-secret-value"})
        nodes = await lab.add_nodes(2, cluster)
        name = mark()
        attempt = await lab.run(
            f"test ${{#KEY}} = 16 && {stubborn(name)}; sleep 1000",
            nodes,
            cluster,
            secrets={"KEY": "job-secret-value"},
        )
        await eventually(lambda: living(name), "the job")
        marks = [Places(home / "ray").node(node).mark for node in nodes]
        assert all(map(marked, marks))
        await lab.engine.shut_down()
        assert living(name) == []
        assert not any(map(marked, marks))
        written = everything_below(home)
        assert nodes[0].encode() in written
        assert b"secret-value" not in written
        # A later service finds its nodes and the truth about the gang again, and machines are taken for the nodes.
        await lab.restart_service()
        assert (await lab.end_of(attempt)).result in (GangResult.STOPPED, GangResult.LOST)
        await lab.engine.ensure_cluster(cluster)
        for node in nodes:
            await lab.node(node, boot=2)
        assert (await lab.end_of(await lab.run("true", nodes, cluster))).result is GangResult.SUCCEEDED

    run_on_ray(ray_nodes, home, body)
