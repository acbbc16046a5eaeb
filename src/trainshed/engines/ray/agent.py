"""The agent on a Ray node: a detached actor that holds the node for Trainshed and speaks with the node's warden.

Ray sends the class to the node by value, so this module uses the standard library and Ray alone. What the agent is made
with is kept by Ray's head and shown by its tools: secrets come later, in messages.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import subprocess
import sys
from contextlib import suppress
from typing import Any

#: Longest state that a warden tells, in bytes.
_LIMIT = 16 * 2**20
#: Seconds after which a watcher is answered although nothing changed: one that died is not kept for ever.
_WATCH_SECONDS = 60.0
#: Seconds for a warden to end after its last word.
_END_SECONDS = 10.0
#: Variables that Ray sets for its workers, which are not for jobs.
_RAYS_OWN = ("OMP_NUM_THREADS", "PYTHONBREAKPOINT", "CUDA_VISIBLE_DEVICES", "PYTHONUNBUFFERED", "SPT_NOENV")


class Superseded(Exception):
    """Another process of the service leads now."""


class NodeAgent:
    """One node. All calls are idempotent; each says under which lease it is made."""

    def __init__(self, program: str, mark_variable: str, mark: str, log: str) -> None:
        """``program``: folder with Trainshed's package; ``mark``: carried by every process of the node; ``log``: where
        the warden writes what goes wrong.
        """
        self._program, self._mark, self._log = program, {mark_variable: mark}, log
        self._leader: tuple[str, int] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._changed = asyncio.Condition()
        self._version = 0
        self._state: dict[str, Any] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._leaving = False

    async def gpus(self) -> list[str]:
        """The GPUs that Ray gave to the agent: all of the node's."""
        import ray

        return [str(number) for number in ray.get_runtime_context().get_accelerator_ids().get("GPU", [])]

    async def free_ports(self, address: str, candidates: list[int]) -> list[int]:
        """Those on which nobody listens at this address."""
        free = []
        for port in candidates:
            with socket.socket() as trial, suppress(OSError):
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind((address, port))
                free.append(port)
        return free

    async def begin(
        self, leader: tuple[str, int] | None, config: dict[str, Any], secret: dict[str, Any] | None
    ) -> bool:
        """Start the node, unless it is there. ``secret`` holds the secrets of its setup; without it only a node that is
        there will do. False when it is not there, and when it was told to leave already.
        """
        self._admit(leader)
        if self._writer is not None or secret is None or self._leaving:
            return self._writer is not None
        ours, theirs = socket.socketpair()
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("RAY_") and name not in _RAYS_OWN
        }
        entry = (
            f"import sys; sys.path.insert(0, {self._program!r}); "
            f"from trainshed.engines.ray import warden; warden.start({theirs.fileno()})"
        )
        os.makedirs(os.path.dirname(self._log), exist_ok=True)  # noqa: PTH103, PTH120
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            starter = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
                [sys.executable, "-P", "-c", entry],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={**environment, **self._mark},
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        finally:
            os.close(log)
            theirs.close()
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=_LIMIT)
        self._reading = asyncio.create_task(self._read(reader))
        # It goes on as a process that is not the agent's child.
        asyncio.get_running_loop().run_in_executor(None, starter.wait)
        self._send(config)
        self._send({"setup": secret})
        return True

    async def tell(self, leader: tuple[str, int] | None, message: dict[str, Any]) -> None:
        """Pass a message on to the warden."""
        self._admit(leader)
        self._send(message)

    async def watch(self, seen: int) -> tuple[int, dict[str, Any] | None]:
        """The warden's state and its number, once that is not ``seen``. With ``over`` when the warden has ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_WATCH_SECONDS), self._changed:
                await self._changed.wait_for(lambda: self._version != seen)
        return self._version, self._state

    async def leave(self, leader: tuple[str, int] | None) -> None:
        """End the node; returns when nothing of it lives."""
        self._admit(leader)
        self._leaving = True
        self._send({"leave": True})
        if self._reading is not None:
            await asyncio.wait([self._reading])

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while line := await reader.readline():
                await self._set(json.loads(line))
        state = self._state or {}
        await asyncio.get_running_loop().run_in_executor(None, _wait_for_end, state.get("pid", 0))
        await self._set({**state, "over": True})

    async def _set(self, state: dict[str, Any]) -> None:
        async with self._changed:
            self._version += 1
            self._state = state
            self._changed.notify_all()

    def _send(self, message: dict[str, Any]) -> None:
        if self._writer is not None:
            self._writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def _admit(self, leader: tuple[str, int] | None) -> None:
        """Of a lower token of the same database nothing is carried out."""
        known = self._leader
        if leader is not None:
            if known is not None and known[0] == leader[0] and leader[1] < known[1]:
                raise Superseded("another process of the service leads now")
            self._leader = leader


def _wait_for_end(pid: int) -> None:
    """Of a process whose line was cut: it has little left to do."""
    with suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            select.select([descriptor], [], [], _END_SECONDS)
        finally:
            os.close(descriptor)
