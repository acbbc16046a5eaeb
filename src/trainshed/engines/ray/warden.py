"""The warden of a Ray node: keeps the node's process, tells what becomes of it and of the attempts on it.

A program of the standard library alone, started by the node's agent (``agent``), an actor of Ray, on a socket. When the
agent goes away, with its raylet or without, the warden ends everything on the node, leaves a proof of that in the
attempts' folders, and ends. Messages are JSON lines. To the warden: the configuration first, then ``setup`` (starts the
node), ``start``, ``stop``, ``kill``, ``void`` (an attempt that is not known here is not to start any more), ``forget``,
``leave``. From it: ``state``, always the whole.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainshed.engines.local import cgroups
from trainshed.engines.local.gang import node_lost, runner_lost
from trainshed.engines.local.layout import write_durably
from trainshed.engines.local.leftovers import end_leftovers
from trainshed.engines.local.messages import MESSAGE_LIMIT, Message, encode
from trainshed.engines.local.nodes import ClusterSetup, NodeKeeper
from trainshed.engines.local.record import LocalNode
from trainshed.engines.protocol import NodeCondition
from trainshed.engines.ray.places import LOST_FILE, NodeLayout
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.resources.volume_sources import VolumeSource
from trainshed.runner import linux
from trainshed.runner.outcome import read as read_outcome


class NoOthers:
    """This process has no children but the node's."""

    pids: set[int] = set()  # noqa: RUF012 - never changed

    def ended(self, pid: int) -> bool:
        """None of these."""
        return False

    def close(self) -> None:
        """Nothing to end."""


