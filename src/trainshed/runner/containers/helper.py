"""Has a child do what takes long or needs namespaces of its own, while the runner's loop goes on."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

from trainshed.runner import linux
from trainshed.runner.containers.errors import ContainerError
from trainshed.runner.ground import reset_child
from trainshed.runner.node import Node

#: What the child found out, and descriptors that it opened for the runner.
Found = tuple[dict[str, Any], list[int]]
_MOST_DESCRIPTORS = 8
_CHUNK = 1 << 16


def ask(node: Node, act: Callable[[], Found]) -> Found:
    """Its answer. Raises ContainerError as the child did, AttemptEnded when the attempt ends meanwhile.

    The child is born inside the attempt's isolation and ends with it.
    """
    assert node.isolation is not None
    death_signal = node.isolation.child_death_signal
    ours, theirs = socket.socketpair()
    runner = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            reset_child()
            os.setsid()
            if death_signal:
                linux.set_parent_death_signal(death_signal)
                if os.getppid() != runner:
                    os._exit(1)
            _tell(theirs, act)
        finally:
            os._exit(0)
    theirs.close()
    return _hear(node, ours)


def wait_for(act: Callable[[], Found]) -> dict[str, Any]:
    """The same for a caller that has nothing else to do, without descriptors. Raises ContainerError."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            linux.set_parent_death_signal(signal.SIGKILL)
            _tell(theirs, act)
        finally:
            os._exit(0)
    theirs.close()
    told = bytearray()
    with ours:
        while data := ours.recv(_CHUNK):
            told.extend(data)
    os.waitpid(pid, 0)
    return _read(told)


def _tell(line: socket.socket, act: Callable[[], Found]) -> None:
    descriptors: list[int] = []
    try:
        found, descriptors = act()
    except ContainerError as error:
        found = {"error": [error.what, error.way_out, error.said]}
    except OSError as error:
        words = f"{error.strerror or error} {error.filename or ''}".strip()
        found = {"error": ["the container cannot be built", "See `trainshed doctor` on the node.", words]}
    text = json.dumps(found).encode()
    socket.send_fds(line, [text[:1]], descriptors)
    line.sendall(text[1:])


def _hear(node: Node, line: socket.socket) -> Found:
    told = bytearray()
    descriptors: list[int] = []
    ended: list[bool] = []

    def read() -> None:
        data, received, _, _ = socket.recv_fds(line, _CHUNK, _MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        told.extend(data)
        descriptors.extend(received)
        if not data:
            ended.append(True)

    node.loop.watch(line, read)
    try:
        node.loop.run_until(lambda: bool(ended))
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    finally:
        node.loop.unwatch(line)
        line.close()
    return _read(told), descriptors


def _read(told: bytearray) -> dict[str, Any]:
    if not told:
        raise ContainerError("what builds the container was killed", "Try again; look at the node's memory.")
    found: dict[str, Any] = json.loads(told)
    if "error" in found:
        raise ContainerError(*found["error"])
    return found
