"""Starts bash command lines: own session, standard output and error straight into files, nothing else inherited."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Mapping

from trainshed.runner import linux

#: Commands are bash command lines (behaviour 5.1).
BASH = shutil.which("bash") or "/bin/bash"

#: Python ignores SIGPIPE and SIGXFSZ, the runner handles others: a job starts with the kernel's defaults.
DEFAULT_SIGNALS = (
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGCHLD,
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def open_log(path: str) -> int:
    """Open for appending: text that a reader has seen never changes, also over attempts of one job."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)


def start_bash(
    command_line: str, environment: Mapping[str, str], stdout: int, stderr: int, *, death_signal: int = 0
) -> int:
    """Start ``bash -c`` with standard input at its end, in the current directory; its process id.

    ``death_signal`` is sent by the kernel when the runner dies (0: a namespace sees to that). Descriptors stay the
    caller's. Raises OSError when bash cannot be started, and ValueError for text that no process can be given (NUL).
    """
    return start_program(bash_arguments(command_line), environment, stdout, stderr, death_signal=death_signal)


def start_program(
    arguments: tuple[str, ...], environment: Mapping[str, str], stdout: int, stderr: int, *, death_signal: int = 0
) -> int:
    """The same for any program; ``arguments`` begin with its path."""
    if death_signal:
        return _fork_and_execute(arguments, environment, stdout, stderr, death_signal)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return spawn(arguments, environment, null, stdout, stderr)
    finally:
        os.close(null)


def bash_arguments(command_line: str) -> tuple[str, ...]:
    """Program and arguments that carry out a command line."""
    return (BASH, "-c", command_line)


def spawn(arguments: tuple[str, ...], environment: Mapping[str, str], stdin: int, stdout: int, stderr: int) -> int:
    """Start a program in a session of its own, with the kernel's default signals; its process id."""
    return os.posix_spawn(
        arguments[0],
        arguments,
        environment,
        file_actions=(
            (os.POSIX_SPAWN_DUP2, stdin, 0),
            (os.POSIX_SPAWN_DUP2, stdout, 1),
            (os.POSIX_SPAWN_DUP2, stderr, 2),
        ),
        setsid=True,
        setsigmask=(),
        setsigdef=DEFAULT_SIGNALS,
    )


def _fork_and_execute(
    arguments: tuple[str, ...], environment: Mapping[str, str], stdout: int, stderr: int, death_signal: int
) -> int:
    """As posix_spawn, which has no way to set a parent-death signal."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.set_wakeup_fd(-1)
        for number in DEFAULT_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.setsid()
        linux.set_parent_death_signal(death_signal)
        if os.getppid() != parent:
            os._exit(1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.execve(arguments[0], arguments, environment)
    except BaseException as error:
        os.write(2, f"{arguments[0]}: {error}\n".encode())
    finally:
        os._exit(127 if sys.exc_info()[0] is None else 126)
