"""The runner's line to whatever started it: JSON lines over a socket pair.

Parent to runner: ``{"stop": reason, "grace": seconds, "warning": ..., "attempt": id}``, and, to one that serves,
``{"run": spec, "secrets": ..., "private": ..., "token": ...}``. Runner to parent: ``{"running": true}``,
``{"holder": pid}`` when it started the holder of the attempt's volumes, and at the end
``{"outcome": ..., "attempt": id, "again": whether it takes another}``. When the line is cut the parent is dead.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from trainshed.resources.preemption import StopWarning
from trainshed.runner.events import EventLoop
from trainshed.runner.failure import ParentDied

#: Gets why an attempt is to stop, the grace in seconds (None: the attempt's own), and the warning before.
OnStop = Callable[[dict[str, Any], float | None, StopWarning | None], None]


class Control:
    """One end of the line. A negative descriptor means that nobody listens (the runner was started as a program)."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd) if fd >= 0 else None
        self._buffer = b""
        self._on_stop: OnStop | None = None
        self._attempt_id = ""
        self._next: list[dict[str, Any]] = []
        #: Stops that came before their attempt began.
        self._early: list[dict[str, Any]] = []

    def attach(self, loop: EventLoop, attempt_id: str, on_stop: OnStop) -> None:
        """Call ``on_stop`` for each request; raise ParentDied from the loop when the line is cut.

        A request that names another attempt came too late and is not this one's.
        """
        self._attempt_id = attempt_id
        self._on_stop = on_stop
        if self._socket is not None:
            loop.watch(self._socket, self._read)
        early, self._early = self._early, []
        for message in early:
            loop.after(0.0, partial(self._stop, message))

    def send(self, message: dict[str, Any]) -> None:
        """Tell the parent. A parent that is gone is noticed when reading."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def next_attempt(self) -> dict[str, Any]:
        """Wait for the next ``run`` message. Raises ParentDied."""
        self._on_stop = None
        while not self._next:
            self._read()
        return self._next.pop(0)

    @property
    def descriptor(self) -> int:
        """The descriptor of this end, -1 for none."""
        return -1 if self._socket is None else self._socket.fileno()

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
            if "run" in message:
                self._next.append(message)
            elif self._on_stop is None:
                self._early.append(message)
            else:
                self._stop(message)

    def _stop(self, message: dict[str, Any]) -> None:
        if self._on_stop is not None and message.get("attempt", self._attempt_id) == self._attempt_id:
            self._on_stop(message["stop"], message.get("grace"), StopWarning.from_json(message.get("warning")))
