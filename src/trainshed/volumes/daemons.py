"""A process in the foreground that serves a file system in user space, and the wait for what it mounts."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from trainshed.volumes.unmanaged import is_mounted

#: Bytes of what it said last that are looked at.
_TAIL = 4000
_PR_SET_PDEATHSIG = 1
#: Milliseconds between two looks, where the kernel does not tell that the mounts have changed.
_LOOK_AGAIN = 50
#: Signals that a program is asked to end with.
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_libc = ctypes.CDLL(None, use_errno=True)


class DaemonFailed(Exception):
    """It ended, or did not do in time what it is for; the message is what it said."""


class Daemon:
    """Started with nothing of the caller's but what is given. It dies with the caller."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: str,
        log: str,
        *,
        handed: Sequence[int] = (),
    ) -> None:
        """``folder`` is where it works, ``log`` the file there for its output, ``handed`` are descriptors that it gets.

        Raises OSError.
        """
        self._log = f"{folder}/{log}"
        with open(self._log, "ab") as output:
            self._process = subprocess.Popen(
                list(arguments),
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=tuple(handed),
                preexec_fn=_begin,
            )

    def wait_for_mount(self, target: str, seconds: float) -> None:
        """Until something is mounted there. Raises DaemonFailed, when the daemon is gone."""
        until = time.monotonic() + seconds
        with open("/proc/self/mountinfo") as table:
            changes = select.poll()
            changes.register(table, select.POLLPRI | select.POLLERR)
            while not is_mounted(target):
                if not self.alive or time.monotonic() > until:
                    why = "" if not self.alive else f"nothing was mounted within {seconds:g} s. "
                    self.stop(0)
                    raise DaemonFailed(f"{why}{self.said()}")
                changes.poll(_LOOK_AGAIN)

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def said(self) -> str:
        """The end of its output."""
        try:
            with open(self._log, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
                return file.read().decode(errors="replace").strip()
        except OSError:
            return ""

    def stop(self, seconds: float) -> None:
        """Ask it to end, and make it after so many seconds."""
        with suppress(ProcessLookupError):
            if seconds > 0:
                self._process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(seconds)
            if self.alive:
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def run_bounded(
    arguments: Sequence[str], environment: Mapping[str, str], seconds: float, where: str = "/"
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end. It dies with the caller, and after so many seconds with all that it started.

    Raises OSError and subprocess.TimeoutExpired.
    """
    with subprocess.Popen(
        list(arguments),
        env=dict(environment),
        cwd=where,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=_begin,
    ) as process:
        try:
            output, said = process.communicate(timeout=seconds)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(list(arguments), process.returncode, output, said)


def sync_file_system(path: str) -> None:
    """Hand what programs wrote into the page cache to whatever serves the file system (syncfs(2))."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _libc.syncfs(ctypes.c_int(descriptor))
        finally:
            os.close(descriptor)


def requests_waiting(path: str) -> int:
    """Requests that the kernel has for the FUSE file system there and that are not answered; 0 where it is not told.

    A file is closed for its writer before the file system hears of it.
    """
    try:
        device = os.minor(Path(path).stat().st_dev)
        return int(Path(f"/sys/fs/fuse/connections/{device}/waiting").read_text())
    except (OSError, ValueError):
        return 0


def _begin() -> None:
    """In the child. What the caller ignores, such as SIGTERM in a volume holder, the program would ignore too."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
