"""A place to try an engine: starts it, asks for nodes and gangs, and waits for what it tells, always with a bound."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from trainshed.engines.protocol import (
    ClusterSpec,
    Engine,
    EngineUnavailable,
    EngineView,
    GangSpec,
    GangStatus,
    NodeCondition,
    NodeSpec,
    NodeStatus,
)
from trainshed.resources.users import JobUser
from trainshed.resources.volume_sources import volume_sources

T = TypeVar("T")

#: Seconds that any single thing may take; far beyond what it takes on a slow machine.
PATIENCE = 30.0
#: Seconds between looks at what no engine tells of: processes and files.
_LOOK_AGAIN = 0.02


class Means(Protocol):
    """What a test may do to an engine from outside."""

    async def kill_node(self, node_id: str, pid: int) -> None:
        """Kill what makes this a node, as when its machine dies. ``pid`` is a process of a job there."""

    async def kill_engine(self) -> None:
        """Kill the engine's own head, and start again what an administrator or an init system starts again."""


class Lab:
    """An engine under test. ``make`` gives another service's engine on the same nodes and gangs.

    ``cluster``: members that its clusters have, such as the engine's own options. ``patience``: seconds that any single
    thing may take. ``means``: what can be done to it from outside. ``common``: see the method.
    """

    def __init__(
        self,
        make: Callable[[], Engine],
        user: JobUser | None = None,
        *,
        cluster: Mapping[str, Any] | None = None,
        patience: float = PATIENCE,
        means: Means | None = None,
        common: Path | None = None,
    ) -> None:
        self._make = make
        self._common = common
        self._means = means
        #: Whom jobs run as that this lab starts.
        self.user = user
        self._cluster = dict(cluster or {})
        self._patience = patience
        self._changed = asyncio.Event()
        self.engine = make()
        self.told: list[GangStatus] = []

    async def start(self) -> None:
        """Connect the engine."""
        await self.engine.start(self._listen)

    async def restart_service(self) -> None:
        """The service ends and comes again; the engine's nodes and gangs go on."""
        await self.engine.close()
        self.engine = self._make()
        await self.start()

    def _listen(self, status: GangStatus | None) -> None:
        if status is not None:
            self.told.append(status)
        self._changed.set()

    @property
    def queues(self) -> bool:
        """Whether the engine queues gangs and places them on nodes of its own."""
        return self.engine.traits.queues

    def cluster(self, name: str = "lab", **members: Any) -> ClusterSpec:
        """A cluster of small nodes, as this engine has them."""
        return cluster_spec(name, **{**self._cluster, **members})

    def mounts(self, cluster: ClusterSpec) -> Path:
        """What backs AZ_BATCHAI_MOUNT_ROOT."""
        root = self.engine.mount_root(cluster.uid)
        assert root is not None
        return Path(root)

    def common(self, cluster: ClusterSpec) -> tuple[str, Path]:
        """A folder in which the test and all of a cluster's jobs see, while they run, what any of them writes: as jobs
        name it, and from here.

        That is AZ_BATCHAI_MOUNT_ROOT, unless each node has one of its own, from which files come to the service when
        the job ends: then it is a folder of the machine that all of the laboratory is on, and the engine has no part in
        it.
        """
        if self._common is not None:
            return str(self._common), self._common
        return "$AZ_BATCHAI_MOUNT_ROOT", self.mounts(cluster)

    async def add_nodes(self, count: int, cluster: ClusterSpec) -> tuple[str, ...]:
        """That many nodes, once they are ready: new ones, or those of the engine that queues."""
        if self.queues:
            await self.engine.ensure_cluster(cluster)
            return await self.until(lambda view: _ready(view, cluster, count), f"{count} nodes for the cluster")
        specs = tuple(NodeSpec(f"node-{index}-{uuid.uuid4().hex[:6]}", index) for index in range(count))
        await self.engine.add_nodes(cluster, specs)
        for spec in specs:
            await self.node(spec.node_id)
        return tuple(spec.node_id for spec in specs)

    async def whole(self, nodes: tuple[str, ...], cluster: ClusterSpec) -> tuple[str, ...]:
        """As many nodes that can take a gang: these, or others for those that are gone for good."""
        if self.queues:
            return nodes
        conditions = {node.node_id: node.condition for node in (await self.engine.view()).nodes}
        gone = tuple(node for node in nodes if conditions.get(node) in (NodeCondition.LOST, NodeCondition.EVICTED))
        await self.engine.remove_nodes(gone)
        stay = tuple(node for node in nodes if node not in gone)
        for node in stay:
            await self.node(node)
        return (*stay, *(await self.add_nodes(len(gone), cluster) if gone else ()))

    async def kill_node(self, node_id: str, pid: int) -> None:
        """See Means."""
        assert self._means is not None
        await self._means.kill_node(node_id, pid)

    async def kill_engine(self) -> None:
        """See Means; returns when the engine can be spoken to again."""
        assert self._means is not None
        await self._means.kill_engine()
        await self.until(lambda view: True, "the engine again")

    async def run(self, command: str, nodes: tuple[str, ...], cluster: ClusterSpec, **members: Any) -> str:
        """Start an attempt on these nodes, or on as many as these where the engine chooses them; its id."""
        spec = self.gang(command, nodes, cluster, **members)
        await self.engine.start_gang(spec)
        return spec.attempt_id

    def gang(self, command: str, nodes: tuple[str, ...], cluster: ClusterSpec, **members: Any) -> GangSpec:
        """The attempt that ``run`` starts."""
        spec = gang_spec(command, nodes, cluster, **members)
        if self.queues:
            spec = replace(spec, node_ids=())
        if self.user is not None:
            # Each workspace has its own.
            segment = f"sub/group/workspaces/w{self.user.uid}/experiments/lab/jobs/{spec.job}"
            spec = replace(spec, user=self.user, segment=segment)
        return spec

    async def node(self, node_id: str, condition: NodeCondition = NodeCondition.READY, *, boot: int = 1) -> NodeStatus:
        """The node, once it is so and was started that often at least."""

        def found(view: EngineView) -> NodeStatus | None:
            fitting = (n for n in view.nodes if n.node_id == node_id and n.condition is condition and n.boot >= boot)
            return next(fitting, None)

        return await self.until(found, f"node {node_id} {condition.value}, boot {boot}")

    async def end_of(self, attempt_id: str) -> GangStatus:
        """The gang's status, once it has ended."""

        def found(view: EngineView) -> GangStatus | None:
            return next((g for g in view.gangs if g.attempt_id == attempt_id and g.result is not None), None)

        return await self.until(found, f"end of {attempt_id}")

    async def until(self, found: Callable[[EngineView], T | None], what: str) -> T:
        """What ``found`` makes of the engine's view, once it makes something; looked at whenever the engine tells."""
        view: EngineView | None = None
        try:
            async with asyncio.timeout(self._patience):
                while True:
                    self._changed.clear()
                    with suppress(EngineUnavailable):
                        view = await self.engine.view()
                        if (result := found(view)) is not None:
                            return result
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"waited {self._patience:g} s in vain for: {what}; last seen {view}") from None


