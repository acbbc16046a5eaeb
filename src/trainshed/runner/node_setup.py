"""nodeSetup where no process of the service lives on a node between jobs: each attempt brings what it needs of it.

The cluster's volumes are mounted before the job's own, in a mount namespace of the attempt. The setup task runs once a
node, a cluster's definition and a start of the machine: a mark in the node's own directory says that it has succeeded,
and a lock keeps the attempts of a node from running it at one time.

Mount commands and setup task run below a process of their own, the *holder*, which lives as long as the attempt. What
they leave in the background ends with it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import select
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.runner import isolation
from trainshed.runner.commands import run_to_end
from trainshed.runner.events import EventLoop
from trainshed.runner.ground import reset_child
from trainshed.runner.inherited import handed_on
from trainshed.runner.setup_task import UNMOUNT_SECONDS, mount_by_command, run_setup_task, setup_environment
from trainshed.runner.spec import NodeSetup
from trainshed.runner.volume_holding import fork_away
from trainshed.volumes import VolumeError, unmanaged

_LIMIT = 1 << 16
_NEXT = "the next attempt on the node runs it again: mend what it needs, or make the cluster anew with another task"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be done on one node."""

    setup: NodeSetup
    #: The node's name.
    node: str
    mount_root: str
    #: Values of the setup task's secret variables by name.
    secrets: Mapping[str, str]


class Preparing:
    """The holder, seen from the attempt's event loop."""

    def __init__(self, wanted: Wanted, loop: EventLoop) -> None:
        self._wanted = wanted
        self._loop = loop
        self._line, theirs = socket.socketpair()
        self._pid = fork_away(lambda: _hold(wanted, theirs))
        theirs.close()
        self._buffer = b""
        self._told: list[Reason | None] = []
        self._ended = False
        loop.watch(self._line, self._read)

    def wait(self) -> Reason | None:
        """Until the node is prepared; why it is not, or None. What the loop's handlers raise passes through."""
        self._loop.run_until(lambda: bool(self._told))
        return self._told[0]

    def end(self) -> None:
        """Unmount, and end what is left of it. A second call does nothing."""
        if self._line.fileno() < 0:
            return
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_WR)
        count = len(self._wanted.setup.volumes)
        if not self._loop.run_until(lambda: self._ended, UNMOUNT_SECONDS * (count + 1)):
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        self._loop.unwatch(self._line)
        self._line.close()

    def _read(self) -> None:
        data = self._line.recv(_LIMIT)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            told = json.loads(line)["prepared"]
            self._told.append(Reason.from_json(told) if told else None)
        if not data:
            self._loop.unwatch(self._line)
            self._ended = True
            if not self._told:
                self._told.append(_killed(self._wanted.node))


def missing_for_volumes() -> str:
    """What hinders this process from a mount namespace of its own; nothing when it is in one."""
    if os.environ.get(isolation.ISOLATION_VARIABLE) == "none":
        return f"{isolation.ISOLATION_VARIABLE}=none forbids namespaces"
    if os.geteuid() != 0:
        return "the service's user is not root there"
    try:
        isolation.enter_own_mounts()
    except OSError as error:
        return f"a mount namespace cannot be made: {error.strerror}"
    return ""


def _killed(node: str) -> Reason:
    return Reason(ReasonCode.SETUP_TASK_FAILED, f"The setup of node {node} was killed before it ended.", {"node": node})


def _hold(wanted: Wanted, line: socket.socket) -> None:
    """The holder's life: have a child prepare the node, say ``{"prepared": reason or null}``, and wait for the end."""
    reset_child()
    os.closerange(3, line.fileno())
    os.closerange(line.fileno() + 1, 1 << 20)
    os.chdir("/")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
        # Whoever ends the attempt tells the runner too. Not ignored: what is started from here shall not be deaf.
        signal.signal(number, lambda _number, _frame: None)
    everything = isolation.Subreaper("")
    environment = handed_on(os.environ)
    base = setup_environment(environment, wanted.mount_root)
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            os.close(reading)
            reason = _prepare(wanted, base)
            os.write(writing, json.dumps({"prepared": reason.to_json() if reason else None}).encode())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading, line.fileno()], [], [])
        if line.fileno() not in ready:
            with open(reading, "rb") as answer:
                said = answer.read() or json.dumps({"prepared": _killed(wanted.node).to_json()}).encode()
            line.sendall(said + b"\n")
            line.recv(1)
            _unmount(wanted, base)
    finally:
        everything.kill()


def _prepare(wanted: Wanted, base: Mapping[str, str]) -> Reason | None:
    setup = wanted.setup
    try:
        mount_by_command(setup.volumes, wanted.mount_root, base)
    except VolumeError as error:
        return error.reason
    except Exception as error:
        return _unforeseen(wanted.node, error)
    if not setup.task:
        return None
    try:
        return _once(wanted, base, setup.task)
    except Exception as error:
        return _unforeseen(wanted.node, error)


def _unforeseen(node: str, error: Exception) -> Reason:
    text = f"The setup of node {node} met an error: {type(error).__name__}: {error}."
    return Reason(ReasonCode.SETUP_TASK_FAILED, text, {"node": node})


def _once(wanted: Wanted, base: Mapping[str, str], task: Mapping[str, Any]) -> Reason | None:
    """The setup task, unless it has succeeded here already. Raises OSError."""
    setup = wanted.setup
    folder = Path(setup.folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = f"{wanted.node}-{setup.cluster}-"
    mark = folder / (names + _digest(setup))
    started = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    lock = os.open(folder / f"{names}lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if mark.read_text() == started:
                return None
        for former in folder.glob(f"{names}*"):
            if not former.name.endswith("-lock"):
                former.unlink()
        reason = run_setup_task(wanted.node, task, setup.suffix, wanted.secrets, base, what_next=_NEXT)
        if reason is None:
            new = folder / f".{mark.name}.new"
            new.write_text(started)
            new.rename(mark)
        return reason
    finally:
        os.close(lock)


def _digest(setup: NodeSetup) -> str:
    """Of what the task is. Secrets' values are not in it: nobody shall guess them from a name."""
    whole = json.dumps([dict(setup.task or {}), setup.suffix], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def _unmount(wanted: Wanted, base: Mapping[str, str]) -> None:
    """What cannot be unmounted ends with the attempt's mount namespace."""
    with suppress(VolumeError):
        for volume in reversed(unmanaged(wanted.setup.volumes, wanted.mount_root)):
            with suppress(VolumeError):
                volume.unmount(lambda command: run_to_end(command, base, UNMOUNT_SECONDS))
