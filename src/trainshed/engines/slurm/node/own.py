"""What a job of Slurm's has to itself on one node: a folder, and the runner that carries out its attempts."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from trainshed.runner import isolation
from trainshed.runner import main as runner
from trainshed.runner.serving import serve
from trainshed.runner.spec import RunnerSpec

#: Seconds in which a runner kills everything once nobody wants anything of it any more.
KILL_SECONDS = 15.0
_LOCK = "lock"


class Own:
    """Made once for all attempts that a job carries out on this node."""

    def __init__(self, node_directory: str, slurm: dict[str, str]) -> None:
        """Make the folder. Raises OSError, PermissionError for a foreign folder.

        It has one path on all nodes: launchers of MPI start on each node in the directory that they have on the first.
        Only of nodes that share a machine's directory one has the name, and the others add their own to it.
        """
        name = f"{slurm['SLURM_JOB_ID']}-{slurm.get('SLURM_RESTART_COUNT') or 0}"
        self.folder = own_directory(node_directory, slurm) / name
        try:
            self._lock = take_own(self.folder)
        except FileExistsError:
            self.folder = self.folder.with_name(f"{name}-{slurm.get('SLURMD_NODENAME', 'node')}")
            self._lock = take_own(self.folder)
        #: The runner's process, and the line to it; 0 and None while there is none.
        self.runner = 0
        self.line: socket.socket | None = None

    def run(self, spec: RunnerSpec, data: dict[str, Any], secret: dict[str, Any]) -> None:
        """Let the runner that is there carry this out, or a new one. ``data``: the same as ``spec``, as JSON."""
        goes_on = len(spec.hosts) == 1 and spec.setup is None
        if self.runner and not goes_on:
            self.end_runner()
        if not self.runner:
            self._fork(spec, secret, goes_on)
        if goes_on:
            self.send(
                {"run": data, **{name: secret.get(name) or {} for name in ("secrets", "private")}, "token": spec.token}
            )

    def send(self, message: dict[str, Any]) -> None:
        """To the runner. Its end is noticed elsewhere."""
        if self.line is not None:
            with suppress(OSError):
                self.line.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def hang_up(self) -> None:
        """The runner kills everything at once and ends, or ends."""
        if self.line is not None:
            self.line.close()
            self.line = None

    def reap(self) -> int | None:
        """How the runner ended, as a shell says it; None while it lives."""
        pid, status = os.waitpid(self.runner, os.WNOHANG)
        if pid == 0:
            return None
        self.runner = 0
        self.hang_up()
        code = os.waitstatus_to_exitcode(status)
        return 128 - code if code < 0 else code

    def end_runner(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """One that has nothing to do, or whose work nobody wants."""
        self.hang_up()
        until = time.monotonic() + KILL_SECONDS
        while self.runner and self.reap() is None:
            if time.monotonic() > until:
                os.kill(self.runner, signal.SIGKILL)
                until = float("inf")
            meanwhile()
            time.sleep(0.005)

    def close(self) -> None:
        """End the runner, and remove the folder."""
        self.end_runner()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    def _fork(self, spec: RunnerSpec, secret: dict[str, Any], goes_on: bool) -> None:
        ours, theirs = socket.socketpair()
        _find_out_about_isolation(spec.hosts[spec.node_index].name)
        self.runner = os.fork()
        if self.runner == 0:
            try:
                # Signals of a terminal's kind, sent to the group, are not for it; Slurm's reach it all the same.
                os.setsid()
                ours.close()
                signal.set_wakeup_fd(-1)
                with suppress(OSError):
                    # Volumes that a killed runner leaves are seen by nobody then who removes directories here.
                    isolation.enter_own_mounts()
                if goes_on:
                    serve(theirs.detach())
                else:
                    secrets = secret.get("secrets") or {}
                    runner.run(spec, secrets, theirs.detach(), secret.get("private"), secret.get("setup_secrets"))
            finally:
                os._exit(0)
        theirs.close()
        self.line = ours


@cache
def _find_out_about_isolation(host_name: str) -> None:
    """Once, for all runners that this process forks."""
    runner.warm_up(host_name)
    # A collection in one of them would copy what they share.
    gc.freeze()
    gc.enable()


def own_directory(node_directory: str, slurm: dict[str, str]) -> Path:
    """The user's folder in the engine's ``node_directory``, in which ``%n`` stands for the node's name."""
    return Path(node_directory.replace("%n", slurm.get("SLURMD_NODENAME", "node")), f"trainshed-{os.geteuid()}")


def take_own(folder: Path) -> int:
    """Make the folder, and remove what killed jobs left there and beside it: a lock says which of them live.

    Returns the descriptor of the own lock. Raises OSError, PermissionError for a foreign folder.
    """
    above = folder.parent.parent
    if not above.is_dir():
        raise FileNotFoundError(2, "the engine's node_directory is not there", str(above))
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    status = folder.parent.lstat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise PermissionError(1, "must belong to this user and be closed to others", str(folder.parent))
    with _alone(folder.parent):
        if not _remove_unless_alive(folder):
            what = "another node uses it: give each node a node_directory of its own, or put %n in its name"
            raise FileExistsError(17, what, str(folder))
        folder.mkdir(mode=0o700)
        own = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for other in folder.parent.iterdir():
            if other != folder and (other / _LOCK).exists():
                _remove_unless_alive(other)
    return own


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else of the machine takes or removes folders in there meanwhile."""
    descriptor = os.open(folder / f".{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_unless_alive(folder: Path) -> bool:
    """Whether nobody has locked it; then it is removed."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        shutil.rmtree(folder, ignore_errors=True)
        return True
    finally:
        os.close(descriptor)
