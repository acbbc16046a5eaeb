"""The service's side of the Ray engine: the engine protocol, spoken to the bridge."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainshed.engines.local.link import OWN_VARIABLES
from trainshed.engines.protocol import (
    ClusterSpec,
    EngineError,
    EngineTraits,
    EngineView,
    FileServerSpec,
    GangSpec,
    Leader,
    Listener,
    NodeSpec,
)
from trainshed.engines.ray.link import BridgeLink
from trainshed.engines.ray.places import Places
from trainshed.engines.ray.settings import RaySettings
from trainshed.engines.telling import gang_message, gang_status, node_status
from trainshed.resources.preemption import StopWarning
from trainshed.resources.reasons import Reason, ReasonCode


class RayEngine:
    """Nodes of a Ray cluster (see ``engines.protocol.Engine``)."""

    traits = EngineTraits()

    def __init__(self, name: str, settings: RaySettings, home: Path, leader: Leader | None = None) -> None:
        """``home``: the service's, for the bridge's log; ``leader``: under which lease Ray's nodes are spoken to."""
        self.name = name
        self._settings = settings
        self._places = Places(Path(settings.directory))
        config = {**asdict(settings), "leader": [leader.database, leader.token] if leader is not None else None}
        self._link = BridgeLink(
            config, bridge_environment(settings), home / "logs" / f"engine-{name}.log", self._heard, self._found_again
        )
        self._listener: Listener = lambda status: None
        #: Clusters whose nodes need secrets: another bridge has to be told them again.
        self._with_secrets: dict[str, ClusterSpec] = {}

    @property
    def bridge_pid(self) -> int:
        """The process that speaks to Ray; 0 while there is none."""
        return self._link.pid

    async def start(self, listener: Listener) -> None:
        """Start the bridge. Does not fail when Ray is away; the listener hears when it is there."""
        self._listener = listener
        await self._link.open()

    async def close(self) -> None:
        """Let go; agents, nodes and gangs go on."""
        await self._link.close()

    async def shut_down(self) -> None:
        """End all nodes, so that Ray has their machines again. Records stay: a later service takes others for them.

        Raises EngineUnavailable when Ray is away.
        """
        await self._link.call("shut_down")

    async def view(self) -> EngineView:
        """The whole truth now."""
        told = await self._link.call("view")
        return EngineView(
            tuple(map(node_status, told["nodes"])), tuple(map(gang_status, told["gangs"])), (), tuple(told["clusters"])
        )

    async def ensure_cluster(self, cluster: ClusterSpec) -> None:
        """Make the cluster known. Raises EngineError (AllocationFailed) when it asks for what Ray cannot give."""
        await self._link.call("ensure_cluster", **self._cluster(cluster))

    async def remove_cluster(self, cluster_uid: str) -> None:
        """Forget the cluster."""
        self._with_secrets.pop(cluster_uid, None)
        await self._link.call("remove_cluster", uid=cluster_uid)

    async def add_nodes(self, cluster: ClusterSpec, nodes: tuple[NodeSpec, ...]) -> None:
        """Take nodes of Ray. Raises EngineError (AllocationFailed) when there are none and nobody makes any."""
        await self._link.call("add_nodes", nodes=[asdict(node) for node in nodes], **self._cluster(cluster))

    async def remove_nodes(self, node_ids: tuple[str, ...]) -> None:
        """End nodes; Ray has their machines again."""
        await self._link.call("remove_nodes", node_ids=list(node_ids))

    async def start_gang(self, gang: GangSpec) -> None:
        """Start an attempt. Raises EngineError (NodeNotReady) when a node cannot take it; nothing was started then."""
        await self._link.call("start_gang", **gang_message(gang))

    async def stop_gang(
        self, attempt_id: str, reason: Reason, grace_seconds: float, warning: StopWarning | None = None
    ) -> None:
        """Warn the attempt's processes if that is asked for, ask them to end, then make them."""
        await self._link.call(
            "stop_gang",
            attempt_id=attempt_id,
            reason=reason.to_json(),
            grace=grace_seconds,
            warning=warning.to_json() if warning is not None else None,
        )

    async def forget_gang(self, attempt_ids: tuple[str, ...]) -> None:
        """Drop outcomes."""
        await self._link.call("forget", attempt_ids=list(attempt_ids))

    async def ensure_file_server(self, server: FileServerSpec) -> None:
        """Raises EngineError: Ray has no file servers."""
        text = (
            f"File server {server.name} cannot be on a Ray engine, which has none. Make it on the local engine, or "
            "mount a server of yours as an unmanaged volume."
        )
        raise EngineError(Reason(ReasonCode.FILE_SERVER_FAILED, text, {"fileServer": server.name}))

    async def remove_file_server(self, uid: str) -> None:
        """There are none."""

    def mount_root(self, cluster_uid: str) -> str | None:
        """The cluster's durable directory."""
        return str(self._places.mount_root(cluster_uid))

    def _cluster(self, cluster: ClusterSpec) -> dict[str, Any]:
        """A call's arguments; what is secret is remembered for another bridge."""
        if cluster.user is not None and cluster.node_setup is not None and not self._settings.share_user:
            text = (
                f"Cluster {cluster.name}: the service gives each workspace a Unix user of its own, and on Ray a node's "
                "setup runs as the user of Ray's nodes. Set the engine's share_user to yes where that is acceptable, "
                "or leave out nodeSetup."
            )
            raise EngineError(Reason(ReasonCode.ALLOCATION_FAILED, text, {"cluster": cluster.name}))
        if cluster.setup_secrets or cluster.private:
            self._with_secrets[cluster.uid] = cluster
        else:
            self._with_secrets.pop(cluster.uid, None)
        spec = {name: getattr(cluster, name) for name in _CLUSTER_FIELDS}
        spec["volumes"] = [source.to_json() for source in cluster.volumes]
        return {"setup_secrets": cluster.setup_secrets, "private": cluster.private, "cluster": spec}

    def _heard(self, message: dict[str, Any]) -> None:
        ended = message.get("ended")
        self._listener(gang_status(ended) if ended else None)

    async def _found_again(self) -> None:
        """There is a bridge, perhaps another one."""
        for cluster in list(self._with_secrets.values()):
            await self._link.call("ensure_cluster", **self._cluster(cluster))
        self._listener(None)


_CLUSTER_FIELDS = (
    "uid",
    "name",
    "low_priority",
    "vm_size",
    "cpus",
    "memory_mib",
    "gpus",
    "options",
    "node_setup",
    "setup_suffix",
)


def bridge_environment(settings: RaySettings) -> dict[str, str]:
    """Of processes that speak to Ray: authentication is on; what the service is told for itself is not passed on."""
    environment = {name: value for name, value in os.environ.items() if name not in OWN_VARIABLES}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    if settings.token_file:
        environment.pop("RAY_AUTH_TOKEN", None)
        environment["RAY_AUTH_TOKEN_PATH"] = settings.token_file
    return environment
