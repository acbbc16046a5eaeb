"""A test double of ``engines.protocol.Engine``: nodes are there at once, gangs only take the time that they say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from trainshed.engines.protocol import (
    ClusterSpec,
    EngineView,
    FileServerSpec,
    GangResult,
    GangSpec,
    GangStatus,
    Listener,
    NodeCondition,
    NodeSpec,
    NodeStatus,
)
from trainshed.resources.preemption import StopWarning
from trainshed.resources.reasons import Reason


class TimedEngine:
    """Has no processes. A gang whose command is ``sleep 0.2`` succeeds after so many seconds, any other one at once."""

    name = "timed"

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._listener: Listener = lambda status: None
        self._nodes: dict[str, NodeStatus] = {}
        self._gangs: dict[str, GangStatus] = {}
        #: What runs: by attempt its nodes and what ends it.
        self._running: dict[str, tuple[tuple[str, ...], asyncio.Handle]] = {}
        self._holders: dict[str, str] = {}
        #: Gangs that succeeded and whose outcome is recorded; what a wrong scheduler would have done.
        self.done = 0
        self.wrongs: list[str] = []
        #: Called after each outcome that is recorded.
        self.told: Callable[[], None] = lambda: None

    async def start(self, listener: Listener) -> None:
        self._listener = listener

    async def close(self) -> None:
        self._listener = lambda status: None

    async def shut_down(self) -> None:
        await self.close()

    async def view(self) -> EngineView:
        return EngineView(tuple(self._nodes.values()), tuple(self._gangs.values()))

    async def ensure_cluster(self, cluster: ClusterSpec) -> None:
        pass

    async def remove_cluster(self, cluster_uid: str) -> None:
        pass

    async def add_nodes(self, cluster: ClusterSpec, nodes: tuple[NodeSpec, ...]) -> None:
        for node in nodes:
            host, ready = f"node-{node.ordinal}", NodeCondition.READY
            self._nodes[node.node_id] = NodeStatus(node.node_id, cluster.uid, ready, 1, host, "127.9.0.4")
        self._listener(None)

    async def remove_nodes(self, node_ids: tuple[str, ...]) -> None:
        for node_id in node_ids:
            self._nodes.pop(node_id, None)

    async def start_gang(self, gang: GangSpec) -> None:
        if gang.attempt_id in self._gangs:
            return
        for node_id in gang.node_ids:
            if node_id in self._holders or node_id not in self._nodes:
                self.wrongs.append(f"{gang.attempt_id} starts on {node_id}, which is not free")
            self._holders[node_id] = gang.attempt_id
        self._gangs[gang.attempt_id] = GangStatus(gang.attempt_id)
        program, _, seconds = str(gang.properties["customToolkitSettings"]["commandLine"]).partition(" ")
        loop, id = asyncio.get_running_loop(), gang.attempt_id
        ending = (
            loop.call_later(float(seconds), self._end, id, GangResult.SUCCEEDED, 0, None)
            if program == "sleep"
            else loop.call_soon(self._end, id, GangResult.SUCCEEDED, 0, None)
        )
        self._running[id] = (gang.node_ids, ending)

    async def stop_gang(
        self, attempt_id: str, reason: Reason, grace_seconds: float, warning: StopWarning | None = None
    ) -> None:
        if attempt_id in self._running:
            self._running[attempt_id][1].cancel()
            self._end(attempt_id, GangResult.STOPPED, None, reason)

    def _end(self, attempt_id: str, result: GangResult, exit_code: int | None, reason: Reason | None) -> None:
        node_ids, _ = self._running.pop(attempt_id)
        for node_id in node_ids:
            del self._holders[node_id]
        status = GangStatus(attempt_id, result, exit_code, reason, ended_at=self._clock())
        self._gangs[attempt_id] = status
        self._listener(status)

    async def forget_gang(self, attempt_ids: tuple[str, ...]) -> None:
        for attempt_id in attempt_ids:
            gang = self._gangs.pop(attempt_id, None)
            self.done += gang is not None and gang.result is GangResult.SUCCEEDED
        self.told()

    async def ensure_file_server(self, server: FileServerSpec) -> None:
        raise NotImplementedError("the double has no file servers")

    async def remove_file_server(self, uid: str) -> None:
        pass

    def mount_root(self, cluster_uid: str) -> str | None:
        return None
