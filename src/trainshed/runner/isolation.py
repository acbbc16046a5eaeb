"""Makes sure that nothing of an attempt outlives it: a PID namespace where permitted, a kill loop elsewhere.

With namespaces, the runner stays outside and its children are inside. The first of them is the *keeper*, PID 1 of the
namespace: it mounts a fresh ``/proc``, adopts and reaps orphans, passes SIGTERM on to everybody, and dies with the
runner (parent-death signal). When the keeper dies, the kernel kills every process of the namespace, the detached ones
included (pid_namespaces(7)). When somebody else kills the keeper, the attempt is lost (``is_broken``).

A job that runs as a user of its own sees the machine through a *view* (see ``view``): then the keeper alone is in the
mount namespace of the job, and the runner reaches into it (see ``hands``).

Without namespaces, the runner is a child subreaper: whoever detaches becomes its child, and it kills its descendants
until there are none. ``TRAINSHED_ISOLATION=none`` asks for this kind.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from trainshed.runner import linux, warned
from trainshed.runner.descent import descendants, living_parent, signal_each
from trainshed.runner.spec import View

ISOLATION_VARIABLE = "TRAINSHED_ISOLATION"

_READY = b"r"
_EMPTY = b"e"
_TERMINATE = signal.SIGUSR1
_REPORT_EMPTY = signal.SIGUSR2
_CLEAR = signal.SIGHUP
_WARN = signal.SIGURG
_CLEARED = b"c"
#: Seconds within which a namespace is empty after SIGKILL, or is given up; and between two looks.
_CLEAR_PATIENCE = 5.0
_CLEAR_PAUSE = 0.002
#: Seconds within which the keeper says how many it has warned; and of how many trees it is told (unix(7): SCM_MAX_FD).
_WARN_PATIENCE = 5.0
_WARN_AT_ONCE = 250


class Isolation(Protocol):
    """What the runner needs of either kind."""

    #: Whether the attempt has a mount namespace of its own.
    own_mounts: bool
    #: What is in force, for the execution log.
    description: str
    #: Signal that the kernel sends to the attempt's processes when the runner dies; 0 when the namespace sees to it.
    child_death_signal: int
    #: Ranks that the engine started (``joining``): who keeps each of them, outside -> its process.
    joined: Mapping[int, int]

    @property
    def line(self) -> int | None:
        """A descriptor that becomes readable when it breaks; None where there is nothing that could."""
        ...

    def is_broken(self) -> bool:
        """Whether somebody else has ended what holds the attempt's processes, and so all of them."""
        ...

    def terminate(self, spared: Iterable[int] = ()) -> None:
        """SIGTERM to every process of the attempt, but to the caller's children ``spared`` and what is below them."""
        ...

    def warn(self, number: int, roots: Iterable[int], wrapper: str) -> int:
        """The warning signal to who takes it below the caller's children ``roots``, or below the rank wrappers of this
        path where there are any (see ``warned``). How many got it.
        """
        ...

    def watch_empty(self) -> int | None:
        """Ask to be told when no process is left: a descriptor that becomes readable, or None when unknown."""
        ...

    def kill(self) -> None:
        """SIGKILL to every process; returns when none is left. Children are reaped."""
        ...

    def clear(self, children: Iterable[int]) -> bool:
        """SIGKILL to every process, as ``kill``, but so that another attempt may use the same isolation.

        ``children`` are the caller's own that it has not reaped. False when that cannot be had: then ``kill``.
        """
        ...


