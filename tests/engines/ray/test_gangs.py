"""Gangs whose nodes speak, or are lost, while they are being started; the way to the nodes is a double."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.engines.lab import cluster_spec, gang_spec
from trainshed.engines.local.gang import Gang
from trainshed.engines.local.messages import Message
from trainshed.engines.local.wire import Refused
from trainshed.engines.protocol import NodeCondition
from trainshed.engines.ray.gangs import GangKeeper, Telling
from trainshed.engines.ray.held import HeldNode
from trainshed.engines.ray.places import Places
from trainshed.engines.telling import gang_message


class NodesDouble:
    """Nodes that do no more than what a test lets happen while a gang asks them for free ports: ``meanwhile``."""

    def __init__(self, directory: Path, fence: float = 1.0) -> None:
        places = Places(directory)
        places.make()
        ready = NodeCondition.READY
        self.nodes = {name: HeldNode(name, "cluster", 0, name, condition=ready, run="first") for name in "ab"}
        self.ended: asyncio.Queue[Gang] = asyncio.Queue()
        self.told: list[Message] = []
        telling = Telling(self._message, self._free_ports)
        self.keeper = GangKeeper(places, self.nodes, telling, self.ended.put_nowait, fence, True)
        self.meanwhile: Callable[[HeldNode], Awaitable[None]] | None = None

    async def start(self) -> None:
        """The gang ``attempt`` on both."""
        message = gang_message(gang_spec("true", ("a", "b"), cluster_spec(), attempt_id="attempt"))
        await self.keeper.start(message["gang"], message["secrets"], message["private"])

    @property
    def kinds(self) -> list[str]:
        """Of what was told, in order."""
        return [next(iter(message)) for message in self.told]

    def _message(self, node: HeldNode, message: Message) -> asyncio.Task[bool]:
        self.told.append(message)

        async def taken() -> bool:
            return True

        return asyncio.create_task(taken())

    async def _free_ports(self, node: HeldNode, candidates: list[int]) -> list[int]:
        if self.meanwhile is not None:
            await self.meanwhile(node)
        return candidates


@pytest.mark.parametrize("forgotten", [True, False])
def test_a_gang_that_is_lost_while_it_starts_keeps_the_end_that_was_told(tmp_path: Path, forgotten: bool) -> None:
    async def body() -> None:
        double = NodesDouble(tmp_path, fence=0.0)

        async def lose(node: HeldNode) -> None:
            double.keeper.node_gone(node.node_id)
            if node.node_id == "b":
                gang = await double.ended.get()
                assert gang.final is not None and gang.final["result"] == "lost"
                if forgotten:
                    double.keeper.forget(["attempt"])

        double.meanwhile = lose
        await double.start()
        assert double.ended.empty()
        assert [status["attempt_id"] for status in double.keeper.statuses()] == ([] if forgotten else ["attempt"])
        assert "start" not in double.kinds
        double.keeper.forget(["attempt"])

    asyncio.run(body())
    assert list(Places(tmp_path).attempts.iterdir()) == []


def test_one_that_is_to_be_forgotten_twice_is_forgotten_with_the_others(tmp_path: Path) -> None:
    """The service may have heard of an end twice: by itself, and in a view."""

    async def body() -> None:
        double = NodesDouble(tmp_path, fence=0.0)
        await double.start()
        for name in "ab":
            double.keeper.node_gone(name)
        await double.ended.get()
        assert double.keeper.forget(["attempt", "no such attempt", "attempt"]) == ["attempt"]
        assert double.keeper.statuses() == []

    asyncio.run(body())


def test_a_gang_that_its_nodes_cannot_take_is_refused_and_unknown(tmp_path: Path) -> None:
    async def body() -> None:
        double = NodesDouble(tmp_path)
        double.nodes["b"].condition = NodeCondition.EVICTED
        with pytest.raises(Refused):
            await double.start()
        assert double.keeper.statuses() == []

    asyncio.run(body())


def test_a_node_that_speaks_while_a_gang_is_written_down_is_not_told_to_void_it(tmp_path: Path) -> None:
    """It says what it has, such as the end of the attempt before: that the new one is not there means nothing yet."""

    async def body() -> None:
        double = NodesDouble(tmp_path)

        async def speak(node: HeldNode) -> None:
            double.keeper.heard(node, {})

        double.meanwhile = speak
        await double.start()
        assert double.kinds == ["start", "start"]
        # A warden that was started anew since then, and does not have it, has to end it.
        double.nodes["a"].run = "another"
        double.keeper.heard(double.nodes["a"], {})
        assert double.told[2:] == [{"void": "attempt", "reason": None}]

    asyncio.run(body())
