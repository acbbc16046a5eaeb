"""The node daemon: keeps nodes and gangs of one home, outlives the service, tells it the truth.

One thread, one loop, no polling: children's ends, messages and a few timers wake it.

Run as ``python -m trainshed.engines.local.daemon --home DIR``.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import gc
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainshed.engines.local import addresses, cgroups
from trainshed.engines.local.capacity import CapacityError, Machine
from trainshed.engines.local.fileserver.keeper import FileServerKeeper
from trainshed.engines.local.gang import Gang
from trainshed.engines.local.gangs import GangKeeper
from trainshed.engines.local.layout import Layout, read_all, write_durably
from trainshed.engines.local.leftovers import MARK_VARIABLE, end_leftovers
from trainshed.engines.local.messages import Message
from trainshed.engines.local.nodes import ClusterSetup, NodeKeeper
from trainshed.engines.local.port import Port
from trainshed.engines.local.record import LocalNode
from trainshed.engines.local.wire import Refused
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.resources.users import JobUser
from trainshed.resources.volume_sources import VolumeSource
from trainshed.runner import linux

#: Seconds that attempts have to end by themselves when the daemon is told to end.
_END_GRACE = 3.0


class Daemon:
    """All state of the daemon."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._subnets = addresses.Subnets()
        self._clusters: dict[str, dict[str, Any]] = {}
        self._machine = Machine.here()
        self._done = asyncio.Event()
        self._file_servers = FileServerKeeper(layout, self._tell_changed)
        self._keeper = NodeKeeper(
            layout,
            self._tell_changed,
            lambda node, message: self._gangs.part_ended(node, message),
            lambda node: self._gangs.node_lost(node),
            self._file_servers,
        )
        self._gangs = GangKeeper(layout, self._keeper, self._tell_ended)
        self._port = Port(
            layout,
            {
                "view": self._view,
                "ensure_cluster": self._ensure_cluster,
                "remove_cluster": self._remove_cluster,
                "add_nodes": self._add_nodes,
                "remove_nodes": self._remove_nodes,
                "start_gang": lambda request: self._gangs.start(
                    request["gang"], request["secrets"], request["private"]
                ),
                "stop_gang": lambda request: self._gangs.stop(
                    request["attempt_id"], request["reason"], request["grace"]
                ),
                "forget": lambda request: self._gangs.forget(request["attempt_ids"]),
                "ensure_file_server": lambda request: self._file_servers.ensure(request["server"], request["password"]),
                "remove_file_server": lambda request: self._file_servers.remove(request["uid"]),
                "shut_down": lambda _: self._done.set(),
            },
        )

    async def run(self) -> None:
        """Take over what is recorded, serve, and end when asked to."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._keeper.reap)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._done.set)
        self._take_over()
        await self._port.open()
        try:
            await self._done.wait()
        finally:
            await self._gangs.end_all(_END_GRACE)
            # Nodes first: who is connected hears how its gangs end, and finds the home free afterwards.
            await self._keeper.close()
            await self._port.close()

    def _take_over(self) -> None:
        """What a former daemon recorded: its attempts have ended (leftovers are gone), its nodes boot again."""
        # First: volumes of nodes may lie on them.
        self._file_servers.take_over()
        for record in read_all(self._layout.clusters()):
            recorded = record["subnet"]
            record["subnet"] = self._subnets.claim(recorded)
            if record["subnet"] != recorded:
                self._record_cluster(record)
            self._know_cluster(record)
        self._gangs.recover()
        for folder in self._layout.waiting_for_deletion():
            self._keeper.delete_in_background(folder)
        for record in read_all(self._layout.nodes()):
            node = LocalNode.from_record(record)
            cluster = self._clusters.get(node.cluster_uid)
            if cluster is None:
                (self._layout.nodes() / f"{node.node_id}.json").unlink()
                continue
            if not node.address.startswith(f"{cluster['subnet']}."):
                node.address = addresses.free_addresses(cluster["subnet"], 1, self._used_addresses())[0]
            if cluster.get("has_secrets", True):
                # Their values are not on disk: the service gives them again (ensure_cluster), then the node starts.
                node.waits_for_secrets = True
                node.reason = Reason(ReasonCode.NODE_STARTING, "The node waits for the secrets of its setup.")
                self._keeper.nodes[node.node_id] = node
            else:
                self._keeper.start(node)

    def _tell_changed(self) -> None:
        self._port.tell({"changed": True})

    def _tell_ended(self, gang: Gang) -> None:
        self._port.tell({"ended": gang.status()})

    # What the service asks for.

    def _view(self, _: Message) -> Any:
        return {
            "nodes": [node.status() for node in self._keeper.nodes.values()],
            "gangs": self._gangs.statuses(),
            "file_servers": self._file_servers.statuses(),
        }

    def _ensure_cluster(self, request: Message) -> None:
        spec, given, private = request["cluster"], request["setup_secrets"], request["private"]
        known = self._clusters.get(spec["uid"])
        record = {**spec, "subnet": known["subnet"] if known else "", "has_secrets": bool(given or private)}
        if known is None:
            try:
                record["subnet"] = self._subnets.claim()
            except OSError as error:
                raise _allocation_failed(spec["name"], f"No subnet for cluster {spec['name']}: {error}.") from error
        if record != known:
            self._layout.mount_root(spec["uid"]).mkdir(parents=True, exist_ok=True)
            self._record_cluster(record)
        self._know_cluster(record, given, private)
        for node in list(self._keeper.nodes.values()):
            if node.cluster_uid == spec["uid"] and node.waits_for_secrets:
                self._keeper.start(node)

    def _record_cluster(self, record: dict[str, Any]) -> None:
        write_durably(self._layout.clusters() / f"{record['uid']}.json", record)

    def _know_cluster(
        self,
        record: dict[str, Any],
        setup_secrets: dict[str, str] | None = None,
        private: dict[str, str] | None = None,
    ) -> None:
        self._clusters[record["uid"]] = record
        self._keeper.setups[record["uid"]] = ClusterSetup(
            record["node_setup"],
            record["setup_suffix"],
            setup_secrets or {},
            JobUser.from_json(record.get("user")),
            tuple(map(VolumeSource.from_json, record.get("volumes") or ())),
            private or {},
        )

    def _remove_cluster(self, request: Message) -> None:
        record = self._clusters.pop(request["uid"], None)
        if record is not None:
            self._keeper.setups.pop(request["uid"], None)
            self._subnets.release(record["subnet"])
            (self._layout.clusters() / f"{request['uid']}.json").unlink(missing_ok=True)

    def _add_nodes(self, request: Message) -> None:
        self._ensure_cluster(request)
        cluster = self._clusters[request["cluster"]["uid"]]
        wanted = [spec for spec in request["nodes"] if spec["node_id"] not in self._keeper.nodes]
        nodes = self._keeper.nodes.values()
        try:
            devices = self._machine.reserve(
                len(wanted),
                cluster["cpus"],
                cluster["gpus"],
                [node.cpus for node in nodes],
                [device for node in nodes for device in node.gpu_devices],
            )
            free = addresses.free_addresses(cluster["subnet"], len(wanted), self._used_addresses())
        except (CapacityError, OSError) as error:
            raise _allocation_failed(cluster["name"], str(error)) from error
        for spec, gpus, address in zip(wanted, devices, free, strict=True):
            self._keeper.start(
                LocalNode(
                    node_id=spec["node_id"],
                    cluster_uid=cluster["uid"],
                    ordinal=spec["ordinal"],
                    host_name=addresses.host_name(cluster["name"], spec["ordinal"]),
                    address=address,
                    cpus=cluster["cpus"],
                    memory_mib=cluster["memory_mib"],
                    gpu_devices=gpus,
                )
            )
        if wanted:
            self._tell_changed()

    def _remove_nodes(self, request: Message) -> None:
        for node_id in request["node_ids"]:
            node = self._keeper.nodes.get(node_id)
            # Asked again it is on its way: what is left of it reads no more messages.
            if node is not None and not node.removing:
                self._gangs.node_leaves(node)
                self._keeper.remove(node)

    def _used_addresses(self) -> set[str]:
        return {node.address for node in self._keeper.nodes.values()}


def _allocation_failed(cluster: str, why: str) -> Refused:
    return Refused(Reason(ReasonCode.ALLOCATION_FAILED, why, {"cluster": cluster}))


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
            module = "trainshed.engines.local.daemon"
            os.execv(sys.executable, [sys.executable, "-m", module, "--home", str(layout.home)])
        left = end_leftovers(layout.mark)
        if left:
            print(f"processes of an earlier daemon cannot be ended: {left}", file=sys.stderr, flush=True)
            return 1
        cgroups.remove_groups(layout.mark)
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
