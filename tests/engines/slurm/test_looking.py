"""When the engine looks at Slurm."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

import pytest

from tests.engines.lab import cluster_spec, eventually
from tests.engines.slurm.laboratory import settings
from trainshed.engines.slurm import engine as looking
from trainshed.engines.slurm.engine import SlurmEngine
from trainshed.engines.slurm.owners import Owner
from trainshed.engines.slurm.parsing import NodeLine, QueueLine

pytestmark = pytest.mark.slow


class SiteDouble:
    """Stands in for ``site.Site``: one node, no jobs."""

    async def nodes(self) -> list[NodeLine]:
        return [NodeLine("n1", "batch*", None, "idle", "", "n1", 2, 1000, "", "")]

    async def queue(self, users: Collection[Owner] = (), *, ended: bool = False) -> list[QueueLine]:
        return []

    async def config(self) -> dict[str, str]:
        return {}

    async def close(self) -> None:
        """Nothing to let go of."""


def test_nodes_of_a_new_cluster_are_seen_soon_though_slurm_was_asked_just_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than it takes to make a cluster here; without jobs the next look of itself would be far beyond the test.
    monkeypatch.setattr(looking, "_SOON", 2.0)
    monkeypatch.setattr(looking, "_NODES_SECONDS", 600.0)
    told: list[object] = []

    async def body() -> None:
        engine = SlurmEngine("hpc", settings(tmp_path))
        monkeypatch.setattr(engine, "_site", SiteDouble())
        await engine.start(told.append)
        try:
            await eventually(lambda: engine._asked_at, "the first look")
            await engine.ensure_cluster(cluster_spec())
            await eventually(lambda: told, "word of the nodes")
            assert [node.host_name for node in (await engine.view()).nodes] == ["n1"]
        finally:
            await engine.close()

    asyncio.run(body())
