"""The runner's side of MPI's launch agent: starts what an agent asks for, in this node's job environment.

The agent (agent.py) makes three connections: one that carries the command line, and later the exit code; one each for
standard output and error, which the started process gets as they are, so that no byte passes through the runner.
When the agent goes away its process is ended, and when the runner goes away the agent fails.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from trainshed.runner.lines import ConnectionLost, Line
from trainshed.runner.node import Node
from trainshed.runner.switchboard import Switchboard

#: Seconds between SIGTERM and SIGKILL for a process whose agent went away.
_AGENT_GONE_SECONDS = 2.0
_STREAMS = ("stdout", "stderr")


@dataclass
class _Call:
    """What one agent has asked for so far."""

    line: Line | None = None
    command_line: str = ""
    streams: dict[str, Line] = field(default_factory=dict)


class Launching:
    """Serves launch agents on this node, whose processes get ``environment``."""

    def __init__(
        self, node: Node, switchboard: Switchboard, environment: dict[str, str], daemon_ended: Callable[[int], None]
    ) -> None:
        """Call ``daemon_ended(exit code)`` when what an agent started, one of MPI's daemons, ends."""
        self._node = node
        self._environment = environment
        self._daemon_ended = daemon_ended
        self._calls: dict[str, _Call] = {}
        switchboard.take("launch", self._launch)
        switchboard.take("attach", self._attach)

    def _launch(self, line: Line, message: dict[str, Any]) -> None:
        call = self._calls.setdefault(str(message.get("call")), _Call())
        call.line, call.command_line = line, bytes.fromhex(message["launch"]).decode()
        self._start_when_complete(str(message.get("call")))

    def _attach(self, line: Line, message: dict[str, Any]) -> None:
        call = self._calls.setdefault(str(message.get("call")), _Call())
        call.streams[str(message["attach"])] = line
        self._start_when_complete(str(message.get("call")))

    def _start_when_complete(self, name: str) -> None:
        call = self._calls[name]
        line = call.line
        if line is None or not all(stream in call.streams for stream in _STREAMS):
            return
        del self._calls[name]
        loop = self._node.loop
        for stream in call.streams.values():
            stream.socket.settimeout(None)  # the process expects descriptors that block
        fds = [call.streams[stream].socket.fileno() for stream in _STREAMS]

        def ended(code: int) -> None:
            with suppress(ConnectionLost):
                line.send({"exit": code})
            line.close(loop)
            if code != 0:
                self._node.log.write(f"MPI's daemon ended with exit code {code}")
            self._daemon_ended(code)

        pid = self._node.start(call.command_line, self._environment, fds[0], fds[1], ended)
        for stream in call.streams.values():
            stream.close(loop)

        def kill() -> None:
            if pid in loop.living:
                _signal_group(pid, signal.SIGKILL)

        def agent_said() -> None:
            try:
                line.receive()
            except ConnectionLost:
                loop.unwatch(line.socket)
                _signal_group(pid, signal.SIGTERM)
                loop.after(_AGENT_GONE_SECONDS, kill)

        loop.watch(line.socket, agent_said)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)
