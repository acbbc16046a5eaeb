"""Several engines seen as one: each call goes to the engine that has the cluster, and views are put together.

The first engine is the home's own. Without it nothing works, as ever; another one that is away stops nobody else: it
is named in ``EngineView.absent``, and asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain

from trainshed.engines.protocol import (
    ClusterSpec,
    Engine,
    EngineError,
    EngineTraits,
    EngineUnavailable,
    EngineView,
    FileServerSpec,
    GangSpec,
    Listener,
    NodeSpec,
)
from trainshed.resources.preemption import StopWarning
from trainshed.resources.reasons import Reason, ReasonCode

#: Seconds that the start of the service waits for engines other than its own, and that one may take to show its view.
PATIENCE = 10.0
#: Seconds between two tries to start an engine: the first, and the longest.
_PAUSES = (1.0, 30.0)


class SeveralEngines:
    """Named engines as one (see ``engines.protocol.Engine``)."""

    traits = EngineTraits()

    def __init__(self, engines: Sequence[Engine], *, patience: float = PATIENCE) -> None:
        """The first is the home's own. ``patience`` in seconds."""
        self._engines = {engine.name: engine for engine in engines}
        self._first = engines[0]
        self._patience = patience
        #: Those that are not started yet, and why.
        self._absent: dict[str, Reason] = {}
        self._starts: dict[str, asyncio.Task[None]] = {}
        self._tried = {engine.name: asyncio.Event() for engine in engines}
        #: Which engine has a cluster, a gang or a node, by id.
        self._clusters: dict[str, str] = {}
        self._gangs: dict[str, str] = {}
        self._nodes: dict[str, str] = {}

    @property
    def name(self) -> str:
        """The first one's."""
        return self._first.name

    async def start(self, listener: Listener) -> None:
        """Raises EngineUnavailable when the first cannot be reached; the others are tried again until they can."""
        await self._first.start(listener)
        for name in self._engines:
            if name != self.name:
                self._absent[name] = _not_yet(name)
                self._starts[name] = asyncio.create_task(self._start(name, listener), name=f"start of engine {name}")
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                for tried in [self._tried[name] for name in self._starts]:
                    await tried.wait()

    async def _start(self, name: str, listener: Listener) -> None:
        pause, longest = _PAUSES
        while True:
            try:
                await self._engines[name].start(listener)
            except EngineError as error:
                self._absent[name] = error.reason
            except Exception as error:
                self._absent[name] = Reason(
                    ReasonCode.ENGINE_UNAVAILABLE, f"Engine {name} could not be started: {error!r}."
                )
            else:
                del self._absent[name]
                self._tried[name].set()
                listener(None)
                return
            self._tried[name].set()
            await asyncio.sleep(pause)
            pause = min(longest, 2 * pause)

    async def close(self) -> None:
        """Let go of all."""
        for task in self._starts.values():
            task.cancel()
        await asyncio.gather(*self._starts.values(), return_exceptions=True)
        await _all(engine.close() for engine in self._engines.values())

    async def shut_down(self) -> None:
        """End the processes of each that can be reached."""
        await _all(engine.shut_down() for engine in self._there())

    async def view(self) -> EngineView:
        """What each shows; those that cannot be reached are named. Raises EngineUnavailable when none can be."""
        names = list(self._engines)
        shown = await asyncio.gather(*map(self._view, names))
        absent = {name: view for name, view in zip(names, shown, strict=True) if isinstance(view, Reason)}
        views = {name: view for name, view in zip(names, shown, strict=True) if isinstance(view, EngineView)}
        if not views:
            raise EngineUnavailable(absent[self.name], self.name)
        self._remember(views)
        return EngineView(
            nodes=tuple(chain.from_iterable(view.nodes for view in views.values())),
            gangs=tuple(chain.from_iterable(view.gangs for view in views.values())),
            file_servers=tuple(chain.from_iterable(view.file_servers for view in views.values())),
            clusters=tuple(chain.from_iterable(view.clusters for view in views.values())),
            mirrored=frozenset(
                chain.from_iterable(view.clusters for name, view in views.items() if self._engines[name].traits.queues)
            ),
            absent=absent,
        )

    async def _view(self, name: str) -> EngineView | Reason:
        if name in self._absent:
            return self._absent[name]
        try:
            async with asyncio.timeout(None if name == self.name else self._patience):
                return await self._engines[name].view()
        except EngineUnavailable as error:
            return error.reason
        except TimeoutError:
            text = f"Engine {name} did not answer within {self._patience:g} s."
            return Reason(ReasonCode.ENGINE_UNAVAILABLE, text)

    def _remember(self, views: Mapping[str, EngineView]) -> None:
        for name, view in views.items():
            for known, ids in (
                (self._gangs, [gang.attempt_id for gang in view.gangs]),
                (self._nodes, [node.node_id for node in view.nodes]),
                (self._clusters, list(view.clusters)),
            ):
                known.update(dict.fromkeys(ids, name))

    async def ensure_cluster(self, cluster: ClusterSpec) -> None:
        """To the cluster's engine."""
        self._clusters[cluster.uid] = cluster.engine
        await self._to(cluster.engine, lambda engine: engine.ensure_cluster(cluster))

    async def remove_cluster(self, cluster_uid: str) -> None:
        """To the cluster's engine."""
        await self._to_owner(self._clusters, cluster_uid, lambda engine: engine.remove_cluster(cluster_uid))
        self._clusters.pop(cluster_uid, None)

    async def add_nodes(self, cluster: ClusterSpec, nodes: tuple[NodeSpec, ...]) -> None:
        """To the cluster's engine."""
        self._clusters[cluster.uid] = cluster.engine
        self._nodes.update((node.node_id, cluster.engine) for node in nodes)
        await self._to(cluster.engine, lambda engine: engine.add_nodes(cluster, nodes))

    async def remove_nodes(self, node_ids: tuple[str, ...]) -> None:
        """To the engines that have them. One that queues by itself keeps its nodes."""
        mine = tuple(id for id in node_ids if not self._keeps(id))
        await self._each(self._nodes, mine, lambda engine, ids: engine.remove_nodes(ids))

    async def start_gang(self, gang: GangSpec) -> None:
        """To the cluster's engine."""
        name = gang.engine
        self._gangs[gang.attempt_id] = name
        await self._to(name, lambda engine: engine.start_gang(gang))

    async def stop_gang(
        self, attempt_id: str, reason: Reason, grace_seconds: float, warning: StopWarning | None = None
    ) -> None:
        """To the gang's engine."""
        await self._to_owner(
            self._gangs, attempt_id, lambda engine: engine.stop_gang(attempt_id, reason, grace_seconds, warning)
        )

    async def forget_gang(self, attempt_ids: tuple[str, ...]) -> None:
        """To the engines that have them."""
        await self._each(self._gangs, attempt_ids, lambda engine, ids: engine.forget_gang(ids))
        for attempt_id in attempt_ids:
            self._gangs.pop(attempt_id, None)

    async def ensure_file_server(self, server: FileServerSpec) -> None:
        """File servers are the home's own."""
        await self._to(self.name, lambda engine: engine.ensure_file_server(server))

    async def remove_file_server(self, uid: str) -> None:
        """File servers are the home's own."""
        await self._to(self.name, lambda engine: engine.remove_file_server(uid))

    def mount_root(self, cluster_uid: str) -> str | None:
        """The cluster's engine's."""
        return self._engines[self._clusters.get(cluster_uid, self.name)].mount_root(cluster_uid)

    def _keeps(self, node_id: str) -> bool:
        owner = self._engines.get(self._nodes.get(node_id, ""))
        return owner is not None and owner.traits.queues

    def _there(self) -> list[Engine]:
        return [engine for name, engine in self._engines.items() if name not in self._absent]

    async def _to(self, name: str, call: Callable[[Engine], Awaitable[None]]) -> None:
        engine = self._engines.get(name)
        if engine is None:
            raise EngineUnavailable(_unknown(name), name)
        if name in self._absent:
            raise EngineUnavailable(self._absent[name], name)
        try:
            await call(engine)
        except EngineUnavailable as error:
            raise EngineUnavailable(error.reason, name) from error

    async def _to_owner(self, known: Mapping[str, str], id: str, call: Callable[[Engine], Awaitable[None]]) -> None:
        """To the engine that has the id; to all when that is not known, since every call is idempotent."""
        owner = known.get(id)
        await _all(self._to(name, call) for name in ([owner] if owner is not None else self._engines))

    async def _each(
        self,
        known: Mapping[str, str],
        ids: Iterable[str],
        call: Callable[[Engine, tuple[str, ...]], Awaitable[None]],
    ) -> None:
        shares: dict[str, list[str]] = {}
        for id in ids:
            owner = known.get(id)
            for name in [owner] if owner is not None else self._engines:
                shares.setdefault(name, []).append(id)

        def told(share: tuple[str, ...]) -> Callable[[Engine], Awaitable[None]]:
            return lambda engine: call(engine, share)

        await _all(self._to(name, told(tuple(share))) for name, share in shares.items())


async def _all(calls: Iterable[Awaitable[None]]) -> None:
    """Make all calls, whatever becomes of some; then raise the first error."""
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _not_yet(name: str) -> Reason:
    return Reason(ReasonCode.ENGINE_UNAVAILABLE, f"Engine {name} is being connected to.")


def _unknown(name: str) -> Reason:
    text = (
        f"Engine {name} is not configured on this service. Add it again (trainshed engine add) and start the "
        "service again, or delete the clusters that use it."
    )
    return Reason(ReasonCode.ENGINE_UNAVAILABLE, text)
