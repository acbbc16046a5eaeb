"""The bridge to Ray: a process of its own, since Ray takes threads, memory and at times the whole process with it.

A child of the service, on a socket, with JSON lines: the configuration first, then requests, answered by their number.
It may be killed at any time: what it knows is in the engine's directory, with the nodes' agents, and with Ray. It ends
when the service does, and when Ray's head is away: the service starts another, which waits for the head.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainshed.engines.local.gang import Gang
from trainshed.engines.local.messages import MESSAGE_LIMIT, Message, encode
from trainshed.engines.local.wire import Refused
from trainshed.engines.ray.gangs import GangKeeper, Telling
from trainshed.engines.ray.holding import NodeHolder
from trainshed.engines.ray.places import Places

#: Seconds that Ray's head has to accept a connection, and attempts to end when nodes are ended.
_REACH_SECONDS, _END_GRACE = 3.0, 3.0
#: Exit codes.
ENDED, AWAY = 0, 3


class Bridge:
    """All state of the bridge."""

    def __init__(self, config: Message, writer: asyncio.StreamWriter, ray: Any) -> None:
        self._writer = writer
        scratch = config["scratch"]
        self._places = Places(Path(config["directory"]), Path(scratch) if scratch else None)
        leader = tuple(config["leader"]) if config["leader"] else None
        self._telling = False
        self._holder = NodeHolder(self._places, ray, leader, config["autoscale"], self._tell_changed)
        telling = Telling(self._holder.tell, self._holder.free_ports)
        self._gangs = GangKeeper(
            self._places, self._holder.nodes, telling, self._tell_ended, config["fence_seconds"], config["share_user"]
        )
        self._holder.on_parts = self._gangs.heard
        self._holder.on_gone = self._gangs.node_gone
        self._tasks: set[asyncio.Task[None]] = set()
        self._handlers: dict[str, Callable[[Message], Any]] = {
            "view": self._view,
            "ensure_cluster": self._ensure_cluster,
            "remove_cluster": lambda request: self._holder.remove_cluster(request["uid"]),
            "add_nodes": self._add_nodes,
            "remove_nodes": self._remove_nodes,
            "start_gang": lambda request: self._gangs.start(request["gang"], request["secrets"], request["private"]),
            "stop_gang": lambda request: self._gangs.stop(
                request["attempt_id"], request["reason"], request["grace"], request["warning"]
            ),
            "forget": lambda request: self._gangs.forget(request["attempt_ids"]),
            "shut_down": self._shut_down,
        }

    async def run(self, reader: asyncio.StreamReader) -> int:
        """Until the service is gone (0), or Ray's head is (3)."""
        # Before the nodes: what they say is about gangs.
        self._holder.load()
        self._gangs.recover()
        await self._holder.take_over()
        self._say({"ready": True})
        serving = asyncio.create_task(self._serve(reader))
        watching = asyncio.create_task(self._holder.watch_ray())
        await asyncio.wait([serving, watching], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            return ENDED
        self._say({"away": f"it does not go on with Ray: {watching.exception()!r}"})
        return AWAY

    async def _serve(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError, ValueError):
            while line := await reader.readline():
                task = asyncio.create_task(self._answer(json.loads(line)))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: Message) -> None:
        answer: Message = {"answer": request["id"]}
        try:
            value = self._handlers[request["call"]](request)
            answer["value"] = await value if asyncio.iscoroutine(value) else value
        except Refused as refusal:
            answer["refused"] = refusal.reason.to_json()
        except Exception as error:
            print(f"{request.get('call')}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            answer["away"] = f"the bridge to Ray met an error: {type(error).__name__}: {error}"
        self._say(answer)

    def _say(self, message: Message) -> None:
        self._writer.write(encode(message))

    def _tell_changed(self) -> None:
        """Once for all that changes in one turn of the loop."""
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell_now)

    def _tell_now(self) -> None:
        self._telling = False
        self._say({"changed": True})

    def _tell_ended(self, gang: Gang) -> None:
        self._say({"ended": gang.status()})

    def _view(self, _: Message) -> Message:
        return {
            "nodes": [node.status() for node in self._holder.nodes.values()],
            "gangs": self._gangs.statuses(),
            "clusters": list(self._holder.clusters),
        }

    def _ensure_cluster(self, request: Message) -> None:
        secret = {name: request[name] for name in ("setup_secrets", "private")}
        self._holder.ensure_cluster(request["cluster"], secret)

    async def _add_nodes(self, request: Message) -> None:
        self._ensure_cluster(request)
        await self._holder.add(self._holder.clusters[request["cluster"]["uid"]], request["nodes"])

    def _remove_nodes(self, request: Message) -> None:
        for node_id in request["node_ids"]:
            self._gangs.node_leaves(node_id)
        self._holder.remove(request["node_ids"])

    async def _shut_down(self, _: Message) -> None:
        await self._gangs.end_all(_END_GRACE)
        await self._holder.close()


def _reach(address: str) -> None:
    """Raises OSError when nobody listens. Ray itself would try for a minute, and then end the process."""
    host, _, port = address.rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _REACH_SECONDS).close()


async def _live(config: Message, channel: socket.socket) -> int:
    reader, writer = await asyncio.open_connection(sock=channel, limit=MESSAGE_LIMIT)

    async def away(why: str) -> int:
        writer.write(encode({"away": why}))
        with suppress(OSError):
            await writer.drain()
        return AWAY

    try:
        _reach(config["address"])
    except OSError as error:
        return await away(f"Ray's head at {config['address']} cannot be reached: {error.strerror or error}")
    places = Places(Path(config["directory"]))
    try:
        places.make()
        identity = places.identity()
    except OSError as error:
        return await away(f"the directory {places.directory} cannot be used: {error}")
    try:
        from trainshed.engines.ray.cluster import RayCluster

        ray = await asyncio.to_thread(RayCluster, config["address"], f"trainshed-{identity}")
    except ImportError as error:
        return await away(f"Ray is not installed here ({error}): pip install 'trainshed[ray]'")
    except Exception as error:
        return await away(f"Ray's head at {config['address']} does not let us in: {error}")
    code = await Bridge(config, writer, ray).run(reader)
    with suppress(OSError):
        await writer.drain()
    return code


def main() -> None:
    """Entry of the bridge's process: the socket's descriptor is the only argument."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    line = b""
    while not line.endswith(b"\n") and (byte := channel.recv(1)):
        line += byte
    config: dict[str, Any] = json.loads(line)
    # The service sees to its end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = asyncio.run(_live(config, channel))
    sys.stderr.flush()
    # Without Ray's farewell, which waits for a head that may be gone.
    os._exit(code)


if __name__ == "__main__":
    main()
