"""The engine as one life of the service reaches it: over a connection that delays, loses, doubles and fails.

A test double of ``engines.protocol.Engine``. The requests of a connection take effect in the order in which they were
made; its messages come in any order. A service that is killed leaves requests on the way: they take effect within the
delays of this connection, or never, and in either case before the next service connects.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TypeVar

from tests.simulation.machines import Machines
from trainshed.engines.protocol import (
    ClusterSpec,
    EngineError,
    EngineTraits,
    EngineUnavailable,
    EngineView,
    FileServerSpec,
    GangSpec,
    GangStatus,
    Listener,
    NodeSpec,
)
from trainshed.resources.preemption import StopWarning
from trainshed.resources.reasons import Reason, ReasonCode

T = TypeVar("T")


class Outage:
    """Whether the engine can be reached; shared by all connections."""

    def __init__(self) -> None:
        self.on = False


class SimulatedEngine:
    """One connection to the machines."""

    name = "local"

    def __init__(
        self,
        machines: Machines,
        roll: random.Random,
        outage: Outage,
        *,
        latency: float,
        happens: Callable[[str], bool],
        queues: bool = False,
    ) -> None:
        self.traits = EngineTraits(queues=queues)
        self._machines = machines
        self._roll = roll
        self._outage = outage
        self._latency = latency
        self._happens = happens
        self._last = 0.0
        self._listener: Listener | None = None
        #: Set to False when the service is killed.
        self.alive = True
        #: Whether requests that are on the way then still take effect.
        self.delivers = True

    async def start(self, listener: Listener) -> None:
        self._check()
        self._listener = listener
        self._machines.tell = self._tell

    async def close(self) -> None:
        self._listener = None

    async def shut_down(self) -> None:
        await self.close()

    async def view(self) -> EngineView:
        return await self._call(self._machines.view)

    async def ensure_cluster(self, cluster: ClusterSpec) -> None:
        await self._call(lambda: self._machines.ensure_cluster(cluster))

    async def remove_cluster(self, cluster_uid: str) -> None:
        await self._call(lambda: self._machines.remove_cluster(cluster_uid))

    async def add_nodes(self, cluster: ClusterSpec, nodes: tuple[NodeSpec, ...]) -> None:
        await self._call(lambda: self._machines.add_nodes(cluster, nodes))

    async def remove_nodes(self, node_ids: tuple[str, ...]) -> None:
        await self._call(lambda: self._machines.remove_nodes(node_ids))

    async def start_gang(self, gang: GangSpec) -> None:
        await self._call(lambda: self._machines.start(gang))

    async def stop_gang(
        self, attempt_id: str, reason: Reason, grace_seconds: float, warning: StopWarning | None = None
    ) -> None:
        await self._call(lambda: self._machines.stop(attempt_id, reason, grace_seconds, warning))

    async def forget_gang(self, attempt_ids: tuple[str, ...]) -> None:
        await self._call(lambda: self._machines.forget(attempt_ids))

    async def ensure_file_server(self, server: FileServerSpec) -> None:
        await self._call(lambda: self._machines.serve(server.uid))

    async def remove_file_server(self, uid: str) -> None:
        await self._call(lambda: self._machines.file_servers.pop(uid, None))

    def mount_root(self, cluster_uid: str) -> str | None:
        return None

    def changed(self) -> None:
        """It was reached again after an outage."""
        self._deliver(None)

    def settled_in(self) -> float:
        """Seconds until every request that was made has arrived."""
        return max(0.0, self._last - asyncio.get_running_loop().time()) + 1e-3

    def _check(self) -> None:
        if self._outage.on:
            raise _unavailable("it is away")

    async def _call(self, effect: Callable[[], T]) -> T:
        self._check()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._last = max(self._last + 1e-6, loop.time() + self._roll.random() * self._latency)
        loop.call_at(self._last, self._arrive, effect, future)
        return await future

    def _arrive(self, effect: Callable[[], T], future: asyncio.Future[T]) -> None:
        """The request is there."""
        if not self.alive and not self.delivers:
            return
        if self._outage.on or self._happens("call fails before"):
            _refuse(future, _unavailable("the request did not arrive"))
            return
        try:
            value = effect()
        except EngineError as error:
            self._answer(_refuse, future, error)
            return
        if self._happens("call fails after"):
            self._answer(_refuse, future, _unavailable("its answer did not arrive"))
        else:
            self._answer(_resolve, future, value)

    def _answer(self, settle: Callable[..., None], *arguments: object) -> None:
        asyncio.get_running_loop().call_later(self._roll.random() * self._latency, settle, *arguments)

    def _tell(self, status: GangStatus | None) -> None:
        """Something changed: a message goes to the service, or is lost, or comes twice."""
        if self._outage.on or self._happens("message lost"):
            return
        self._deliver(status)
        if self._happens("message doubled"):
            self._deliver(status)

    def _deliver(self, status: GangStatus | None) -> None:
        seconds = self._roll.random() * self._latency
        if self._happens("message late"):
            seconds += self._roll.random() * 10
        asyncio.get_running_loop().call_later(seconds, self._heard, status)

    def _heard(self, status: GangStatus | None) -> None:
        if self.alive and self._listener is not None:
            self._listener(status)


def _unavailable(why: str) -> EngineUnavailable:
    return EngineUnavailable(Reason(ReasonCode.ENGINE_UNAVAILABLE, f"Simulated: {why}."))


def _refuse(future: asyncio.Future[T], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _resolve(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)
