"""A laboratory whose nodes stay for the next test, for engines where making them takes longer than most tests."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tests.engines.lab import Lab
from trainshed.engines.protocol import ClusterSpec, EngineView, NodeCondition

#: As many as tests on kept nodes ask for.
_KEPT = 2


class KeptLab(Lab):
    """While it ``keeps``, every test gets the same cluster and the same two nodes, with nothing on them."""

    keeps = False
    _cluster_kept: ClusterSpec | None = None
    _nodes_kept: tuple[str, ...] = ()

    def cluster(self, name: str = "lab", **members: Any) -> ClusterSpec:
        """The kept one, unless it is to be another."""
        if not self.keeps or members or name != "lab":
            return super().cluster(name, **members)
        if self._cluster_kept is None:
            self._cluster_kept = super().cluster()
        return self._cluster_kept

    async def add_nodes(self, count: int, cluster: ClusterSpec) -> tuple[str, ...]:
        """Of the kept ones, which are made when they are first asked for."""
        if cluster is not self._cluster_kept:
            return await super().add_nodes(count, cluster)
        if not self._nodes_kept:
            self._nodes_kept = await super().add_nodes(_KEPT, cluster)
        assert count <= _KEPT
        return self._nodes_kept[:count]

    async def tidy(self, well: bool) -> None:
        """After a test that went ``well``, or did not: nothing of it is left, and what is kept is as it was."""
        view = await self.until(lambda view: view, "the engine")
        if not (well and self.keeps and self._is_as_it_was(view)):
            view = await self._drop(view)
        await self.engine.forget_gang(tuple(gang.attempt_id for gang in view.gangs))
        for uid in view.clusters:
            if self._cluster_kept is None or uid != self._cluster_kept.uid:
                await self.engine.remove_cluster(uid)
            elif root := self.engine.mount_root(uid):
                _empty(Path(root))
        self.told.clear()

    def _is_as_it_was(self, view: EngineView) -> bool:
        ready = {node.node_id for node in view.nodes if node.condition is NodeCondition.READY and node.boot == 1}
        return ready == {node.node_id for node in view.nodes} == set(self._nodes_kept) and all(
            gang.result for gang in view.gangs
        )

    async def _drop(self, view: EngineView) -> EngineView:
        self._cluster_kept, self._nodes_kept = None, ()
        await self.engine.remove_nodes(tuple(node.node_id for node in view.nodes))
        return await self.until(
            lambda view: view if not view.nodes and all(gang.result for gang in view.gangs) else None, "no node"
        )


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
