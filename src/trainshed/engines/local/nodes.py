"""The daemon's nodes: started as forks, watched, restarted when they die, ended on request."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from trainshed.engines.local.cgroups import Limits, NodeGroup
from trainshed.engines.local.layout import Layout, write_durably
from trainshed.engines.local.leftovers import children, kill_trees
from trainshed.engines.local.messages import Lines, Message, encode
from trainshed.engines.local.node import NodeConfig, become_node
from trainshed.engines.local.record import RESTART_FIRST, RESTART_LIMIT, START_TRIES, LocalNode
from trainshed.engines.local.removal import delete, detach, mounted_below
from trainshed.engines.local.wire import setup_view
from trainshed.engines.protocol import NodeCondition
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.resources.users import JobUser
from trainshed.resources.volume_sources import VolumeSource
from trainshed.runner import isolation, linux
from trainshed.volumes import FLUSH_SECONDS

_LOOK_AGAIN = 0.01
_CHUNK = 1 << 16
#: Seconds of life after which a node counts as having started well.
_WELL_AFTER = 10.0
#: Seconds in which a node's process must take a message, and must leave when asked to; then it is killed.
_TELL_SECONDS, _LEAVE_SECONDS = 5.0, 2.0
#: Seconds for which an ending daemon waits for directories that are being deleted; the next one goes on with them.
_DELETE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ClusterSetup:
    """How the nodes of a cluster are set up, and by whom."""

    #: nodeSetup of the contract, and where its task writes.
    setup: dict[str, Any] | None = None
    suffix: str = ""
    #: Secret variables of the task, and the other secrets by JSON pointer: in memory only.
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    #: None: the service's own user.
    user: JobUser | None = None
    volumes: tuple[VolumeSource, ...] = ()
    private: dict[str, str] = field(default_factory=dict, repr=False)


class OtherChildren(Protocol):
    """Children of the keeper's process that are none of its nodes."""

    @property
    def pids(self) -> set[int]:
        """Those that live."""
        ...

    def ended(self, pid: int) -> bool:
        """One has ended. Whether it was one of these."""
        ...

    def close(self) -> None:
        """End them; the nodes have ended."""
        ...


