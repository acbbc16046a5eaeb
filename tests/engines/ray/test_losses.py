"""Whatever dies of Ray or of the engine: what is told is true, nothing of a lost attempt lives, and none runs twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from tests.engines.conformance import mounts
from tests.engines.lab import Lab, cluster_spec, eventually, living, mark, sleeper, stubborn
from tests.engines.processes import command_of, everything_below, parent_of
from tests.engines.ray.cluster import RayNodes, why_not
from tests.engines.ray.fixtures import SharedLab, run_on_ray
from trainshed.engines.local.leftovers import marked
from trainshed.engines.protocol import EngineUnavailable, GangResult, NodeCondition
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


@pytest.mark.parametrize("how", ["killed", "ended in order", "after a notice"])
def test_what_a_raylet_s_end_means_is_what_ray_says_of_it(ray_lab: SharedLab, how: str) -> None:
    """Killed, a node died. It was taken back when a shutdown ended it in order, or after the cloud has given notice."""

    async def body(lab: Lab) -> None:
        cluster = cluster_spec()
        (node,) = await lab.add_nodes(1, cluster)
        name = mark()
        attempt = await lab.run(f"{stubborn(name)}; {sleeper(name)}", (node,), cluster)
        await eventually(lambda: len(living(name)) == 2, "the job")
        address = (await lab.node(node)).address
        if how == "ended in order":
            ray_lab.nodes.kill_raylet(address, signal.SIGTERM)
        elif how == "killed":
            ray_lab.nodes.kill_raylet(address)
        else:
            record = json.loads((Places(ray_lab.home / "ray").nodes / f"{node}.json").read_text())
            ray_lab.nodes.give_notice(record["ray_id"], 1)
            await asyncio.sleep(1.0)  # The notice's own time.
            ray_lab.nodes.kill_raylet(address)
        status = await lab.end_of(attempt)
        assert living(name) == []
        died = how == "killed"
        code = ReasonCode.NODE_LOST if died else ReasonCode.NODE_EVICTED
        assert status.result is GangResult.LOST
        assert status.reason is not None and status.reason.code is code, status.reason
        assert node in (status.reason.text, *status.reason.details.values())
        # By the proof that the node's warden left, not because time went by.
        assert "nothing was heard" not in status.reason.text
        gone = await lab.node(node, NodeCondition.LOST if died else NodeCondition.EVICTED)
        assert gone.reason is not None and gone.reason.code is code and address in gone.reason.text

    ray_lab.run(body)


def test_numbers_of_deaths_are_ray_s() -> None:
    """They are part of Ray's protocol, and have no other name in what ``ray.nodes`` tells."""
    if why := why_not():
        pytest.skip(why)
    from ray.core.generated import common_pb2

    from trainshed.engines.ray.cluster import WANTED_DEATHS

    kinds = common_pb2.NodeDeathInfo.Reason
    assert {number: kinds.Name(number) for number in WANTED_DEATHS} == WANTED_DEATHS
    assert set(kinds.keys()) - set(WANTED_DEATHS.values()) == {"UNSPECIFIED", "UNEXPECTED_TERMINATION"}


@pytest.mark.parametrize("who", ["agent", "warden", "node", "runner"])
def test_a_process_of_the_node_that_is_killed(ray_lab: SharedLab, who: str) -> None:
    async def body(lab: Lab) -> None:
        cluster = cluster_spec()
        nodes = await lab.add_nodes(1, cluster)
        foreground, detached = mark(), mark()
        attempt = await lab.run(f"{stubborn(detached)}; {sleeper(foreground)}", nodes, cluster)
        await eventually(lambda: living(foreground) and living(detached), "the job")
        warden, node, runner = line_of(living(foreground)[0])[:3]
        agent = ray_lab.nodes.agent((await lab.node(nodes[0])).address)
        os.kill({"agent": agent, "warden": warden, "node": node, "runner": runner}[who], signal.SIGKILL)
        status = await lab.end_of(attempt)
        assert living(foreground) + living(detached) == []
        assert status.result is GangResult.LOST
        assert status.reason is not None
        assert status.reason.code in (ReasonCode.RUNNER_LOST, ReasonCode.NODE_LOST)
        # The node is whole, or starts again by itself.
        await lab.node(nodes[0], boot=1 if who == "runner" else 2)
        assert (await lab.end_of(await lab.run("true", nodes, cluster))).result is GangResult.SUCCEEDED

    ray_lab.run(body)


def test_a_bridge_that_is_killed_loses_nothing(ray_lab: SharedLab) -> None:
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

    ray_lab.run(body)


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