def permitted(host_name: str) -> str:
    """Why namespaces are not to be had here; empty when they are.

    Tried out in a child, since a half-made set of namespaces cannot be left again.
    """
    if os.environ.get(ISOLATION_VARIABLE) == "none":
        return f"{ISOLATION_VARIABLE}=none"
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _enter(host_name)
            PidNamespace().kill()
        except BaseException as error:
            os.write(writing, (str(error) or type(error).__name__).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        why_not = answer.read().decode()
    os.waitpid(child, 0)
    return why_not


def isolate(host_name: str, why_not: str) -> Isolation:
    """Enter new namespaces, or become a subreaper where ``permitted`` said why not.

    The caller has one thread and no children. Afterwards its children are born inside.
    """
    if why_not:
        return Subreaper(why_not)
    _enter(host_name)
    return PidNamespace()


def isolate_stranger(host_name: str, view: View, build: Callable[[], None]) -> PidNamespace:
    """As ``isolate`` for a job with a view of its own, which ``build`` makes; the caller stays outside of the view.

    Raises OSError where that is not permitted.
    """
    flags = linux.CLONE_NEWPID | linux.CLONE_NEWIPC
    rename = bool(host_name) and socket.gethostname() != host_name
    linux.unshare(flags | (linux.CLONE_NEWUTS if rename else 0))
    if rename:
        linux.set_host_name(host_name)
    return PidNamespace(view, build)


def enter_own_mounts() -> None:
    """Have a mount namespace of the calling process's own, whose mounts nobody else sees. Raises OSError."""
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)


def _enter(host_name: str) -> None:
    """New mount and PID namespaces, through a user namespace where root is needed.

    The host name is set, in a UTS namespace, when it is not this node's already.
    """
    flags = linux.CLONE_NEWNS | linux.CLONE_NEWPID
    rename = bool(host_name) and socket.gethostname() != host_name
    if rename:
        flags |= linux.CLONE_NEWUTS
    try:
        linux.unshare(flags)
    except PermissionError:
        uid, gid = os.geteuid(), os.getegid()
        linux.unshare(linux.CLONE_NEWUSER | flags)
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    if rename:
        linux.set_host_name(host_name)


