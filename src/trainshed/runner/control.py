"""The runner's line to whatever started it: JSON lines over a socket pair.

Parent to runner: ``{"stop": reason, "grace": seconds}``. Runner to parent: ``{"running": true}``, and at the end
``{"outcome": ...}``. When the line is cut the parent is dead.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from trainshed.runner.events import EventLoop
from trainshed.runner.failure import ParentDied


class Control:
    """One end of the line. A negative descriptor means that nobody listens (the runner was started as a program)."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd) if fd >= 0 else None
        self._buffer = b""
        self._on_stop: Callable[[dict[str, Any], float | None], None] | None = None

    def attach(self, loop: EventLoop, on_stop: Callable[[dict[str, Any], float | None], None]) -> None:
        """Call ``on_stop(reason, grace)`` for each request; raise ParentDied from the loop when the line is cut."""
        self._on_stop = on_stop
        if self._socket is not None:
            loop.watch(self._socket, self._read)

    def send(self, message: dict[str, Any]) -> None:
        """Tell the parent. A parent that is gone is noticed when reading."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def _read(self) -> None:
        assert self._socket is not None
        try:
            received = self._socket.recv(65536)
        except OSError:
            received = b""
        if not received:
            raise ParentDied
        *lines, self._buffer = (self._buffer + received).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "stop" in message and self._on_stop is not None:
                self._on_stop(message["stop"], message.get("grace"))
