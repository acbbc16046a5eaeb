"""Starts ``python -m trainshed`` without its imports: forked from a process that has them already.

The modules are the program's own, entered where the interpreter would enter them; only loading them, which is two
thirds of a start, is shared. One parent serves a test process and ends with it.
"""

from __future__ import annotations

import atexit
import functools
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

#: Bytes of a request: arguments, environment, folder.
_LIMIT = 1 << 20
#: Seconds that the parent may take to load the program and to fork.
_PATIENCE = 60.0


class WarmChild:
    """A started program, as ``subprocess.Popen`` shows one."""

    def __init__(self, pid: int, ending: int) -> None:
        """``ending``: gives the exit code, then ends."""
        self.pid = pid
        self.returncode: int | None = None
        self._ending = os.fdopen(ending, "rb", buffering=0)

    def poll(self) -> int | None:
        """The exit code (negative: the signal), or None while it runs."""
        return self._look(0)

    def wait(self, timeout: float) -> int:
        """Its exit code. Raises TimeoutExpired."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("trainshed", timeout)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look(self, seconds: float) -> int | None:
        if self.returncode is None and select.select([self._ending], [], [], seconds)[0]:
            told = self._ending.read()
            assert told, "the warm parent has ended"
            self.returncode = int(told)
            self._ending.close()
        return self.returncode


class WarmParent:
    """The process with the program loaded, and the way to it."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(_PATIENCE)
        with theirs:
            command = [sys.executable, "-m", __name__, str(theirs.fileno())]
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, cwd=Path(__file__).parents[2]
            )
        atexit.register(self.close)

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], stderr: BinaryIO) -> WarmChild:
        """Start ``trainshed`` with these arguments in this process's folder, with its standard output."""
        request = json.dumps([list(arguments), dict(environment), str(Path.cwd())]).encode()
        assert len(request) <= _LIMIT
        ending, told = os.pipe()
        try:
            socket.send_fds(self._control, [request], [1, stderr.fileno(), told])
        finally:
            os.close(told)
        return WarmChild(int(self._control.recv(32)), ending)

    def close(self) -> None:
        """End it. What it started goes on."""
        self._control.close()
        self._process.wait(_PATIENCE)


@functools.cache
def warm_parent() -> WarmParent:
    """This process's."""
    return WarmParent()


@dataclass(frozen=True, slots=True)
class _Child:
    """In the new process: what it is to become."""

    arguments: list[str]


def _serve(control: socket.socket) -> _Child | None:
    """Fork on request and tell how each child ends. Returns in each child, and without a value at the end."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    children: dict[int, tuple[int, int]] = {}
    while True:
        for descriptor, _ in poll.poll():
            if descriptor in children:
                pid, told = children.pop(descriptor)
                poll.unregister(descriptor)
                os.write(told, str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
                os.close(told)
                os.close(descriptor)
                continue
            request, descriptors, _, _ = socket.recv_fds(control, _LIMIT, 3)
            if not request:
                return None
            arguments, environment, folder = json.loads(request)
            stdout, stderr, told = descriptors
            assert len(list(Path("/proc/self/task").iterdir())) == 1, "a process with threads must not fork"
            pid = os.fork()
            if pid == 0:
                os.dup2(stdout, 1)
                os.dup2(stderr, 2)
                os.closerange(3, os.sysconf("SC_OPEN_MAX"))
                os.chdir(folder)
                os.environ.clear()
                os.environ.update(environment)
                return _Child(arguments)
            os.close(stdout)
            os.close(stderr)
            control.send(str(pid).encode())
            ended = os.pidfd_open(pid)
            children[ended] = (pid, told)
            poll.register(ended, select.POLLIN)


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _load()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        child = _serve(control)
        if child is not None:
            # Its descriptor is closed already.
            control.detach()
    if child is not None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["trainshed", *child.arguments]
        runpy.run_module("trainshed", run_name="__main__", alter_sys=True)


def _load() -> None:
    """Everything that ``trainshed serve`` imports before it listens."""
    from importlib import import_module

    for name in (
        "trainshed.cli.main",
        "trainshed.cli.commands.serve",
        "trainshed.server",
        "sqlalchemy.dialects.sqlite.pysqlite",
        "uvicorn.protocols.http.httptools_impl",
        "uvicorn.lifespan.off",
    ):
        import_module(name)
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    _main()