class PidNamespace:
    """The attempt's processes live in a PID namespace."""

    own_mounts = True
    description = "PID and mount namespaces"
    child_death_signal = 0

    def __init__(self, view: View | None = None, build: Callable[[], None] | None = None) -> None:
        """With a view, ``build`` makes it in the keeper, in a mount namespace of the keeper's own. Raises OSError."""
        self.view = view
        self.joined: Mapping[int, int] = {}
        self._channel, theirs = socket.socketpair()
        self._keeper = os.fork()
        if self._keeper == 0:
            _keep(theirs, build)
        theirs.close()
        answer = self._channel.recv(1024)
        if answer != _READY:
            os.waitpid(self._keeper, 0)
            why = answer.decode(errors="replace") or "the keeper died"
            raise OSError(0, why if build else f"a fresh /proc is not permitted here ({why})")
        self._mounts: bytes | None = None
        self._broken = False
        #: The mount namespace that the view is in, as an open descriptor; -1 when it is the runner's own.
        self.mounts = os.open(f"/proc/{self._keeper}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC) if build else -1
        if build:
            self.description = "PID, IPC and mount namespaces, a user of its own"

    @property
    def line(self) -> int:
        """To the keeper."""
        return self._channel.fileno()

    def is_broken(self) -> bool:
        """Whether the keeper has ended.

        The kernel closes what it had open before it kills the processes of its namespace (do_exit, exit_notify), so
        this is known by the time at which any of them is seen to have ended. Until then its number is no other's.
        """
        # Not select, which knows no descriptor beyond 1023: a gang of many nodes has more.
        poll = select.poll()
        try:
            poll.register(self._channel, select.POLLIN)
            # An answer that nobody waits for any more may be in the way.
            while not self._broken and poll.poll(0):
                self._broken = not self._channel.recv(64)
        except (OSError, ValueError):  # Closed, by whoever killed it.
            self._broken = True
        return self._broken

    @property
    def descriptors(self) -> set[int]:
        """The line to the keeper and the view, for those who close everything else."""
        return {self._channel.fileno(), self.mounts} - {-1}

    def remember_mounts(self) -> None:
        """What is mounted now is what a later attempt must find again for ``clear`` to succeed."""
        self._mounts = linux.mount_info()

    def terminate(self, spared: Iterable[int] = ()) -> None:
        """SIGTERM to every process of the namespace but the keeper."""
        if spared := list(spared):
            self._ask({"number": signal.SIGTERM, "but": True}, spared)
            return
        self._signal(_TERMINATE)

    def warn(self, number: int, roots: Iterable[int], wrapper: str) -> int:
        """The keeper does it, to whom alone these processes have the numbers of the namespace."""
        return self._ask({"number": number, "wrapper": wrapper}, roots)

    def _ask(self, what: Mapping[str, Any], roots: Iterable[int]) -> int:
        trees: list[int] = []
        try:
            for pid in list(roots)[:_WARN_AT_ONCE]:
                with suppress(ProcessLookupError):
                    trees.append(os.pidfd_open(pid))
            self._channel.settimeout(_WARN_PATIENCE)
            socket.send_fds(self._channel, [json.dumps(what).encode()], trees)
            self._signal(_WARN)
            return int(self._channel.recv(64) or b"0")
        except (OSError, ValueError):
            return 0
        finally:
            self._channel.settimeout(None)
            for tree in trees:
                os.close(tree)

    def watch_empty(self) -> int | None:
        """Readable once the keeper has no child left; meaningful when the runner's own children have ended."""
        self._signal(_REPORT_EMPTY)
        return self.line

    def kill(self) -> None:
        """Kill the keeper, and with it the namespace. Its end is the proof that the namespace is empty."""
        self._signal(signal.SIGKILL)
        reap_all()
        self._channel.close()
        if self.mounts >= 0:
            os.close(self.mounts)

    def clear(self, children: Iterable[int]) -> bool:
        """The keeper kills all but itself and says so when the kernel knows of no other process in the namespace."""
        try:
            self._signal(_CLEAR)
            for pid in children:
                with suppress(ChildProcessError):
                    os.waitpid(pid, 0)
            self._channel.settimeout(_CLEAR_PATIENCE)
            while not (answer := self._channel.recv(64)).endswith(_CLEARED):
                if not answer:
                    return False
            # In a view nobody but the machine's root can have changed what is mounted.
            return self.view is not None or (self._mounts is not None and linux.mount_info() == self._mounts)
        except (OSError, TimeoutError):
            return False

    def _signal(self, number: int) -> None:
        """To the keeper: whoever has its number after its end gets none."""
        if not self.is_broken():
            os.kill(self._keeper, number)


def _keep(channel: socket.socket, build: Callable[[], None] | None) -> None:
    """The keeper's life. Never returns."""
    try:
        linux.set_parent_death_signal(signal.SIGKILL)
        watched = {signal.SIGCHLD, _TERMINATE, _REPORT_EMPTY, _CLEAR, _WARN}
        signal.pthread_sigmask(signal.SIG_SETMASK, watched)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        fd = channel.fileno()
        proc = None
        if build is not None:
            sys.meta_path.clear()  # from here on the files may be a job's
            try:
                build()
            except OSError as error:
                os.write(fd, f"{error.strerror}: {error.filename or ''}".encode())
                os._exit(1)
            proc = "hidepid=2"
        os.closerange(0, fd)
        os.closerange(fd + 1, 1 << 20)
        os.chdir("/")
        try:
            linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC, proc)
        except OSError as error:
            os.write(fd, str(error.strerror).encode())
            os._exit(1)
        _begin_pids_anywhere()
        os.write(fd, _READY)
        report = False
        while True:
            number = signal.sigwait(watched)
            if number == _TERMINATE:
                with suppress(ProcessLookupError):
                    os.kill(-1, signal.SIGTERM)
            elif number == _REPORT_EMPTY:
                report = True
            elif number == _WARN:
                _warn(channel)
            elif number == _CLEAR:
                _clear_namespace()
                report = False
                os.write(fd, _CLEARED)
            if not _reap_ended() and report:
                os.write(fd, _EMPTY)
                report = False
    finally:
        os._exit(1)


