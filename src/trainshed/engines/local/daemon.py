"""The node daemon: keeps nodes and gangs of one home, outlives the service, tells it the truth.

One thread, one loop, no polling. It serves one controller at a time over a Unix socket: a new controller's greeting
closes the former one's connection, so nothing that a dead service had still in flight is carried out afterwards. With
that, an attempt that was forgotten cannot be started again by a straggler.

Run as ``python -m trainshed.engines.local.daemon --home DIR``.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import gc
import json
import os
import secrets
import shutil
import signal
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainshed.engines.local import addresses
from trainshed.engines.local.capacity import CapacityError, Machine
from trainshed.engines.local.gang import Gang, daemon_lost, node_lost
from trainshed.engines.local.layout import Layout, read_all, write_durably
from trainshed.engines.local.leftovers import MARK_VARIABLE, end_marked
from trainshed.engines.local.messages import Message, encode
from trainshed.engines.local.nodes import LocalNode, NodeKeeper
from trainshed.engines.local.wire import PROTOCOL, Refused, runner_specs
from trainshed.engines.protocol import NodeCondition
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.runner import linux
from trainshed.runner.outcome import read as read_outcome
from trainshed.runner.spec import Outcome

#: Longest message that is read: a job with its code manifest.
_MESSAGE_LIMIT = 64 * 2**20
#: Seconds beyond the grace that runners have to end by themselves.
_STOP_MARGIN = 5.0

Handler = Callable[[Message], Awaitable[Any]]


class Daemon:
    """All state of the daemon."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._subnets = addresses.Subnets()
        self._clusters: dict[str, dict[str, Any]] = {}
        self._gangs: dict[str, Gang] = {}
        self._busy: dict[str, str] = {}
        self._machine = Machine.here()
        self._writer: asyncio.StreamWriter | None = None
        self._done = asyncio.Event()
        self._keeper = NodeKeeper(layout, self._tell_changed, self._part_ended, self._node_lost)
        self._handlers: dict[str, Handler] = {
            "view": self._view,
            "ensure_cluster": self._ensure_cluster,
            "remove_cluster": self._remove_cluster,
            "add_nodes": self._add_nodes,
            "remove_nodes": self._remove_nodes,
            "start_gang": self._start_gang,
            "stop_gang": self._stop_gang,
            "forget": self._forget,
            "shut_down": self._shut_down,
        }

    async def run(self) -> None:
        """Take over what is recorded, serve, and end when asked to."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._keeper.reap)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._done.set)
        self._take_over()
        path = self._layout.socket
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, path, limit=_MESSAGE_LIMIT)
        path.chmod(0o600)
        try:
            await self._done.wait()
        finally:
            server.close()
            path.unlink(missing_ok=True)
            await self._keeper.close()

    def _take_over(self) -> None:
        """What a former daemon recorded: its attempts have ended (leftovers are gone), its nodes boot again."""
        for record in read_all(self._layout.clusters()):
            record["subnet"] = self._subnets.claim(record["subnet"])
            self._know_cluster(record)
        for folder in sorted(self._layout.attempts().iterdir()):
            self._recover_gang(folder)
        for record in read_all(self._layout.nodes()):
            node = LocalNode.from_record(record)
            cluster = self._clusters.get(node.cluster_uid)
            if cluster is None:
                (self._layout.nodes() / f"{node.node_id}.json").unlink()
                continue
            if not node.address.startswith(f"{cluster['subnet']}."):
                node.address = addresses.free_address(cluster["subnet"], self._used_addresses())
            self._keeper.nodes[node.node_id] = node
            if cluster.get("has_setup_secrets"):
                # Their values are not on disk: the service gives them again (ensure_cluster), then the node starts.
                node.reason = Reason(ReasonCode.NODE_STARTING, "The node waits for the secrets of its setup task.")
            else:
                self._keeper.start(node)

    def _recover_gang(self, folder: Path) -> None:
        try:
            node_ids = tuple(json.loads((folder / "gang.json").read_text())["node_ids"])
        except (OSError, ValueError, KeyError):
            # The power went before the file was whole: only the master's word can tell.
            node_ids = ("unknown",)
        gang = Gang(folder.name, node_ids, loss=daemon_lost(node_ids))
        for index, node_id in enumerate(node_ids):
            gang.part_ended(node_id, read_outcome(str(folder / str(index))))
        self._gangs[gang.attempt_id] = gang

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: a greeting, then requests in order, answered by their number."""
        peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        if struct.unpack("3i", peer)[1] not in (0, os.geteuid()):
            writer.close()
            return
        try:
            greeting = json.loads(await reader.readline())
            if greeting.get("protocol") != PROTOCOL:
                writer.write(encode({"error": f"the daemon speaks version {PROTOCOL}", "protocol": PROTOCOL}))
                await writer.drain()
                return
            if self._writer is not None:
                self._writer.close()
            self._writer = writer
            writer.write(encode({"protocol": PROTOCOL, "pid": os.getpid()}))
            while self._writer is writer and (line := await reader.readline()):
                if self._writer is writer:
                    await self._answer(writer, json.loads(line))
        except (OSError, ValueError, asyncio.IncompleteReadError):
            pass
        finally:
            if self._writer is writer:
                self._writer = None
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, request: Message) -> None:
        answer: Message = {"answer": request["id"]}
        try:
            answer["value"] = await self._handlers[request["call"]](request)
        except Refused as refusal:
            answer["refused"] = refusal.reason.to_json()
        except Exception as error:
            print(f"{request.get('call')}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            answer["refused"] = Reason(
                ReasonCode.ENGINE_UNAVAILABLE, f"The node daemon met an error: {type(error).__name__}: {error}"
            ).to_json()
        writer.write(encode(answer))

    def _tell(self, message: Message) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(message))

    def _tell_changed(self) -> None:
        self._tell({"changed": True})

    # What the service asks for.

    async def _view(self, _: Message) -> Any:
        return {
            "nodes": [node.status() for node in self._keeper.nodes.values()],
            "gangs": [gang.status() for gang in self._gangs.values()],
        }

    async def _ensure_cluster(self, request: Message) -> None:
        spec, given = request["cluster"], request["setup_secrets"]
        known = self._clusters.get(spec["uid"])
        record = {**spec, "subnet": known["subnet"] if known else "", "has_setup_secrets": bool(given)}
        if known is None:
            try:
                record["subnet"] = self._subnets.claim()
            except OSError as error:
                raise Refused(
                    Reason(ReasonCode.ALLOCATION_FAILED, f"No subnet for cluster {spec['name']}: {error}.")
                ) from error
        if record != known:
            self._layout.mount_root(spec["uid"]).mkdir(parents=True, exist_ok=True)
            write_durably(self._layout.clusters() / f"{spec['uid']}.json", record)
        self._know_cluster(record, given)
        for node in list(self._keeper.nodes.values()):
            if node.cluster_uid == spec["uid"] and not node.pid and node.boot and not node.removing and not node.facts:
                self._keeper.start(node)

    def _know_cluster(self, record: dict[str, Any], setup_secrets: dict[str, str] | None = None) -> None:
        self._clusters[record["uid"]] = record
        self._keeper.setups[record["uid"]] = (record["node_setup"], record["setup_suffix"], setup_secrets or {})

    async def _remove_cluster(self, request: Message) -> None:
        record = self._clusters.pop(request["uid"], None)
        if record is not None:
            self._keeper.setups.pop(request["uid"], None)
            self._subnets.release(record["subnet"])
            (self._layout.clusters() / f"{request['uid']}.json").unlink(missing_ok=True)

    async def _add_nodes(self, request: Message) -> None:
        await self._ensure_cluster(request)
        cluster = self._clusters[request["cluster"]["uid"]]
        wanted = [spec for spec in request["nodes"] if spec["node_id"] not in self._keeper.nodes]
        try:
            devices = self._machine.reserve(
                len(wanted),
                cluster["cpus"],
                cluster["gpus"],
                [node.cpus for node in self._keeper.nodes.values()],
                [device for node in self._keeper.nodes.values() for device in node.gpu_devices],
            )
        except CapacityError as error:
            raise Refused(Reason(ReasonCode.ALLOCATION_FAILED, str(error), {"cluster": cluster["name"]})) from error
        for spec, gpus in zip(wanted, devices, strict=True):
            node = LocalNode(
                node_id=spec["node_id"],
                cluster_uid=cluster["uid"],
                ordinal=spec["ordinal"],
                host_name=addresses.host_name(cluster["name"], spec["ordinal"]),
                address=addresses.free_address(cluster["subnet"], self._used_addresses()),
                cpus=cluster["cpus"],
                memory_mib=cluster["memory_mib"],
                gpu_devices=gpus,
            )
            (self._layout.node(node.node_id) / "jobs").mkdir(parents=True, exist_ok=True)
            self._keeper.start(node)
        if wanted:
            self._tell_changed()

    async def _remove_nodes(self, request: Message) -> None:
        for node_id in request["node_ids"]:
            node = self._keeper.nodes.get(node_id)
            if node is not None:
                attempt_id = self._busy.get(node_id)
                if attempt_id is not None:
                    self._kill(self._gangs[attempt_id])
                self._keeper.remove(node)

    async def _start_gang(self, request: Message) -> None:
        spec = request["gang"]
        if spec["attempt_id"] in self._gangs:
            return
        members = [self._ready_node(node_id, spec["attempt_id"]) for node_id in spec["node_ids"]]
        token = secrets.token_hex(16)
        gang = Gang(spec["attempt_id"], tuple(spec["node_ids"]))
        parts = runner_specs(spec, members, self._layout)
        folder = self._layout.attempt(gang.attempt_id)
        folder.mkdir(mode=0o700)
        (folder / "gang.json").write_text(json.dumps({"node_ids": list(gang.node_ids)}))
        self._gangs[gang.attempt_id] = gang
        for node, part in zip(members, parts, strict=True):
            self._busy[node.node_id] = gang.attempt_id
            self._keeper.tell(node, {"start": part, "secrets": request["secrets"], "token": token})

    def _ready_node(self, node_id: str, attempt_id: str) -> LocalNode:
        node = self._keeper.nodes.get(node_id)
        if node is None or node.condition is not NodeCondition.READY or not node.pid or node.removing:
            raise Refused(
                Reason(
                    ReasonCode.NODE_LOST,
                    f"Node {node_id} is not ready, so the attempt was not started on any node.",
                    {"node": node_id},
                )
            )
        if node_id in self._busy:
            raise Refused(
                Reason(
                    ReasonCode.NODE_LOST,
                    f"Node {node_id} still runs attempt {self._busy[node_id]}.",
                    {"node": node_id, "attempt": attempt_id},
                )
            )
        return node

    async def _stop_gang(self, request: Message) -> None:
        gang = self._gangs.get(request["attempt_id"])
        if gang is None or gang.final is not None or gang.stop_reason is not None:
            return
        gang.stop_reason = request["reason"]
        for node_id in gang.running:
            self._keeper.tell(
                self._keeper.nodes[node_id],
                {
                    "stop": gang.attempt_id,
                    "reason": request["reason"],
                    "grace": request["grace"],
                },
            )
        asyncio.get_running_loop().call_later(request["grace"] + _STOP_MARGIN, self._kill, gang)

    def _kill(self, gang: Gang) -> None:
        """End the runners that are left; their nodes report when nothing of them lives."""
        for node_id in gang.running:
            node = self._keeper.nodes.get(node_id)
            if node is not None:
                self._keeper.tell(node, {"kill": gang.attempt_id})

    async def _forget(self, request: Message) -> None:
        for attempt_id in request["attempt_ids"]:
            gang = self._gangs.get(attempt_id)
            if gang is not None and gang.final is not None:
                del self._gangs[attempt_id]
                shutil.rmtree(self._layout.attempt(attempt_id), ignore_errors=True)

    async def _shut_down(self, _: Message) -> None:
        asyncio.get_running_loop().call_soon(self._done.set)

    # What happens to nodes and gangs.

    def _part_ended(self, node: LocalNode, message: Message) -> None:
        outcome = message["outcome"]
        self._conclude(node, message["ended"], Outcome.from_dict(outcome) if outcome else None)

    def _conclude(self, node: LocalNode, attempt_id: str, outcome: Outcome | None) -> None:
        if self._busy.get(node.node_id) == attempt_id:
            del self._busy[node.node_id]
        gang = self._gangs.get(attempt_id)
        if gang is None:
            return
        ended = gang.part_ended(node.node_id, outcome)
        if ended:
            self._tell({"ended": gang.status()})
        elif outcome is None and gang.running:
            # A part is lost: the others notice by themselves; what does not is ended.
            asyncio.get_running_loop().call_later(2 * _STOP_MARGIN, self._kill, gang)

    def _node_lost(self, node: LocalNode) -> None:
        attempt_id = self._busy.get(node.node_id)
        if attempt_id is None:
            return
        gang = self._gangs[attempt_id]
        gang.loss = gang.loss or node_lost(node.node_id)
        # The runner may have come to its end just before: its durable word counts.
        index = gang.node_ids.index(node.node_id)
        self._conclude(node, attempt_id, read_outcome(str(self._layout.attempt(attempt_id) / str(index))))

    def _used_addresses(self) -> set[str]:
        return {node.address for node in self._keeper.nodes.values()}


def main() -> int:
    """Entry of the daemon's process."""
    parser = argparse.ArgumentParser(prog="trainshed-node-daemon", description="Keeps the nodes of one Trainshed home.")
    parser.add_argument("--home", type=Path, required=True)
    layout = Layout(parser.parse_args().home.absolute())
    layout.make()
    with layout.lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return 0  # Another daemon of this home is there.
        if os.environ.get(MARK_VARIABLE) != layout.mark:
            # Forks and leftovers are found by what is in the environment from the start of a process.
            os.environ[MARK_VARIABLE] = layout.mark
            os.set_inheritable(lock.fileno(), False)
            os.execv(
                sys.executable, [sys.executable, "-m", "trainshed.engines.local.daemon", "--home", str(layout.home)]
            )
        left = end_marked(layout.mark)
        if left:
            print(f"processes of an earlier daemon cannot be ended: {left}", file=sys.stderr, flush=True)
            return 1
        linux.become_subreaper()
        gc.collect()
        gc.freeze()
        with suppress(KeyboardInterrupt):
            asyncio.run(_run(layout))
    return 0


async def _run(layout: Layout) -> None:
    await Daemon(layout).run()


if __name__ == "__main__":
    sys.exit(main())
