"""Gangs whose nodes are lost while they are being started; the way to the nodes is a double."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from trainshed.engines.local.gang import Gang, node_lost
from trainshed.engines.local.messages import Message
from trainshed.engines.local.wire import Refused
from trainshed.engines.protocol import NodeCondition
from trainshed.engines.ray.gangs import GangKeeper, Telling
from trainshed.engines.ray.held import HeldNode
from trainshed.engines.ray.places import Places

LOST: Message = {"outcome": None, "loss": node_lost("a").to_json()}


class NodesDouble:
    """Nodes that do no more than what a test lets happen while a gang asks them for free ports."""

    def __init__(self, places: Places) -> None:
        self.nodes = {name: HeldNode(name, "cluster", 0, name, condition=NodeCondition.READY) for name in "ab"}
        self.ended: list[Gang] = []
        self.told: list[Message] = []
        telling = Telling(self._message, self._free_ports)
        self.keeper = GangKeeper(places, self.nodes, telling, self.ended.append, 1.0, True)
        self.forgotten = False

    def _message(self, node: HeldNode, message: Message) -> asyncio.Task[bool]:
        self.told.append(message)

        async def taken() -> bool:
            return True

        return asyncio.create_task(taken())

    async def _free_ports(self, node: HeldNode, candidates: list[int]) -> list[int]:
        self.keeper.heard(node, {"attempt": LOST})
        if self.forgotten and self.ended:
            self.keeper.forget(["attempt"])
        return []


@pytest.mark.parametrize("forgotten", [True, False])
def test_a_gang_that_is_lost_while_it_starts_keeps_the_end_that_was_told(tmp_path: Path, forgotten: bool) -> None:
    places = Places(tmp_path)
    places.make()

    async def body() -> None:
        double = NodesDouble(places)
        double.forgotten = forgotten
        spec: dict[str, Any] = {"attempt_id": "attempt", "node_ids": ["a", "b"], "segment": "s", "user": None}
        await double.keeper.start(spec, {}, {})
        assert [gang.attempt_id for gang in double.ended] == ["attempt"]
        assert [status["attempt_id"] for status in double.keeper.statuses()] == ([] if forgotten else ["attempt"])
        assert not any("start" in message for message in double.told)

    asyncio.run(body())
    assert list(places.attempts.iterdir()) == []


def test_a_gang_that_its_nodes_cannot_take_is_refused_and_unknown(tmp_path: Path) -> None:
    places = Places(tmp_path)
    places.make()

    async def body() -> None:
        double = NodesDouble(places)
        double.nodes["b"].condition = NodeCondition.EVICTED
        with pytest.raises(Refused):
            await double.keeper.start({"attempt_id": "attempt", "node_ids": ["a", "b"], "segment": "s"}, {}, {})
        assert double.keeper.statuses() == []

    asyncio.run(body())