def _warn(channel: socket.socket) -> None:
    """In the keeper: what the runner asks for; nothing when somebody else sent the signal."""
    with suppress(OSError, ValueError):
        asked, trees, _, _ = socket.recv_fds(
            channel, 4096, _WARN_AT_ONCE, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        )
        what = json.loads(asked)
        try:
            roots = [pid for tree in trees if (pid := _number_here(tree)) > 0]
            if what.get("but"):
                sent = warned.tell_others(what["number"], roots, living_parent)
            else:
                sent = warned.warn(what["number"], roots, what["wrapper"], living_parent)
        finally:
            for tree in trees:
                os.close(tree)
        channel.send(str(sent).encode())


def _number_here(pidfd: int) -> int:
    """Of the process that the descriptor is of, in the namespace of ``/proc``; -1 when it has ended (pidfd_open(2))."""
    with open(f"/proc/self/fdinfo/{pidfd}") as facts:
        return next((int(line.split()[1]) for line in facts if line.startswith("Pid:")), -1)


def _begin_pids_anywhere() -> None:
    """Let the namespace's PIDs begin at a number of its own, where that is permitted (pid_namespaces(7)).

    Open MPI names its files in ``/tmp`` and ``/dev/shm`` by host name and PID. Nodes can have one host name (clusters
    of one name in two workspaces), and the same few PIDs in each would make their jobs take each other's files.
    """
    with suppress(OSError):
        file = os.open("/proc/sys/kernel/ns_last_pid", os.O_WRONLY | os.O_CLOEXEC)
        # Below the smallest usual pid_max, 32768; above what the kernel keeps for the first ones.
        os.write(file, str(300 + int.from_bytes(os.urandom(4), "big") % 30_000).encode())
        os.close(file)


def _clear_namespace() -> None:
    """Kill every other process until there is none, not even one that waits to be reaped (kill(2) with pid -1)."""
    while True:
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            return
        if not _reap_ended():
            signal.sigtimedwait({signal.SIGCHLD}, _CLEAR_PAUSE)


def _reap_ended() -> bool:
    """Reap what has ended; whether any child is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def reap_all() -> None:
    """Wait for every child to end."""
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


class Subreaper:
    """The attempt's processes are the runner's descendants, found by walking ``/proc``."""

    own_mounts = False
    child_death_signal = int(signal.SIGKILL)
    line = None

    def __init__(self, why_not: str) -> None:
        self.description = f"child subreaper, no PID namespace: {why_not}"
        self.joined: Mapping[int, int] = {}
        linux.become_subreaper()

    def is_broken(self) -> bool:
        """Never: what holds the processes is the runner itself."""
        return False

    def terminate(self, spared: Iterable[int] = ()) -> None:
        """SIGTERM to every descendant."""
        left_out = {pid for root in spared for pid in (root, *descendants(root))}
        signal_each(set(self._processes()) - left_out, signal.SIGTERM)

    def warn(self, number: int, roots: Iterable[int], wrapper: str) -> int:
        """To whom it may concern among the descendants."""
        return warned.warn(number, roots, wrapper, living_parent, set(self._processes()))

    def watch_empty(self) -> int | None:
        """Unknown: every detached process comes back as the runner's own child, which the runner watches anyway."""
        return None

    def kill(self) -> None:
        """Stop the descendants, so that none forks on, and kill them, until there are none."""
        while True:
            found = self._processes()
            signal_each(found, signal.SIGSTOP)
            signal_each(set(self._processes()) | set(found), signal.SIGKILL)
            try:
                os.waitpid(-1, 0)
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                if not self._joined():
                    return
                time.sleep(_CLEAR_PAUSE)

    def _processes(self) -> list[int]:
        """Descendants, and the ranks that others keep with theirs."""
        return descendants(os.getpid()) + self._joined()

    def _joined(self) -> list[int]:
        found = [rank for rank in self.joined.values() if living_parent(rank) is not None]
        return found + [pid for keeper in self.joined for pid in descendants(keeper)]

    def clear(self, children: Iterable[int]) -> bool:
        """Nothing is kept that a later attempt could meet."""
        self.kill()
        return True
