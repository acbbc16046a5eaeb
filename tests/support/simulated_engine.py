"""A test double: an engine that exists only in memory and does what the test tells it to."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from trainshed.engines.protocol import (
    ClusterSpec,
    EngineError,
    EngineTraits,
    EngineUnavailable,
    EngineView,
    FileServerCondition,
    FileServerSpec,
    FileServerStatus,
    GangResult,
    GangSpec,
    GangStatus,
    Listener,
    NodeCondition,
    NodeSpec,
    NodeStatus,
)
from trainshed.resources.preemption import StopWarning
from trainshed.resources.reasons import Reason, ReasonCode


class SimulatedEngine:
    """Nodes become ready at once unless ``prepare_slowly``; gangs end when the test says so."""

    traits = EngineTraits()

    def __init__(self, name: str = "simulated") -> None:
        self.name = name
        self.nodes: dict[str, NodeStatus] = {}
        self.gangs: dict[str, GangStatus] = {}
        self.specs: dict[str, GangSpec] = {}
        self.clusters: dict[str, ClusterSpec] = {}
        self.started: list[str] = []
        self.stopped: list[tuple[str, Reason]] = []
        self.warned: dict[str, StopWarning] = {}
        self.forgotten: list[str] = []
        self.file_servers: dict[str, FileServerStatus] = {}
        self.file_server_specs: list[FileServerSpec] = []
        self.file_server_refusal: Reason | None = None
        self.serve_slowly = False
        self.prepare_slowly = False
        #: Requests for nodes take effect when this is set.
        self.adds = asyncio.Event()
        self.adds.set()
        self.adds_waiting = 0
        self.views = 0
        self.refusal: Reason | None = None
        self.start_refusal: Reason | None = None
        self.ignore_stops = False
        self.ignore_starts = False
        self.down = False
        self._listener: Listener = lambda status: None

    async def start(self, listener: Listener) -> None:
        self._listener = listener

    async def close(self) -> None:
        self._listener = lambda status: None

    async def shut_down(self) -> None:
        self.nodes.clear()

    def _check(self) -> None:
        if self.down:
            raise EngineUnavailable(Reason(ReasonCode.ENGINE_UNAVAILABLE, "simulated outage"))

    async def view(self) -> EngineView:
        self._check()
        self.views += 1
        return EngineView(
            tuple(self.nodes.values()),
            tuple(self.gangs.values()),
            tuple(self.file_servers.values()),
            tuple(self.clusters),
        )

    async def ensure_cluster(self, cluster: ClusterSpec) -> None:
        self._check()
        self.clusters[cluster.uid] = cluster

    async def remove_cluster(self, cluster_uid: str) -> None:
        self._check()
        self.clusters.pop(cluster_uid, None)

    async def add_nodes(self, cluster: ClusterSpec, nodes: tuple[NodeSpec, ...]) -> None:
        self._check()
        self.adds_waiting += 1
        await self.adds.wait()
        self.adds_waiting -= 1
        if self.refusal is not None:
            raise EngineError(self.refusal)
        condition = NodeCondition.PREPARING if self.prepare_slowly else NodeCondition.READY
        for node in nodes:
            self.nodes.setdefault(
                node.node_id,
                NodeStatus(
                    node.node_id,
                    cluster.uid,
                    condition,
                    1,
                    f"node-{node.ordinal}",
                    f"127.9.0.{node.ordinal + 4}",
                ),
            )
        self._listener(None)

    async def remove_nodes(self, node_ids: tuple[str, ...]) -> None:
        self._check()
        for node_id in node_ids:
            self.nodes.pop(node_id, None)
        self._listener(None)

    async def start_gang(self, gang: GangSpec) -> None:
        self._check()
        if self.start_refusal is not None:
            raise EngineError(self.start_refusal)
        if self.ignore_starts:
            return
        self.started.append(gang.attempt_id)
        self.specs[gang.attempt_id] = gang
        self.gangs.setdefault(gang.attempt_id, GangStatus(gang.attempt_id))

    async def stop_gang(
        self, attempt_id: str, reason: Reason, grace_seconds: float, warning: StopWarning | None = None
    ) -> None:
        self._check()
        self.stopped.append((attempt_id, reason))
        if warning is not None:
            # Its job goes on until the test says what it does with its time.
            self.warned[attempt_id] = warning
            return
        gang = self.gangs.get(attempt_id)
        if gang is not None and gang.result is None and not self.ignore_stops:
            self.end(attempt_id, GangResult.STOPPED, reason=reason)

    async def forget_gang(self, attempt_ids: tuple[str, ...]) -> None:
        self._check()
        for attempt_id in attempt_ids:
            self.forgotten.append(attempt_id)
            self.gangs.pop(attempt_id, None)

    async def ensure_file_server(self, server: FileServerSpec) -> None:
        self._check()
        if self.file_server_refusal is not None:
            raise EngineError(self.file_server_refusal)
        self.file_server_specs.append(server)
        taken = {status.address for status in self.file_servers.values()}
        address = next(f"127.230.0.{last}" for last in range(2, 250) if f"127.230.0.{last}" not in taken)
        condition = FileServerCondition.STARTING if self.serve_slowly else FileServerCondition.SERVING
        status = FileServerStatus(server.uid, condition, address, 2049, 20048, 22)
        self.file_servers.setdefault(server.uid, status)
        self._listener(None)

    async def remove_file_server(self, uid: str) -> None:
        self._check()
        self.file_servers.pop(uid, None)
        self._listener(None)

    def mount_root(self, cluster_uid: str) -> str | None:
        return f"/{self.name}/{cluster_uid}"

    # What the test does to it.

    def live(self) -> list[str]:
        """Attempts that run."""
        return [gang.attempt_id for gang in self.gangs.values() if gang.result is None]

    def end(
        self,
        attempt_id: str,
        result: GangResult,
        *,
        exit_code: int | None = None,
        reason: Reason | None = None,
        tell: bool = True,
    ) -> None:
        """The gang ended; ``tell=False`` loses the message, so that only ``view`` knows."""
        status = GangStatus(attempt_id, result, exit_code, reason, ended_at=1)
        self.gangs[attempt_id] = status
        if tell:
            self._listener(status)

    def change(
        self, node_id: str, condition: NodeCondition, *, boot: int | None = None, reason: Reason | None = None
    ) -> None:
        """The node reports another condition."""
        node = self.nodes[node_id]
        self.nodes[node_id] = replace(node, condition=condition, boot=boot or node.boot, reason=reason)
        self._listener(None)

    def change_file_server(
        self, uid: str, condition: FileServerCondition, reason: Reason | None = None, ssh_port: int | None = 22
    ) -> None:
        """The file server reports another condition."""
        status = replace(self.file_servers[uid], condition=condition, reason=reason, ssh_port=ssh_port)
        self.file_servers[uid] = status
        self._listener(None)