class Warden:
    """One node."""

    def __init__(self, config: Message, channel: socket.socket) -> None:
        self._layout = NodeLayout(Path(config["home"]), Path(config["shared"]))
        self._channel = channel
        self._cluster: Message = config["cluster"]
        self._node = LocalNode(
            node_id=config["node_id"],
            cluster_uid=self._cluster["uid"],
            ordinal=config["ordinal"],
            host_name=config["host_name"],
            address=config["address"],
            cpus=config["cpus"],
            memory_mib=config["memory_mib"],
            gpu_devices=tuple(config["gpu_devices"]),
            boot=config["boot"],
        )
        #: Tells one warden of a node from the next, which knows nothing of what the former one ran.
        self._run = uuid.uuid4().hex
        #: What became of each attempt that is not forgotten: None while it runs.
        self._parts: dict[str, Message | None] = {}
        self._states: dict[str, str] = {}
        self._done = asyncio.Event()
        self._telling = False
        self._keeper = NodeKeeper(self._layout, self._changed, self._part_ended, self._node_lost, NoOthers())

    async def run(self) -> None:
        """Until told to leave, or until the agent is gone."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._keeper.reap)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._done.set)
        reader, self._writer = await asyncio.open_connection(sock=self._channel, limit=MESSAGE_LIMIT)
        self._changed()
        reading = asyncio.create_task(self._read(reader))
        await self._done.wait()
        await self._keeper.close()
        for attempt_id, outcome in list(self._parts.items()):
            if outcome is None:
                self._conclude(attempt_id, node_lost(self._node.node_id))
        self._tell()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(5.0):
                await self._writer.drain()
        reading.cancel()
        self._writer.close()
        with suppress(OSError):
            shutil.rmtree(self._layout.home)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError, asyncio.LimitOverrunError):
            while line := await reader.readline():
                self._handle(json.loads(line))
        self._done.set()

    def _handle(self, message: Message) -> None:
        if "setup" in message:
            self._start_node(message["setup"])
        elif "start" in message:
            self._start(message)
        elif "stop" in message or "kill" in message:
            self._keeper.tell(self._node, message)
        elif "void" in message:
            if message["void"] not in self._parts:
                told = message["reason"]
                reason = Reason.from_json(told) if told else runner_lost(self._node.node_id)
                self._parts[message["void"]] = _lost(reason)
                self._changed()
        elif "forget" in message:
            for attempt_id in message["forget"]:
                if self._parts.get(attempt_id) is not None:
                    del self._parts[attempt_id]
        elif "leave" in message:
            self._done.set()

    def _start_node(self, secret: Message) -> None:
        if self._keeper.nodes:
            return
        cluster = self._cluster
        self._keeper.setups[cluster["uid"]] = ClusterSetup(
            cluster["node_setup"],
            cluster["setup_suffix"],
            secret["setup_secrets"],
            None,
            tuple(map(VolumeSource.from_json, cluster["volumes"])),
            secret["private"],
        )
        self._keeper.start(self._node)
        self._changed()

    def _start(self, message: Message) -> None:
        attempt_id, node = message["attempt"], self._node
        if attempt_id in self._parts:
            return
        try:
            spec = json.loads(Path(message["start"]).read_text())
        except (OSError, ValueError) as error:
            text = f"Node {node.node_id} cannot read the attempt's description {message['start']}: {error}."
            self._parts[attempt_id] = _lost(Reason(ReasonCode.RUNNER_LOST, text, {"node": node.node_id}))
            self._changed()
            return
        if node.condition is not NodeCondition.READY or not node.pid or any(p is None for p in self._parts.values()):
            text = f"Node {node.node_id} was not ready when the attempt came, so it did not start there."
            self._parts[attempt_id] = _lost(Reason(ReasonCode.NODE_NOT_READY, text, {"node": node.node_id}))
            self._changed()
            return
        self._parts[attempt_id] = None
        self._states[attempt_id] = spec["directories"]["state"]
        self._keeper.tell(node, {"start": spec, **{name: message[name] for name in ("secrets", "private", "token")}})
        self._changed()

    def _part_ended(self, node: LocalNode, message: Message) -> None:
        attempt_id = message["ended"]
        if self._parts.get(attempt_id, message) is None:
            self._conclude(attempt_id, runner_lost(node.node_id), message["outcome"])

    def _node_lost(self, node: LocalNode) -> None:
        """Its process died, and nothing of it lives."""
        for attempt_id, outcome in list(self._parts.items()):
            if outcome is None:
                self._conclude(attempt_id, node_lost(node.node_id))

    def _conclude(self, attempt_id: str, loss: Reason, outcome: Message | None = None) -> None:
        """Nothing of it lives here. A durable word counts; without one the loss is put down, as a proof."""
        state = self._states.pop(attempt_id)
        if outcome is None:
            with suppress(OSError, ValueError):
                word = read_outcome(state)
                outcome = word.to_dict() if word is not None else None
        if outcome is None:
            with suppress(OSError):
                write_durably(Path(state, LOST_FILE), loss.to_json())
            self._parts[attempt_id] = _lost(loss)
        else:
            self._parts[attempt_id] = {"outcome": outcome, "loss": None}
        self._changed()

    def _changed(self) -> None:
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        node = self._node
        self._writer.write(
            encode(
                {
                    "run": self._run,
                    "pid": os.getpid(),
                    "boot": node.boot,
                    "condition": node.condition.value,
                    "reason": node.reason.to_json() if node.reason else None,
                    "facts": node.facts,
                    "parts": self._parts,
                }
            )
        )


def _lost(reason: Reason) -> Message:
    return {"outcome": None, "loss": reason.to_json()}


def main(channel: socket.socket) -> int:
    """The warden's whole life. ``channel``: the agent's line, whose first line is the configuration."""
    config: dict[str, Any] = json.loads(_first_line(channel))
    layout = NodeLayout(Path(config["home"]), Path(config["shared"]))
    left = end_leftovers(config["mark"])
    if left:
        print(f"processes of an earlier warden cannot be ended: {left}", file=sys.stderr, flush=True)
        return 1
    cgroups.remove_groups(layout.mark)
    layout.nodes().mkdir(parents=True, exist_ok=True)
    linux.become_subreaper()
    asyncio.run(_live(config, channel))
    cgroups.remove_groups(layout.mark)
    return 0


async def _live(config: Message, channel: socket.socket) -> None:
    await Warden(config, channel).run()


def _first_line(channel: socket.socket) -> bytes:
    """Byte by byte: what follows belongs to others."""
    line = b""
    while not line.endswith(b"\n") and (byte := channel.recv(1)):
        line += byte
    return line


def start(descriptor: int) -> None:
    """Entry of the process that an agent starts.

    Ray's workers kill their children when they end (RAY_kill_child_processes_on_worker_exit). The warden is nobody's
    child, so that it lives long enough to end everything and say so.
    """
    if os.fork():
        os._exit(0)
    os.setsid()
    os.umask(0o022)
    sys.exit(main(socket.socket(fileno=descriptor)))
