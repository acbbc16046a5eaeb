"""What is the Ray engine's own, beyond the promises of the protocol."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.engines.conformance import STOP, mounts
from tests.engines.lab import Lab, cluster_spec, eventually, gang_spec
from tests.engines.ray.cluster import RayNodes
from tests.engines.ray.fixtures import SharedLab, engine_of, run_on_ray
from trainshed.engines.local.leftovers import marked
from trainshed.engines.protocol import EngineError, EngineUnavailable, EngineView, GangResult, Leader, NodeSpec
from trainshed.engines.ray.engine import RayEngine
from trainshed.engines.ray.places import Places
from trainshed.engines.ray.settings import RaySettings
from trainshed.resources.reasons import ReasonCode
from trainshed.resources.users import JobUser


def test_a_head_that_is_away_hinders_no_start(tmp_path: Path) -> None:
    """Nobody listens on port 1."""

    async def body() -> None:
        engine = RayEngine("boxes", RaySettings("127.0.0.2:1", str(tmp_path / "ray")), tmp_path)
        told = asyncio.Event()
        try:
            await engine.start(lambda status: told.set())
            with pytest.raises(EngineUnavailable) as refusal:
                await engine.view()
            assert "127.0.0.2:1" in refusal.value.reason.text
            assert refusal.value.reason.code is ReasonCode.ENGINE_UNAVAILABLE
            # It is tried again.
            told.clear()
            async with asyncio.timeout(30):
                await told.wait()
        finally:
            await engine.close()

    asyncio.run(body())


@pytest.mark.slow
def test_many_gangs_on_few_nodes(ray_lab: SharedLab) -> None:
    async def body(lab: Lab) -> None:
        cluster = cluster_spec()
        nodes = await lab.add_nodes(4, cluster)

        async def one_after_another(node: str) -> None:
            for number in range(15):
                ended = await lab.end_of(await lab.run(f"exit {number}", (node,), cluster))
                assert ended.exit_code == number
                await lab.engine.forget_gang((ended.attempt_id,))

        await asyncio.gather(*map(one_after_another, nodes))
        assert (await lab.engine.view()).gangs == ()
        left = mounts(lab, cluster).parents[2] / "attempts"
        assert list(left.iterdir()) == []

    ray_lab.run(body)


@pytest.mark.slow
def test_who_lost_the_lease_starts_nothing_any_more(ray_nodes: RayNodes, home: Path) -> None:
    async def body(lab: Lab) -> None:
        cluster = cluster_spec()
        nodes = await lab.add_nodes(1, cluster)
        await lab.end_of(await lab.run("true", nodes, cluster))
        await lab.engine.close()

        former = engine_of(ray_nodes, home, leader=Leader("db", 1))
        later = engine_of(ray_nodes, home, leader=Leader("db", 2))
        ran = mounts(lab, cluster) / "ran"
        try:
            await former.start(lambda status: None)
            await later.start(lambda status: None)
            for number, engine in ((1, former), (2, later)):
                spec = gang_spec(f"echo {number} >> $AZ_BATCHAI_MOUNT_ROOT/ran", nodes, cluster)
                await engine.start_gang(spec)
            await lab.engine.start(lab._listen)
            await lab.until(lambda view: ran.exists() or None, "what the later one started")
            # Whatever the former one might have started is waited for: the node runs one after the other.
            await lab.end_of(spec.attempt_id)
            assert ran.read_text() == "2\n"
            with pytest.raises(EngineUnavailable):
                await former.view()
        finally:
            await former.close()
            await later.close()

    run_on_ray(ray_nodes, home, body)


@pytest.mark.slow
def test_an_agent_of_a_node_that_nobody_knows_gives_its_machine_back(ray_lab: SharedLab) -> None:
    async def body(lab: Lab) -> None:
        (node,) = await lab.add_nodes(1, cluster_spec())
        await lab.engine.close()
        places = Places(ray_lab.home / "ray")
        (places.nodes / f"{node}.json").unlink()
        assert marked(places.node(node).mark)
        await lab.restart_service()
        assert (await lab.engine.view()).nodes == ()
        await eventually(lambda: not marked(places.node(node).mark), "the end of its processes")

    ray_lab.run(body)


@pytest.mark.slow
def test_a_node_that_is_given_up_while_its_agent_starts_is_gone_soon(ray_lab: SharedLab) -> None:
    async def body(lab: Lab) -> None:
        await lab.engine.add_nodes(lab.cluster(), (NodeSpec("given-up", 0),))

        def starts(view: EngineView) -> bool | None:
            return any(node.reason is not None and "agent" in node.reason.text for node in view.nodes) or None

        await lab.until(starts, "the start of the agent")
        await lab.engine.remove_nodes(("given-up",))
        await lab.until(lambda view: not view.nodes or None, "its end")
        await eventually(lambda: not ray_lab.nodes.agents(), "the end of its agent")

    ray_lab.run(body)


@pytest.mark.slow
def test_a_setup_with_secrets_runs_on_each_node_and_is_given_again(ray_nodes: RayNodes, home: Path) -> None:
    async def body(lab: Lab) -> None:
        setup = {
            "setupTask": {
                "commandLine": "echo ${#TOKEN} >> $AZ_BATCHAI_MOUNT_ROOT/setups",
                "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT",
            }
        }
        cluster = cluster_spec(node_setup=setup, setup_suffix="setup", setup_secrets={"TOKEN": "four"})
        nodes = await lab.add_nodes(2, cluster)
        assert (mounts(lab, cluster) / "setups").read_text() == "4\n4\n"
        await lab.engine.shut_down()
        # Another service: its nodes wait until it has given the secrets again.
        await lab.restart_service()
        waiting = "waits for the secrets"
        await lab.until(
            lambda view: all(node.reason and waiting in node.reason.text for node in view.nodes) or None, waiting
        )
        await lab.engine.ensure_cluster(cluster)
        for node in nodes:
            await lab.node(node, boot=2)
        assert (mounts(lab, cluster) / "setups").read_text() == "4\n" * 4

    run_on_ray(ray_nodes, home, body)


@pytest.mark.slow
def test_what_ray_cannot_give_is_refused(ray_lab: SharedLab) -> None:
    async def body(lab: Lab) -> None:
        user = JobUser(1900001000, 1900001001)
        with pytest.raises(EngineError, match="nodeSetup"):
            await lab.engine.ensure_cluster(cluster_spec(user=user, node_setup={"setupTask": {"commandLine": "true"}}))
        with pytest.raises(EngineError, match="resource a100"):
            await lab.engine.add_nodes(cluster_spec(options={"resource": "a100"}), (NodeSpec("n", 0),))
        cluster = cluster_spec()
        nodes = await lab.add_nodes(1, cluster)
        lab.user = user
        with pytest.raises(EngineError, match="share_user"):
            await lab.run("true", nodes, cluster)
        lab.user = None
        assert (await lab.engine.view()).gangs == ()
        attempt = await lab.run("sleep 1000", nodes, cluster)
        await lab.engine.stop_gang(attempt, STOP, 0.1)
        assert (await lab.end_of(attempt)).result is GangResult.STOPPED

    ray_lab.run(body)
