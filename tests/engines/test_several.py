"""Several engines as one: where each call goes, and what one that is away does to the others."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.engines.lab import cluster_spec, gang_spec
from tests.support.simulated_engine import SimulatedEngine
from trainshed.engines.protocol import EngineUnavailable, EngineView, GangStatus, Listener, NodeSpec
from trainshed.engines.several import SeveralEngines
from trainshed.resources.reasons import Reason, ReasonCode

AWAY = Reason(ReasonCode.ENGINE_UNAVAILABLE, "its controller does not answer")
STOP = Reason(ReasonCode.JOB_TERMINATED, "the test wants it so")


class Late(SimulatedEngine):
    """Cannot be started until ``there`` is set; then tells."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.there = asyncio.Event()
        self.starts = 0

    async def start(self, listener: Listener) -> None:
        self.starts += 1
        if self.starts == 1:
            raise EngineUnavailable(AWAY)
        await self.there.wait()
        await super().start(listener)


class Slow(SimulatedEngine):
    """Never shows its view."""

    async def view(self) -> EngineView:
        await asyncio.Event().wait()
        raise AssertionError


def engines() -> tuple[SimulatedEngine, SimulatedEngine, SeveralEngines]:
    own, other = SimulatedEngine("local"), SimulatedEngine("hpc")
    return own, other, SeveralEngines([own, other])


async def two_clusters(several: SeveralEngines) -> None:
    for name, uid, node in (("local", "here", "n1"), ("hpc", "there", "m1")):
        cluster = cluster_spec(uid=uid, engine=name)
        await several.ensure_cluster(cluster)
        await several.add_nodes(cluster, (NodeSpec(node, 0),))
        gang = replace(gang_spec("true", (node,), cluster, attempt_id=f"a-{uid}"), engine=name)
        await several.start_gang(gang)


def test_calls_go_to_the_engine_that_has_it() -> None:
    async def main() -> None:
        own, other, several = engines()
        await several.start(lambda status: None)
        await two_clusters(several)
        assert (list(own.clusters), list(own.nodes), own.started) == (["here"], ["n1"], ["a-here"])
        assert (list(other.clusters), list(other.nodes), other.started) == (["there"], ["m1"], ["a-there"])
        assert several.mount_root("there") == "/hpc/there"
        view = await several.view()
        assert {node.node_id for node in view.nodes} == {"n1", "m1"}
        assert {gang.attempt_id for gang in view.gangs} == {"a-here", "a-there"}
        assert (set(view.clusters), view.absent) == ({"here", "there"}, {})
        await several.stop_gang("a-there", STOP, 1.0)
        await several.forget_gang(("a-here", "a-there"))
        await several.remove_nodes(("n1", "m1"))
        await several.remove_cluster("there")
        assert (own.stopped, own.forgotten) == ([], ["a-here"])
        assert ([one for one, _ in other.stopped], other.forgotten) == (["a-there"], ["a-there"])
        assert not own.nodes and not other.nodes and not other.clusters
        await several.close()

    asyncio.run(main())


def test_what_nobody_knows_is_told_to_all() -> None:
    async def main() -> None:
        own, other, several = engines()
        await several.start(lambda status: None)
        await several.stop_gang("unknown", STOP, 1.0)
        await several.forget_gang(("unknown",))
        assert own.stopped == other.stopped == [("unknown", STOP)]
        assert own.forgotten == other.forgotten == ["unknown"]

    asyncio.run(main())


def test_a_new_service_learns_from_the_view_who_has_what() -> None:
    async def main() -> None:
        own, other, several = engines()
        await several.start(lambda status: None)
        await two_clusters(several)
        again = SeveralEngines([own, other])
        await again.start(lambda status: None)
        await again.view()
        await again.stop_gang("a-there", STOP, 1.0)
        assert (own.stopped, [one for one, _ in other.stopped]) == ([], ["a-there"])

    asyncio.run(main())


def test_one_that_is_away_stops_nobody_else() -> None:
    async def main() -> None:
        own, other, several = engines()
        await several.start(lambda status: None)
        await two_clusters(several)
        other.down = True
        view = await several.view()
        assert [node.node_id for node in view.nodes] == ["n1"]
        assert list(view.absent) == ["hpc"] and view.absent["hpc"].code is ReasonCode.ENGINE_UNAVAILABLE
        with pytest.raises(EngineUnavailable) as refusal:
            await several.forget_gang(("a-there", "a-here"))
        assert refusal.value.engine == "hpc"
        assert own.forgotten == ["a-here"]
        own.down = True
        with pytest.raises(EngineUnavailable):
            await several.view()

    asyncio.run(main())


def test_one_that_is_away_at_the_start_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainshed.engines.several._PAUSES", (0.001, 0.01))

    async def main() -> None:
        late, told = Late("hpc"), asyncio.Event()

        def listen(status: GangStatus | None) -> None:
            told.set()

        several = SeveralEngines([SimulatedEngine("local"), late])
        await several.start(listen)
        assert (await several.view()).absent == {"hpc": AWAY}
        with pytest.raises(EngineUnavailable):
            await several.ensure_cluster(cluster_spec(engine="hpc"))
        told.clear()
        late.there.set()
        async with asyncio.timeout(10):
            await told.wait()
        assert (await several.view()).absent == {}
        await several.ensure_cluster(cluster_spec(uid="there", engine="hpc"))
        assert list(late.clusters) == ["there"]
        await several.close()

    asyncio.run(main())


def test_the_home_s_own_must_be_there() -> None:
    async def main() -> None:
        late = Late("local")
        with pytest.raises(EngineUnavailable):
            await SeveralEngines([late, SimulatedEngine("hpc")]).start(lambda status: None)

    asyncio.run(main())


def test_one_that_does_not_answer_counts_as_away() -> None:
    async def main() -> None:
        several = SeveralEngines([SimulatedEngine("local"), Slow("hpc")], patience=0.05)
        await several.start(lambda status: None)
        view = await several.view()
        assert "did not answer within 0.05 s" in view.absent["hpc"].text

    asyncio.run(main())


def test_a_cluster_of_an_engine_that_is_not_configured_waits() -> None:
    async def main() -> None:
        _, _, several = engines()
        await several.start(lambda status: None)
        with pytest.raises(EngineUnavailable) as refusal:
            await several.ensure_cluster(cluster_spec(engine="gone"))
        assert refusal.value.engine == "gone" and "trainshed engine add" in refusal.value.reason.text

    asyncio.run(main())
