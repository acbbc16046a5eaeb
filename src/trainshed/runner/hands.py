"""Who touches a job's files and starts its processes: the service's own user, or the job's.

Root never follows a path that a job controls. Where jobs have a user of their own, directories are made, files opened
and programs started with that user's rights and in the job's view of the machine:

- ``Worn``: the runner itself puts the job's user on for the length of a system call or two, which costs microseconds.
- ``Forked``: in a child that gives its rights up for good, for jobs in a user namespace, which nobody can leave.

While they are worn no module can be imported: the view may show files that are not the machine's.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from trainshed.resources.users import JobUser
from trainshed.runner import linux, trees
from trainshed.runner.processes import DEFAULT_SIGNALS, bash_arguments, open_log, spawn, start_bash

#: Descriptors of standard output and error.
Files = tuple[int, int]


class Hands(Protocol):
    """What can be done in the job's place. All raise OSError."""

    def make_directory(self, path: str) -> None:
        """With all above it; fine when it is there."""
        ...

    def open_log(self, path: str) -> int:
        """A descriptor that appends to the file, which is made if need be."""
        ...

    def create(self, path: str, mode: int) -> int:
        """A descriptor of a new, empty file; one that is there is replaced."""
        ...

    def publish(self, path: str, content: bytes) -> None:
        """A file that is there as a whole or not at all."""
        ...

    def make_fifo(self, path: str) -> int:
        """A descriptor, for both directions and never blocking, of a new FIFO."""
        ...

    def start(self, command_line: str, environment: Mapping[str, str], files: Files, folder: str) -> int:
        """Start a bash command line in a folder (empty: the current one); its process id."""
        ...


class Own:
    """The runner's own user. ``death_signal`` goes to what it starts when the runner dies; 0 for none."""

    def __init__(self) -> None:
        self.death_signal = 0

    def make_directory(self, path: str) -> None:
        Path(path).mkdir(parents=True, exist_ok=True)

    def open_log(self, path: str) -> int:
        return open_log(path)

    def create(self, path: str, mode: int) -> int:
        return _create(path, mode)

    def publish(self, path: str, content: bytes) -> None:
        _publish(path, content)

    def make_fifo(self, path: str) -> int:
        return _make_fifo(path)

    def start(self, command_line: str, environment: Mapping[str, str], files: Files, folder: str) -> int:
        if folder:
            os.chdir(folder)
        return start_bash(command_line, environment, *files, death_signal=self.death_signal)


