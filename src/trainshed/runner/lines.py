"""JSON lines over TCP between the runners of a gang."""

from __future__ import annotations

import json
import socket
from typing import Any

from trainshed.runner.events import EventLoop

#: Longest line that is taken from a peer, in bytes.
_LIMIT = 16 << 20
#: Seconds that sending one line may block.
_SEND_SECONDS = 20.0


class ConnectionLost(Exception):
    """The other end is gone, or speaks another language."""


class Line:
    """One connection. A lost node is noticed within about half a minute also when its machine just vanishes."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        #: Messages that came together with the first one, for whoever takes the connection over.
        self.pending: list[dict[str, Any]] = []
        self._buffer = b""
        connection.settimeout(_SEND_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)

    def send(self, message: dict[str, Any]) -> None:
        """Raises ConnectionLost."""
        try:
            self.socket.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        except OSError as error:
            raise ConnectionLost(str(error)) from error

    def receive(self) -> list[dict[str, Any]]:
        """The complete messages that have arrived; called when readable. Raises ConnectionLost."""
        try:
            received = self.socket.recv(65536)
        except OSError as error:
            raise ConnectionLost(str(error)) from error
        if not received:
            raise ConnectionLost("closed by the other end")
        *lines, self._buffer = (self._buffer + received).split(b"\n")
        if len(self._buffer) > _LIMIT:
            raise ConnectionLost("a line is too long")
        try:
            messages = [json.loads(line) for line in lines]
        except ValueError as error:
            raise ConnectionLost("not JSON") from error
        if not all(isinstance(message, dict) for message in messages):
            raise ConnectionLost("not JSON objects")
        return messages

    def close(self, loop: EventLoop) -> None:
        """Let go."""
        loop.unwatch(self.socket)
        self.socket.close()
