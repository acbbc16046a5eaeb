"""The daemon's nodes: started as forks, watched, restarted when they die, ended on request."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from trainshed.engines.local.cgroups import Limits, NodeGroup
from trainshed.engines.local.layout import Layout, write_durably
from trainshed.engines.local.messages import Lines, Message, encode
from trainshed.engines.local.node import NodeConfig, become_node
from trainshed.engines.protocol import NodeCondition
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.runner import isolation

_LOOK_AGAIN = 0.01
#: Seconds before a node that died at once is started again; doubles up to the limit.
_RESTART_FIRST, _RESTART_LIMIT = 0.05, 30.0
#: Seconds of life after which a node counts as having started well.
_WELL_AFTER = 10.0


@dataclass(slots=True)
class LocalNode:
    """One node: what is recorded of it, and its process while that lives."""

    node_id: str
    cluster_uid: str
    ordinal: int
    host_name: str
    address: str
    cpus: int
    memory_mib: int
    gpu_devices: tuple[str, ...]
    boot: int = 0
    condition: NodeCondition = NodeCondition.PREPARING
    reason: Reason | None = None
    pid: int = 0
    channel: socket.socket | None = None
    lines: Lines = field(default_factory=Lines)
    removing: bool = False
    started_at: float = 0.0
    restart_after: float = _RESTART_FIRST
    facts: dict[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """What survives the daemon."""
        return {
            "node_id": self.node_id,
            "cluster_uid": self.cluster_uid,
            "ordinal": self.ordinal,
            "host_name": self.host_name,
            "address": self.address,
            "cpus": self.cpus,
            "memory_mib": self.memory_mib,
            "gpu_devices": list(self.gpu_devices),
            "boot": self.boot,
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> LocalNode:
        """Read what ``record`` gave."""
        return cls(**{**record, "gpu_devices": tuple(record["gpu_devices"])})

    def status(self) -> dict[str, Any]:
        """As sent to the service."""
        return {
            "node_id": self.node_id,
            "cluster_uid": self.cluster_uid,
            "condition": self.condition.value,
            "boot": self.boot,
            "host_name": self.host_name,
            "address": self.address,
            "ssh_port": None,
            "reason": self.reason.to_json() if self.reason else None,
            "facts": self.facts,
        }


class NodeKeeper:
    """Starts and ends node processes. Callbacks tell the daemon what changed."""

    def __init__(
        self,
        layout: Layout,
        on_changed: Callable[[], None],
        on_ended: Callable[[LocalNode, Message], None],
        on_lost: Callable[[LocalNode], None],
    ) -> None:
        self._layout = layout
        self._on_changed = on_changed
        self._on_ended = on_ended
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self.nodes: dict[str, LocalNode] = {}
        #: Node setup of each cluster: what it describes, where it writes, its secrets (in memory only).
        self.setups: dict[str, tuple[dict[str, Any] | None, str, dict[str, str]]] = {}
        self._closing = False

    def start(self, node: LocalNode) -> None:
        """Fork the node's process. What runs on it afterwards is a new boot."""
        node.boot += 1
        node.condition = NodeCondition.PREPARING
        setup, suffix, secrets = self.setups.get(node.cluster_uid, (None, "", {}))
        task = bool(setup and setup.get("setupTask"))
        node.reason = Reason(
            ReasonCode.SETUP_TASK_RUNNING if task else ReasonCode.NODE_STARTING,
            "The setup task runs on the node." if task else "The node is starting.",
        )
        self.nodes[node.node_id] = node
        write_durably(self._layout.nodes() / f"{node.node_id}.json", node.record())
        config = NodeConfig(
            node_id=node.node_id,
            host_name=node.host_name,
            group=self._group_name(node),
            limits=Limits(node.cpus, node.memory_mib),
            mount_root=str(self._layout.mount_root(node.cluster_uid)),
            setup=setup,
            setup_suffix=suffix,
            setup_secrets=secrets,
        )
        ours, theirs = socket.socketpair()
        daemon_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            become_node(config, theirs, daemon_pid)
        theirs.close()
        ours.setblocking(False)
        node.pid, node.channel, node.lines, node.started_at = pid, ours, Lines(), self._loop.time()
        self._loop.add_reader(ours, self._read, node, ours)

    def tell(self, node: LocalNode, message: Message) -> None:
        """Send to the node's process. What cannot be sent is lost with the node, which is noticed elsewhere."""
        if node.channel is None:
            return
        data = encode(message)
        node.channel.setblocking(True)
        try:
            node.channel.sendall(data)
        except OSError:
            pass
        finally:
            node.channel.setblocking(False)

    def _read(self, node: LocalNode, channel: socket.socket) -> None:
        try:
            data = channel.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(channel)
            return  # Its end is seen as a child's end.
        for message in node.lines.feed(data):
            if "up" in message:
                node.facts = message["up"]
            elif "prepared" in message:
                told = message["prepared"]
                node.reason = Reason.from_json(told) if told else None
                node.condition = NodeCondition.UNUSABLE if told else NodeCondition.READY
                self._on_changed()
            elif "ended" in message:
                self._on_ended(node, message)

    def reap(self) -> None:
        """Children ended: nodes that died, and orphans that came to the daemon."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for node in list(self.nodes.values()):
                if node.pid == pid:
                    self._process_ended(node)

    def _process_ended(self, node: LocalNode) -> None:
        if node.channel is not None:
            self._loop.remove_reader(node.channel)
            # Words that were said before the end still count.
            self._read_rest(node)
            node.channel.close()
        node.pid, node.channel = 0, None
        self._when_clean(node)

    def _read_rest(self, node: LocalNode) -> None:
        assert node.channel is not None
        with suppress(OSError):
            while data := node.channel.recv(1 << 20):
                for message in node.lines.feed(data):
                    if "ended" in message:
                        self._on_ended(node, message)

    def _when_clean(self, node: LocalNode) -> None:
        """Go on only when nothing of a dead node lives: no attempt is called lost while it may still write."""
        if self._end_orphans():
            self._loop.call_later(_LOOK_AGAIN, self._when_clean, node)
            return
        self._on_lost(node)
        if self._closing:
            return
        if node.removing:
            self._forget(node)
        else:
            lived = self._loop.time() - node.started_at
            pause = _RESTART_FIRST if lived > _WELL_AFTER else node.restart_after
            node.restart_after = min(_RESTART_LIMIT, pause * 2)
            node.condition = NodeCondition.PREPARING
            node.reason = Reason(ReasonCode.NODE_STARTING, "The node's process died; the node is started again.")
            self._loop.call_later(pause, self._restart, node)
        self._on_changed()

    def _restart(self, node: LocalNode) -> None:
        if node.removing or self._closing or node.pid:
            return
        self.start(node)
        self._on_changed()

    def _end_orphans(self) -> bool:
        """Kill children that are no node, with all below them. Whether there were any."""
        known = {node.pid for node in self.nodes.values()}
        me = os.getpid()
        with open(f"/proc/{me}/task/{me}/children") as file:
            orphans = {int(pid) for pid in file.read().split()} - known
        for pid in orphans:
            for below in (*isolation.descendants(pid), pid):
                with suppress(ProcessLookupError):
                    os.kill(below, signal.SIGKILL)
        self.reap()
        return bool(orphans)

    def remove(self, node: LocalNode) -> None:
        """End the node; it is forgotten once nothing of it lives."""
        if node.removing:
            return
        node.removing = True
        if node.pid:
            self.tell(node, {"leave": True})
            self._loop.call_later(2.0, self._insist, node, node.pid)
        else:
            self._forget(node)
            self._on_changed()

    def _insist(self, node: LocalNode, pid: int) -> None:
        if node.pid == pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _forget(self, node: LocalNode) -> None:
        self.nodes.pop(node.node_id, None)
        (self._layout.nodes() / f"{node.node_id}.json").unlink(missing_ok=True)
        shutil.rmtree(self._layout.node(node.node_id), ignore_errors=True)
        NodeGroup(self._group_name(node)).remove()

    async def close(self) -> None:
        """End every node for good, keeping their records."""
        self._closing = True
        for node in self.nodes.values():
            self.tell(node, {"leave": True})
        for _ in range(200):
            if not any(node.pid for node in self.nodes.values()):
                break
            await asyncio.sleep(_LOOK_AGAIN)
        for node in self.nodes.values():
            if node.pid:
                with suppress(ProcessLookupError):
                    os.kill(node.pid, signal.SIGKILL)
        while any(node.pid for node in self.nodes.values()) or self._end_orphans():
            await asyncio.sleep(_LOOK_AGAIN)
        for node in self.nodes.values():
            NodeGroup(self._group_name(node)).remove()

    def _group_name(self, node: LocalNode) -> str:
        return f"{self._layout.mark}-{node.node_id}"
