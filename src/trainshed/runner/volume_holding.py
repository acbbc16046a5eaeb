"""Starts the holder of managed volumes (``volume_holder``) and talks to it, from an event loop."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.runner import linux
from trainshed.runner.events import EventLoop
from trainshed.runner.volume_holder import Wanted, hold, titles
from trainshed.volumes import FLUSH_SECONDS, MOUNT_SECONDS

#: Seconds beyond what flushing may take.
_MARGIN = 60.0
_LIMIT = 1 << 16


class VolumeHolding:
    """A holder that was started; its end is not waited for by those who wait for all their children."""

    def __init__(self, wanted: Wanted, loop: EventLoop, log: Callable[[str], None], *, adopt: bool = False) -> None:
        """``adopt``: the caller is a subreaper and wants to be the holder's parent."""
        self._wanted = wanted
        self._loop = loop
        self._log = log
        self._line, theirs = socket.socketpair()
        self.pid = fork_away(lambda: hold(wanted, theirs), adopt=adopt)
        theirs.close()
        self._buffer = b""
        self._mounted: list[Reason | None] = []
        self._ended: list[Reason] | None = None
        loop.watch(self._line, self._read)

    def mount(self, given_up: Callable[[], bool] = lambda: False) -> Reason | None:
        """Wait until all are mounted; why not, or None. What the loop's handlers raise passes through."""
        seconds = MOUNT_SECONDS * len(self._wanted.sources)
        self._loop.run_until(lambda: bool(self._mounted) or given_up(), seconds)
        if self._mounted or given_up():
            return self._mounted[0] if self._mounted else None
        self.kill()
        return self._lost(f"were not mounted within {seconds:g} s", "Look whether their servers can be reached.")

    def end(self) -> list[Reason]:
        """Flush and unmount, once nobody writes any more; what could not be written."""
        if self._line.fileno() < 0:
            return []
        if self._ended is None:
            with suppress(OSError):
                self._line.sendall(b'{"end":true}\n')
            self._loop.run_until(lambda: self._ended is not None, FLUSH_SECONDS * len(self._wanted.sources) + _MARGIN)
        self._close()
        if self._ended is None:
            self.kill()
            return [self._lost("were not unmounted in time", "What was not written stays in the node's cache.")]
        return self._ended

    def kill(self) -> None:
        """At once, with its daemons: they die with it."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._close()

    def _close(self) -> None:
        self._loop.unwatch(self._line)
        self._line.close()

    def _read(self) -> None:
        data = self._line.recv(_LIMIT)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._heard(json.loads(line))
        if not data:
            self._loop.unwatch(self._line)
            lost = self._lost("lost the process that held them", "Run the job again.")
            if not self._mounted:
                self._mounted.append(lost)
            if self._ended is None:
                self._ended = [lost]

    def _heard(self, message: dict[str, Any]) -> None:
        if "log" in message:
            self._log(message["log"])
        elif "mounted" in message:
            told = message["mounted"]
            self._mounted.append(Reason.from_json(told) if told else None)
            if told:
                self._ended = []
        elif "ended" in message:
            self._ended = [Reason.from_json(told) for told in message["ended"]]

    def _lost(self, what: str, hint: str) -> Reason:
        text = f"The volumes {titles(self._wanted.sources)} {what} on node {self._wanted.node}. {hint}"
        return Reason(ReasonCode.VOLUME_MOUNT_FAILED, text, {"node": self._wanted.node})


def fork_away(live: Callable[[], None], *, adopt: bool = False) -> int:
    """The process id of a grandchild that goes to the next subreaper: the caller, or the first one above it.

    So whoever waits for all the caller's children does not wait for it.
    """
    if not adopt:
        linux.become_subreaper(False)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            holder = os.fork()
            if holder == 0:
                live()
                os._exit(0)
            os.write(writing, str(holder).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as told:
        holder = int(told.read() or b"0")
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)
    return holder