class NodeKeeper:
    """Starts and ends node processes. Callbacks tell the daemon what changed."""

    def __init__(
        self,
        layout: Layout,
        on_changed: Callable[[], None],
        on_ended: Callable[[LocalNode, Message], None],
        on_lost: Callable[[LocalNode], None],
        file_servers: OtherChildren,
    ) -> None:
        self._layout = layout
        self._on_changed = on_changed
        self._on_ended = on_ended
        self._on_lost = on_lost
        self._file_servers = file_servers
        self._loop = asyncio.get_running_loop()
        self.nodes: dict[str, LocalNode] = {}
        self.setups: dict[str, ClusterSetup] = {}
        #: Children that delete directories.
        self._helpers: set[int] = set()
        #: Nodes whose process is dead and whose orphans may not be.
        self._unclean: set[str] = set()
        self._missing = ""
        self._closing = False
        self._quiet = asyncio.Event()

    def start(self, node: LocalNode) -> None:
        """Start the node's process. What runs on it afterwards is a new boot. What fails is tried again later."""
        self.nodes[node.node_id] = node
        if node.removing or self._closing or node.pid:
            return
        node.waits_for_secrets = False
        try:
            self._launch(node)
        except OSError as error:
            self._start_later(node, f"The node's process cannot be started now ({error}); it is tried again.")

    def _start_later(self, node: LocalNode, why: str) -> None:
        pause = node.restart_after
        node.restart_after = min(RESTART_LIMIT, pause * 2)
        node.condition = NodeCondition.PREPARING
        node.reason = Reason(ReasonCode.NODE_STARTING, why, {"node": node.node_id})
        self._loop.call_later(pause, self._start_again, node)

    def _start_again(self, node: LocalNode) -> None:
        if self.nodes.get(node.node_id) is node:
            self.start(node)
            self._on_changed()

    def _launch(self, node: LocalNode) -> None:
        cluster = self.setups.get(node.cluster_uid, ClusterSetup())
        node.boot += 1
        # The number is on disk before anything can run under it.
        write_durably(self._layout.nodes() / f"{node.node_id}.json", node.record())
        self._layout.jobs(node.node_id).mkdir(parents=True, exist_ok=True)
        self._delete(node, self._layout.containers(node.node_id))  # a node that died had no time for it
        config = NodeConfig(
            node_id=node.node_id,
            host_name=node.host_name,
            group=self._group_name(node),
            limits=Limits(node.cpus, node.memory_mib),
            mount_root=str(self._layout.mount_root(node.cluster_uid)),
            setup=cluster.setup,
            setup_suffix=cluster.suffix,
            setup_secrets=cluster.secrets,
            view=setup_view(cluster.user, node, self._layout) if cluster.user and cluster.setup else None,
            volumes=cluster.volumes,
            jobs=str(self._layout.jobs(node.node_id)),
            volumes_folder=str(self._layout.volumes(node.node_id)),
            private=cluster.private,
            image_places=(str(self._layout.images()), str(self._layout.containers(node.node_id))),
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
        node.condition = NodeCondition.PREPARING
        task = bool(cluster.setup and cluster.setup.get("setupTask"))
        node.reason = Reason(
            ReasonCode.SETUP_TASK_RUNNING if task else ReasonCode.NODE_STARTING,
            "The setup task runs on the node." if task else "The node is starting.",
        )
        self._loop.add_reader(ours, self._read, node)

    def tell(self, node: LocalNode, message: Message) -> None:
        """Send to the node's process. What cannot be sent is lost with the node, which is noticed elsewhere."""
        if node.channel is None:
            return
        node.channel.settimeout(_TELL_SECONDS)
        try:
            node.channel.sendall(encode(message))
        except TimeoutError:
            print(f"node {node.node_id} does not listen any more and is ended", file=sys.stderr, flush=True)
            _kill(node.pid)
        except OSError:
            pass
        finally:
            node.channel.setblocking(False)

    def _read(self, node: LocalNode) -> None:
        assert node.channel is not None
        data = b""
        with suppress(OSError):
            data = node.channel.recv(_CHUNK)
        if not data:
            self._loop.remove_reader(node.channel)
            return  # Its end is seen as a child's end.
        for message in node.lines.feed(data):
            self._heard(node, message)

    def _heard(self, node: LocalNode, message: Message) -> None:
        if "up" in message:
            node.facts = message["up"]
            self._say_what_is_missing(node)
        elif "preparing" in message:
            node.reason = Reason.from_json(message["preparing"])
            self._on_changed()
        elif "prepared" in message:
            told = message["prepared"]
            node.reason = Reason.from_json(told) if told else None
            node.condition = NodeCondition.UNUSABLE if told else NodeCondition.READY
            node.failed_starts = 0
            self._on_changed()
        elif "ended" in message:
            self._on_ended(node, message)
        elif "flushing" in message:
            node.flushing = True

    def _say_what_is_missing(self, node: LocalNode) -> None:
        """Into the daemon's log, once: it is the same for all nodes of a machine."""
        refused = {f"{name} limit": why for name, why in node.facts["noLimits"].items()}
        if node.facts["noNamespaces"]:
            refused["namespaces"] = node.facts["noNamespaces"]
        missing = "; ".join(f"no {what} ({why})" for what, why in sorted(refused.items()))
        if missing and missing != self._missing:
            print(f"nodes of this machine have {missing}; see `trainshed doctor`", file=sys.stderr, flush=True)
        self._missing = missing

    def reap(self) -> None:
        """Children ended: nodes that died, helpers, and orphans that came to the daemon."""
        with suppress(ChildProcessError):
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                self._helpers.discard(pid)
                if self._file_servers.ended(pid):
                    continue
                for node in list(self.nodes.values()):
                    if node.pid == pid:
                        self._process_ended(node)
        self._look_whether_quiet()

    def _process_ended(self, node: LocalNode) -> None:
        assert node.channel is not None
        self._loop.remove_reader(node.channel)
        # Words that were said before the end still count.
        with suppress(OSError):
            while data := node.channel.recv(_CHUNK):
                for message in node.lines.feed(data):
                    if "ended" in message:
                        self._on_ended(node, message)
        node.channel.close()
        node.pid, node.channel = 0, None
        if node.condition is NodeCondition.PREPARING:
            node.failed_starts += 1
        node.condition = NodeCondition.PREPARING
        node.reason = Reason(ReasonCode.NODE_STARTING, "The node's process died; the node is started again.")
        self._unclean.add(node.node_id)
        self._loop.call_soon(self._when_clean, node)

    def _when_clean(self, node: LocalNode) -> None:
        """Go on only when nothing of a dead node lives: no attempt is called lost while it may still write."""
        if self._end_orphans():
            self._loop.call_later(_LOOK_AGAIN, self._when_clean, node)
            return
        self._unclean.discard(node.node_id)
        self._on_lost(node)
        self._release_mounts(node)
        if node.removing and not self._closing:
            self._forget(node)
        elif not self._closing:
            if self._loop.time() - node.started_at > _WELL_AFTER:
                node.restart_after = RESTART_FIRST
            if node.failed_starts >= START_TRIES:
                self._give_up(node)
            else:
                self._start_later(node, "The node's process died; the node is started again.")
        self._on_changed()
        self._look_whether_quiet()

    def _give_up(self, node: LocalNode) -> None:
        node.condition = NodeCondition.UNUSABLE
        text = f"The process of node {node.node_id} died {node.failed_starts} times in a row before the node was ready."
        node.reason = Reason(ReasonCode.NODE_KEEPS_DYING, text, {"node": node.node_id})

    def _end_orphans(self) -> bool:
        """Kill children that are neither nodes nor helpers, with all below them. Whether there were any."""
        orphans = children() - {node.pid for node in self.nodes.values()} - self._helpers - self._file_servers.pids
        kill_trees(orphans)
        self.reap()
        return bool(orphans)

    def remove(self, node: LocalNode) -> None:
        """End the node; it is forgotten once nothing of it lives."""
        if node.removing:
            return
        node.removing = True
        if node.pid:
            self._ask_to_leave(node)
        elif node.node_id not in self._unclean:
            self._forget(node)
            self._on_changed()

    def _ask_to_leave(self, node: LocalNode) -> None:
        self.tell(node, {"leave": True})
        self._loop.call_later(_LEAVE_SECONDS, self._insist, node, node.pid)

    def _insist(self, node: LocalNode, pid: int) -> None:
        if node.pid == pid and node.flushing:
            node.flushing = False
            self._loop.call_later(2 * FLUSH_SECONDS, self._insist, node, pid)
        elif node.pid == pid:
            _kill(pid)

    def _forget(self, node: LocalNode) -> None:
        self.nodes.pop(node.node_id, None)
        (self._layout.nodes() / f"{node.node_id}.json").unlink(missing_ok=True)
        NodeGroup(self._group_name(node)).remove()
        self._delete(node, self._layout.node(node.node_id))

    def _delete(self, node: LocalNode, folder: Path) -> None:
        removed = self._layout.removed(node.node_id)
        with suppress(OSError):
            folder.rename(removed)
            self.delete_in_background(removed)

    def delete_in_background(self, folder: Path) -> None:
        """In a child of its own: jobs leave many files, and the daemon must answer meanwhile. Raises OSError."""
        pid = os.fork()
        if pid:
            self._helpers.add(pid)
            return
        try:
            signal.set_wakeup_fd(-1)
            linux.set_parent_death_signal(signal.SIGKILL)
            os.closerange(3, 1 << 20)
            delete(folder)
        finally:
            os._exit(0)

    def _release_mounts(self, node: LocalNode) -> None:
        """Without mount namespaces a cluster's volumes are mounted for the whole machine: until its last node ends."""
        others = any(other.pid for other in self.nodes.values() if other.cluster_uid == node.cluster_uid)
        setup = self.setups.get(node.cluster_uid, ClusterSetup()).setup
        if others or not (setup and setup.get("mountVolumes")) or node.facts.get("ownNamespaces", True):
            return
        for target in mounted_below(self._layout.mount_root(node.cluster_uid)):
            detach(target)

    async def close(self) -> None:
        """End every node for good, keeping their records."""
        self._closing = True
        for node in self.nodes.values():
            if node.pid:
                self._ask_to_leave(node)
        self._look_whether_quiet()
        await self._quiet.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(_DELETE_SECONDS):
                while self._helpers:
                    self._quiet.clear()
                    await self._quiet.wait()
        # After the nodes, whose volumes wait at their end for what is not yet written.
        self._file_servers.close()
        kill_trees(children())
        isolation.reap_all()
        for node in self.nodes.values():
            NodeGroup(self._group_name(node)).remove()

    def _look_whether_quiet(self) -> None:
        if self._closing and not self._unclean and not any(node.pid for node in self.nodes.values()):
            self._quiet.set()

    def _group_name(self, node: LocalNode) -> str:
        return f"{self._layout.mark}-{node.node_id}"


def _kill(pid: int) -> None:
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
