"""Where the service speaks with the daemon: one controller at a time over a Unix socket, requests in order.

A new controller's greeting closes the former one's connection, so nothing that a dead service had still in flight is
carried out afterwards. With that, an attempt that was forgotten cannot be started again by a straggler. Where several
processes share the home, the greeting names the lease, and one of a former lease is turned away, also by a daemon that
was started since.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

from trainshed.engines.local.layout import Layout, write_durably
from trainshed.engines.local.messages import MESSAGE_LIMIT, PROTOCOL, Message, encode
from trainshed.engines.local.wire import Refused
from trainshed.resources.reasons import Reason, ReasonCode

#: Carries out one request and returns its answer. Raises Refused.
Handler = Callable[[Message], Any]


class Port:
    """The listening socket, and the controller of the moment."""

    def __init__(self, layout: Layout, handlers: dict[str, Handler]) -> None:
        self._layout = layout
        self._handlers = handlers
        self._controller: asyncio.StreamWriter | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen. Raises OSError."""
        self._layout.remove_socket()
        self._layout.make()
        self._server = await asyncio.start_unix_server(self._accept, self._layout.socket, limit=MESSAGE_LIMIT)
        self._layout.socket.chmod(0o600)

    async def close(self) -> None:
        """Listen no more, and let the connections end."""
        if self._server is not None:
            self._server.close()
        self._layout.remove_socket()
        for writer in self._connections.values():
            writer.close()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def tell(self, message: Message) -> None:
        """Send to the controller, if there is one."""
        if self._controller is not None and not self._controller.is_closing():
            self._controller.write(encode(message))

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections[task] = writer
        task.add_done_callback(lambda done: self._connections.pop(done, None))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: a greeting, then requests, answered by their number."""
        try:
            if _uid_of_peer(writer) not in (0, os.geteuid()):
                return
            line = await reader.readline()
            if not line:
                return
            greeting = json.loads(line)
            if greeting.get("protocol") != PROTOCOL:
                writer.write(encode({"error": f"the daemon speaks version {PROTOCOL}", "protocol": PROTOCOL}))
                await writer.drain()
                return
            if not self._admit(greeting.get("leader")):
                writer.write(encode({"protocol": PROTOCOL, "superseded": True}))
                await writer.drain()
                return
            if self._controller is not None:
                self._controller.close()
            self._controller = writer
            writer.write(encode({"protocol": PROTOCOL, "pid": os.getpid()}))
            while self._controller is writer and (line := await reader.readline()):
                if self._controller is writer:
                    self._answer(writer, json.loads(line))
        except (OSError, ValueError, AttributeError, KeyError) as error:
            print(f"a connection ends: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            if self._controller is writer:
                self._controller = None
            writer.close()

    def _admit(self, leader: dict[str, Any] | None) -> bool:
        """Whether the lease is the newest, which it is from now on. Raises OSError when that cannot be kept.

        Of two databases the home's own lock allows one at a time, and a service without a lease is alone.
        """
        if leader is None:
            return True
        try:
            last = json.loads(self._layout.leader.read_text())
        except (FileNotFoundError, ValueError):
            last = None
        if last is not None and last["database"] == leader["database"] and last["token"] >= leader["token"]:
            return bool(last["token"] == leader["token"])
        write_durably(self._layout.leader, leader)
        return True

    def _answer(self, writer: asyncio.StreamWriter, request: Message) -> None:
        answer: Message = {"answer": request["id"]}
        try:
            answer["value"] = self._handlers[request["call"]](request)
        except Refused as refusal:
            answer["refused"] = refusal.reason.to_json()
        except Exception as error:
            print(f"{request.get('call')}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            answer["refused"] = Reason(
                ReasonCode.ENGINE_UNAVAILABLE, f"The node daemon met an error: {type(error).__name__}: {error}"
            ).to_json()
        writer.write(encode(answer))


def _uid_of_peer(writer: asyncio.StreamWriter) -> int:
    """Of the process at the other end (unix(7), SO_PEERCRED)."""
    endpoint: socket.socket = writer.get_extra_info("socket")
    credentials = endpoint.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])