class Worn:
    """The job's user, put on for a moment; ``view`` is the job's mount namespace. The caller has one thread."""

    def __init__(self, user: JobUser, view: int, parent_death_signal: int) -> None:
        self._user = user
        self._view = view
        self._signal = parent_death_signal
        self._permitted = linux.permitted_capabilities()
        self._home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of the way back."""
        os.close(self._home)

    def make_directory(self, path: str) -> None:
        with self._on():
            _make_directories(path)

    def open_log(self, path: str) -> int:
        with self._on():
            return _open_log(path)

    def create(self, path: str, mode: int) -> int:
        with self._on():
            return _create(path, mode)

    def publish(self, path: str, content: bytes) -> None:
        with self._on():
            _publish(path, content)

    def make_fifo(self, path: str) -> int:
        with self._on():
            return _make_fifo(path)

    def empty(self, path: str) -> None:
        """Remove everything below a directory. Raises OSError."""
        with self._on():
            trees.empty(path)

    def start(self, command_line: str, environment: Mapping[str, str], files: Files, folder: str) -> int:
        arguments = bash_arguments(command_line)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with self._on():
                os.chdir(folder or "/")
                return spawn(arguments, environment, null, *files)
        finally:
            os.close(null)

    @contextmanager
    def _on(self) -> Iterator[None]:
        uid, groups = self._user.uid, os.getgroups()
        finders = sys.meta_path[:]
        sys.meta_path.clear()
        try:
            linux.enter_namespace(self._view, linux.CLONE_NEWNS)
            os.setgroups([])
            os.setresgid(uid, uid, 0)
            # Saved ids stay root's, for the way back. A program that is started takes the effective id for the saved
            # one and has no capability (execve(2), capabilities(7)).
            os.setresuid(uid, uid, 0)
            # The death of a runner that has the job's user on must still end the keeper: the kernel asks whether the
            # dying one may send the parent-death signal.
            linux.use_only_kill(self._permitted)
            yield
        finally:
            os.setresuid(0, 0, 0)
            os.setresgid(0, 0, 0)
            os.setgroups(groups)
            linux.enter_namespace(self._home, linux.CLONE_NEWNS)
            sys.meta_path.extend(finders)
            if self._signal:
                # The kernel forgets it whenever the effective user changes.
                linux.set_parent_death_signal(self._signal)


class Forked:
    """The job's user in a user namespace ``users``, in a child for each thing; ``view`` is the mount namespace."""

    def __init__(self, user: JobUser, view: int, users: int) -> None:
        self._user = user
        self._view = view
        self._users = users

    def make_directory(self, path: str) -> None:
        self._ask(lambda: _make_directories(path))

    def open_log(self, path: str) -> int:
        return self._descriptor(lambda: _open_log(path))

    def create(self, path: str, mode: int) -> int:
        return self._descriptor(lambda: _create(path, mode))

    def publish(self, path: str, content: bytes) -> None:
        self._ask(lambda: _publish(path, content))

    def make_fifo(self, path: str) -> int:
        return self._descriptor(lambda: _make_fifo(path))

    def start(self, command_line: str, environment: Mapping[str, str], files: Files, folder: str) -> int:
        arguments = self._arguments(command_line)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        pid = os.fork()
        if pid:
            os.close(null)
            return pid
        try:
            os.setsid()
            self._become()
            os.chdir(folder or "/")
            # Copies first: one of the three may be where another one goes.
            for target, source in enumerate([os.dup(file) for file in (null, *files)]):
                os.dup2(source, target)
            os.closerange(3, 1 << 20)
            os.execve(arguments[0], arguments, environment)
        except OSError as error:
            os.write(2, f"{error.filename or arguments[0]}: {error.strerror}\n".encode())
        finally:
            os._exit(126)

    def _arguments(self, command_line: str) -> tuple[str, ...]:
        return bash_arguments(command_line)

    def _descriptor(self, act: Callable[[], int]) -> int:
        found = self._ask(act)
        assert found is not None
        return found

    def _ask(self, act: Callable[[], int | None]) -> int | None:
        """Have a child do it: its descriptor, if it has one to give."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            _act_and_tell(self._become, act, theirs)
        theirs.close()
        try:
            told, descriptors, _, _ = socket.recv_fds(ours, 64, 1, socket.MSG_CMSG_CLOEXEC)
        finally:
            ours.close()
            os.waitpid(pid, 0)
        if told != b"0":
            number = int(told or b"5")
            raise OSError(number, os.strerror(number))
        return descriptors[0] if descriptors else None

    def _become(self) -> None:
        become(self._user.uid, self._view, self._users)


def become(identity: int, view: int, users: int) -> None:
    """Turn the calling child for good into this user of a user namespace; 0 is the namespace's own root."""
    sys.meta_path.clear()
    signal.set_wakeup_fd(-1)
    linux.enter_namespace(view, linux.CLONE_NEWNS)
    linux.enter_namespace(users, linux.CLONE_NEWUSER)
    take_identity(identity)
    for number in DEFAULT_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def take_identity(identity: int) -> None:
    """All ids of the process become this one, in the user namespace that it is in; what others see of it is closed."""
    os.setgroups([])
    os.setresgid(identity, identity, identity)
    os.setresuid(identity, identity, identity)
    if identity:
        linux.drop_capabilities()
    linux.forbid_inspection()


def _act_and_tell(become_it: Callable[[], None], act: Callable[[], int | None], line: socket.socket) -> None:
    try:
        become_it()
        descriptor = act()
        socket.send_fds(line, [b"0"], [] if descriptor is None else [descriptor])
    except OSError as error:
        line.send(str(error.errno or 5).encode())
    finally:
        os._exit(0)


def _make_directories(path: str) -> None:
    """As Path.mkdir with parents: system calls only. The nodes of a gang make the same ones at the same time."""
    try:
        try:
            os.mkdir(path)  # noqa: PTH102
        except FileNotFoundError:
            parent = path.rstrip("/").rpartition("/")[0]
            if not parent:
                raise
            _make_directories(parent)
            os.mkdir(path)  # noqa: PTH102
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(path).st_mode):  # noqa: PTH116
            raise


def _open_log(path: str) -> int:
    """A job may have put a link or a FIFO there: neither is followed nor waited for."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(22, "not a regular file", path)
    os.set_blocking(descriptor, True)
    return descriptor


def _create(path: str, mode: int) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags, mode)
    except FileExistsError:
        os.unlink(path)  # noqa: PTH108
        return os.open(path, flags, mode)


def _publish(path: str, content: bytes) -> None:
    """System calls only."""
    new = f"{path}.new"
    descriptor = _create(new, 0o644)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)
    os.rename(new, path)  # noqa: PTH104


def _make_fifo(path: str) -> int:
    try:
        os.mkfifo(path, 0o600)
    except FileExistsError:
        os.unlink(path)  # noqa: PTH108
        os.mkfifo(path, 0o600)
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(22, "not a FIFO", path)
    return descriptor
