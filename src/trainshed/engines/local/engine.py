"""The service's side of the local engine: the engine protocol, spoken to the node daemon."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainshed.engines.local.layout import Layout
from trainshed.engines.local.link import Link
from trainshed.engines.protocol import (
    ClusterSpec,
    EngineTraits,
    EngineView,
    FileServerCondition,
    FileServerSpec,
    FileServerStatus,
    GangSpec,
    Leader,
    Listener,
    NodeSpec,
)
from trainshed.engines.telling import gang_message, gang_status, node_status
from trainshed.resources.preemption import StopWarning
from trainshed.resources.reasons import Reason


class LocalEngine:
    """Nodes on this machine (see ``engines.protocol.Engine``)."""

    name = "local"
    traits = EngineTraits()

    def __init__(self, home: Path, leader: Leader | None = None) -> None:
        """``leader``: under which lease the daemon is spoken to; None for the only service of the home."""
        self._layout = Layout(home.absolute())
        self._link = Link(self._layout, self._heard, self._found_again, leader)
        self._listener: Listener = lambda status: None
        #: Clusters whose nodes need secrets: a daemon that was started again has to be told them again.
        self._with_secrets: dict[str, ClusterSpec] = {}
        #: The same for file servers with an account that has a password.
        self._file_servers: dict[str, FileServerSpec] = {}

    async def start(self, listener: Listener) -> None:
        """Connect to the daemon, starting it if there is none. Raises EngineUnavailable with its last words."""
        self._listener = listener
        await self._link.open()

    async def close(self) -> None:
        """Let go; the daemon goes on."""
        await self._link.close()

    async def shut_down(self) -> None:
        """End nodes and daemon; their records stay, so that a later service finds its clusters again.

        Raises EngineUnavailable when the daemon does not end in time.
        """
        await self._link.end_daemon()

    async def view(self) -> EngineView:
        """The whole truth now."""
        told = await self._link.call("view")
        return EngineView(
            tuple(map(node_status, told["nodes"])),
            tuple(map(gang_status, told["gangs"])),
            tuple(map(_served, told["file_servers"])),
            # A daemon that runs since an earlier version does not tell.
            tuple(told.get("clusters", ())),
        )

    async def ensure_cluster(self, cluster: ClusterSpec) -> None:
        """Give the cluster a subnet and its durable directory. Raises EngineError (AllocationFailed)."""
        self._remember(cluster)
        await self._link.call("ensure_cluster", **_cluster(cluster))

    async def remove_cluster(self, cluster_uid: str) -> None:
        """Forget the cluster."""
        self._with_secrets.pop(cluster_uid, None)
        await self._link.call("remove_cluster", uid=cluster_uid)

    async def add_nodes(self, cluster: ClusterSpec, nodes: tuple[NodeSpec, ...]) -> None:
        """Start nodes. Raises EngineError (AllocationFailed) when this machine cannot hold them."""
        self._remember(cluster)
        await self._link.call("add_nodes", nodes=[asdict(node) for node in nodes], **_cluster(cluster))

    async def remove_nodes(self, node_ids: tuple[str, ...]) -> None:
        """End nodes."""
        await self._link.call("remove_nodes", node_ids=list(node_ids))

    async def start_gang(self, gang: GangSpec) -> None:
        """Start an attempt. Raises EngineError (NodeNotReady) when a node is not there; nothing was started then."""
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
        """Have the daemon serve it. Raises EngineError (FileServerFailed) when it can have no directory or address."""
        self._file_servers[server.uid] = server
        await self._link.call("ensure_file_server", **_file_server(server))

    async def remove_file_server(self, uid: str) -> None:
        """End it; its data stays."""
        self._file_servers.pop(uid, None)
        await self._link.call("remove_file_server", uid=uid)

    def mount_root(self, cluster_uid: str) -> str | None:
        """The cluster's durable directory."""
        return str(self._layout.mount_root(cluster_uid))

    def _remember(self, cluster: ClusterSpec) -> None:
        if cluster.setup_secrets or cluster.private:
            self._with_secrets[cluster.uid] = cluster
        else:
            self._with_secrets.pop(cluster.uid, None)

    def _heard(self, message: dict[str, Any]) -> None:
        ended = message.get("ended")
        self._listener(gang_status(ended) if ended else None)

    async def _found_again(self) -> None:
        """Connected again, perhaps to another daemon."""
        for cluster in list(self._with_secrets.values()):
            await self._link.call("ensure_cluster", **_cluster(cluster))
        for server in list(self._file_servers.values()):
            await self._link.call("ensure_file_server", **_file_server(server))
        self._listener(None)


#: Members of a ``ClusterSpec`` that mean nothing to the daemon.
_OF_OTHER_ENGINES = ("engine", "options", "max_nodes")


def _cluster(cluster: ClusterSpec) -> dict[str, Any]:
    spec = asdict(cluster)
    spec["volumes"] = [source.to_json() for source in cluster.volumes]
    for name in _OF_OTHER_ENGINES:
        del spec[name]
    return {"setup_secrets": spec.pop("setup_secrets"), "private": spec.pop("private"), "cluster": spec}


def _file_server(server: FileServerSpec) -> dict[str, Any]:
    spec = asdict(server)
    return {"password": spec.pop("admin_password"), "server": spec}


def _served(told: dict[str, Any]) -> FileServerStatus:
    return FileServerStatus(
        uid=told["uid"],
        condition=FileServerCondition(told["condition"]),
        address=told["address"],
        nfs_port=told["nfs_port"],
        mount_port=told["mount_port"],
        ssh_port=told["ssh_port"],
        reason=Reason.from_json(told["reason"]) if told["reason"] else None,
        missing=tuple(told["missing"]),
    )
