"""Where a runner of a gang listens: members of the gang and MPI launch agents call here and prove who they are.

The first line of a caller names its purpose and holds the proof: ``{"member": index, "token": ...}`` from another
runner, ``{"launch": ...}`` or ``{"attach": ...}`` from a launch agent, ``{"join": ...}`` from who starts a rank (with a
token of their own, since the job's processes know that one). Whoever proves nothing is hung up on.
"""

from __future__ import annotations

import hmac
import socket
import time
from collections.abc import Callable
from typing import Any

from trainshed.resources.reasons import ReasonCode
from trainshed.runner.events import EventLoop
from trainshed.runner.failure import failed
from trainshed.runner.lines import ConnectionLost, Line

#: Seconds in which a caller must have said who it is.
_PROOF_SECONDS = 10.0
#: Seconds for which a port that is still in use is tried.
_BIND_SECONDS = 10.0

#: Takes over an authenticated connection with its first message.
Taker = Callable[[Line, dict[str, Any]], None]


def agent_token(token: str) -> str:
    """What launch agents prove themselves with, derived from the attempt's token."""
    return hmac.new(token.encode(), b"launch agent", "sha256").hexdigest()


class Switchboard:
    """The listening socket of one runner."""

    def __init__(self, address: str, port: int, token: str, loop: EventLoop) -> None:
        """Listen. Raises AttemptEnded (JobLaunchFailed) when the port cannot be had."""
        self._loop = loop
        self._tokens = {"member": token, **dict.fromkeys(("launch", "attach", "join"), agent_token(token))}
        self._takers: dict[str, Taker] = {}
        self._early: list[tuple[str, Line, dict[str, Any]]] = []
        if not token or not port:
            raise failed(
                ReasonCode.JOB_LAUNCH_FAILED,
                "The engine gave the runner no port or token for a gang of several nodes. Report this as a bug.",
            )
        self._socket = _listen(address, port)
        loop.watch(self._socket, self._accept)

    def take(self, purpose: str, taker: Taker) -> None:
        """From now on callers with this purpose go to ``taker``, those who came before included."""
        self._takers[purpose] = taker
        early, self._early = self._early, []
        for waiting, line, message in early:
            self._hand_over(waiting, line, message)

    def close(self) -> None:
        """Listen no more."""
        self._loop.unwatch(self._socket)
        self._socket.close()

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return
        line = Line(connection)
        timer = self._loop.after(_PROOF_SECONDS, lambda: line.close(self._loop))

        def first_line() -> None:
            try:
                messages = line.receive()
            except ConnectionLost:
                messages = [{}]
            if not messages:
                return
            timer.cancel()
            self._loop.unwatch(connection)
            message, *line.pending = messages
            proof = message.get("token")
            for purpose, token in self._tokens.items():
                if (
                    purpose in message
                    and isinstance(proof, str)
                    and hmac.compare_digest(proof.encode(), token.encode())
                ):
                    self._hand_over(purpose, line, message)
                    return
            line.close(self._loop)

        self._loop.watch(connection, first_line)

    def _hand_over(self, purpose: str, line: Line, message: dict[str, Any]) -> None:
        taker = self._takers.get(purpose)
        if taker is None:
            self._early.append((purpose, line, message))
        else:
            taker(line, message)


def _listen(address: str, port: int) -> socket.socket:
    until = time.monotonic() + _BIND_SECONDS
    while True:
        listening = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((address, port))
            listening.listen(128)
            return listening
        except OSError as error:
            listening.close()
            if time.monotonic() < until:
                time.sleep(0.1)
                continue
            raise failed(
                ReasonCode.JOB_LAUNCH_FAILED,
                f"The runner cannot listen at {address}:{port}: {error.strerror}. "
                "Free the port on that node, or give the cluster another one.",
                {"address": f"{address}:{port}"},
            ) from error
