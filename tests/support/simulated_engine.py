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

IN_QUEUE = Reason(ReasonCode.WAITING_FOR_NODES, "Reason=Resources", {"said": "Resources"})


class SimulatedEngine:
    """Nodes become ready at once unless ``prepare_slowly``; gangs end when the test says so.

    ``queues``: it queues by itself. Gangs wait until the test has them ``begin``, and may be queued ``again``.
    """

    def __init__(self, name: str = "simulated", *, queues: bool = False) -> None:
        self.name = name
        self.traits = EngineTraits(queues=queues)
        #: By uid of a job, work that it has queued again by itself and that nobody has taken up.
        self.queued_again: dict[str, str] = {}
        self.taken_up: list[str] = []
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
        if self.traits.queues and gang.attempt_id not in self.gangs:
            assert gang.node_ids == () and gang.node_count > 0
            former = self.queued_again.pop(gang.job_uid, None)
            if former is not None:
                self.taken_up.append(gang.attempt_id)
                self._drop_again(former)
            self.gangs[gang.attempt_id] = GangStatus(gang.attempt_id, waiting=IN_QUEUE)
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
        if gang is not None and gang.again:
            self.queued_again.pop(self.specs[attempt_id].job_uid, None)
            self._drop_again(attempt_id)
            self._listener(None)
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

    def show_node(self, cluster_uid: str, name: str, condition: NodeCondition = NodeCondition.READY) -> None:
        """One of its own nodes is there for the cluster, in this condition."""
        number = len(self.nodes) + 4
        self.nodes[name] = NodeStatus(name, cluster_uid, condition, 1, name, f"127.8.0.{number}")
        self._listener(None)

    def hide_node(self, name: str) -> None:
        """It is not there any more."""
        del self.nodes[name]
        self._listener(None)

    def wait(self, attempt_id: str, reason: Reason) -> None:
        """It says why the gang waits in its queue."""
        self.gangs[attempt_id] = replace(self.gangs[attempt_id], waiting=reason)
        self._listener(None)

    def begin(self, attempt_id: str, *hosts: str, at: int = 1) -> None:
        """It starts a gang of its queue on these nodes."""
        self.gangs[attempt_id] = GangStatus(attempt_id, started_at=at, hosts=hosts)
        self._listener(None)

    def end_again(self, attempt_id: str, reason: Reason, result: GangResult = GangResult.LOST) -> None:
        """The gang ended, and it has queued the same work again by itself."""
        self.queued_again[self.specs[attempt_id].job_uid] = attempt_id
        self.gangs[attempt_id] = replace(
            self.gangs[attempt_id], result=result, reason=reason, ended_at=1, waiting=None, again=True
        )
        self._listener(self.gangs[attempt_id])

    def _drop_again(self, attempt_id: str) -> None:
        if attempt_id in self.gangs:
            self.gangs[attempt_id] = replace(self.gangs[attempt_id], again=False)

    def end(
        self,
        attempt_id: str,
        result: GangResult,
        *,
        exit_code: int | None = None,
        reason: Reason | None = None,
        tell: bool = True,
        at: int = 1,
    ) -> None:
        """The gang ended at ``at`` (Unix ms); ``tell=False`` loses the message, so that only ``view`` knows."""
        began = self.gangs[attempt_id] if attempt_id in self.gangs else GangStatus(attempt_id)
        status = GangStatus(
            attempt_id, result, exit_code, reason, ended_at=at, started_at=began.started_at, hosts=began.hosts
        )
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