def _ready(view: EngineView, cluster: ClusterSpec, count: int) -> tuple[str, ...] | None:
    mine = (n for n in view.nodes if n.cluster_uid == cluster.uid and n.condition is NodeCondition.READY)
    found = tuple(node.node_id for node in mine)[:count]
    return found if len(found) == count else None


async def eventually(holds: Callable[[], object], what: str) -> None:
    """Wait for what only a look at the machine can tell."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not holds():  # noqa: ASYNC110 - nobody tells of processes that are not ours
                await asyncio.sleep(_LOOK_AGAIN)
    except TimeoutError:
        raise AssertionError(f"waited {PATIENCE:g} s in vain for: {what}") from None


def cluster_spec(name: str = "lab", **members: Any) -> ClusterSpec:
    """A cluster of small nodes."""
    values: dict[str, Any] = {
        "uid": str(uuid.uuid4()),
        "name": name,
        "pool": 1,
        "low_priority": False,
        "vm_size": "LOCAL",
        "cpus": 1,
        "memory_mib": 512,
        "gpus": 0,
        "volumes": tuple(
            volume_sources((members.get("node_setup") or {}).get("mountVolumes"), "/nodeSetup/mountVolumes")
        ),
    }
    return ClusterSpec(**{**values, **members})


def gang_spec(
    command: str,
    nodes: tuple[str, ...],
    cluster: ClusterSpec,
    *,
    attempt_id: str | None = None,
    preparation: str | None = None,
    secrets: dict[str, str] | None = None,
    wall_clock_seconds: float | None = None,
) -> GangSpec:
    """An attempt of a custom command on the first node; the others take part, and prepare."""
    properties: dict[str, Any] = {
        "nodeCount": len(nodes),
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
        "customToolkitSettings": {"commandLine": command},
    }
    if preparation is not None:
        properties["jobPreparation"] = {"commandLine": preparation}
    job = uuid.uuid4().hex[:8]
    return GangSpec(
        attempt_id=attempt_id or str(uuid.uuid4()),
        attempt_number=1,
        cluster_uid=cluster.uid,
        node_ids=nodes,
        node_count=len(nodes),
        subscription="00000000-0000-0000-0000-000000000000",
        resource_group="trainshed",
        workspace="default",
        experiment="lab",
        job=job,
        job_uid=job,
        segment=f"lab/{job}",
        properties=properties,
        secrets=secrets or {},
        wall_clock_seconds=wall_clock_seconds,
    )


def mark() -> str:
    """A name for processes of one test, to be found by ``living``."""
    return f"trainshed-test-{uuid.uuid4().hex[:12]}"


def sleeper(name: str) -> str:
    """A bash command that becomes a long sleep with that name as its ``argv[0]``."""
    return f"exec -a {name} sleep 1000"


def stubborn(name: str) -> str:
    """A bash command that leaves behind a detached process which ignores SIGTERM and has no environment."""
    return f"(trap '' TERM; exec env -i setsid bash -c '{sleeper(name)}') & disown"


def living(name: str) -> list[int]:
    """Processes on this machine, whatever their namespaces, whose ``argv[0]`` is the name."""
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names are all that is needed
        if entry.isdigit():
            with suppress(OSError), open(f"/proc/{entry}/cmdline", "rb") as file:
                if file.read().split(b"\0")[0] == name.encode():
                    found.append(int(entry))
    return found
