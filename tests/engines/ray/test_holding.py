"""What becomes of nodes that are wanted while Ray has none for them; Ray is a double."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trainshed.engines.local.wire import Refused
from trainshed.engines.protocol import NodeCondition
from trainshed.engines.ray.claims import Death, RayNode
from trainshed.engines.ray.holding import NodeHolder
from trainshed.engines.ray.places import Places
from trainshed.resources.reasons import ReasonCode


class RayDouble:
    """Stands in for ``cluster.RayCluster``: has the nodes that it is given, on which agents never come up."""

    def __init__(self, *nodes: str) -> None:
        self.known = [RayNode(name, name, {"CPU": 1.0}) for name in nodes]

    def nodes(self) -> list[RayNode]:
        return self.known

    def hold(self, *_: Any) -> Any:
        return None

    def find(self, name: str) -> Any:
        return None

    def names(self) -> list[str]:
        return []

    def end(self, agent: Any) -> None:
        raise AssertionError("there is no agent to end")

    def request(self, bundles: list[dict[str, float]], labels: list[dict[str, str]]) -> None:
        raise AssertionError("there is no autoscaler")


CLUSTER = {"uid": "c", "name": "c", "cpus": 1, "gpus": 0, "options": {}}


async def holder_of_one(ray: RayDouble, directory: Path) -> NodeHolder:
    """Holds Ray's only node as node ``first``."""
    places = Places(directory)
    places.make()
    holder = NodeHolder(places, ray, None, False, lambda: None)
    holder.ensure_cluster({**CLUSTER, "node_setup": None, "setup_suffix": "", "volumes": []}, {})
    await holder.add(CLUSTER, [{"node_id": "first", "ordinal": 1}])
    await holder.look()
    assert holder.nodes["first"].ray_id == "r1"
    return holder


def test_once_ray_s_head_was_started_anew_nodes_wait_for_machines_that_join_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        ray = RayDouble("r1")
        holder = await holder_of_one(ray, tmp_path)
        ray.known = []
        await holder.look()
        lost = holder.nodes["first"]
        assert lost.condition is NodeCondition.LOST
        assert lost.reason is not None and lost.reason.code is ReasonCode.NODE_DAEMON_LOST
        await holder.add(CLUSTER, [{"node_id": "second", "ordinal": 2}])
        second = holder.nodes["second"]
        assert (second.ray_id, second.condition) == ("", NodeCondition.PREPARING)
        assert second.reason is not None and "waits for a free machine" in second.reason.text
        ray.known = RayDouble("r2").known
        await holder.look()
        assert second.ray_id == "r2"
        # Not for ever.
        monkeypatch.setattr(holder, "_rejoining_until", 0.0)
        with pytest.raises(Refused, match="are free"):
            await holder.add(CLUSTER, [{"node_id": "third", "ordinal": 3}])

    asyncio.run(body())


def test_for_a_machine_that_died_no_node_waits(tmp_path: Path) -> None:
    async def body() -> None:
        ray = RayDouble("r1")
        holder = await holder_of_one(ray, tmp_path)
        ray.known = [replace(ray.known[0], death=Death(False, "it was killed"))]
        await holder.look()
        assert holder.nodes["first"].condition is NodeCondition.LOST
        with pytest.raises(Refused, match="1 CPUs"):
            await holder.add(CLUSTER, [{"node_id": "second", "ordinal": 2}])
        assert list(holder.nodes) == ["first"]

    asyncio.run(body())
