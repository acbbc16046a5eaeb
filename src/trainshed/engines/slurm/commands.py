"""Slurm's command line tools, on this machine or over SSH on a login node."""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from typing import BinaryIO

from trainshed.engines.protocol import EngineUnavailable
from trainshed.engines.slurm.owners import Owner
from trainshed.resources.reasons import Reason, ReasonCode

#: What the tools say when the controller, its network or its key service does not answer (all versions).
_AWAY = (
    "Unable to contact slurm controller",
    "Unable to contact controller",
    "Socket timed out",
    "Connection refused",
    "Connection timed out",
    "Connection reset",
    "Zero Bytes were transmitted",
    "Transport endpoint is not connected",
    "Unexpected message received",
    "Header lengths are longer",
    "Communication connection failure",
    "Munged communication error",
    "Munge encode failed",
    "authentication credential",
    "Could not establish a configuration source",
    "Slurm backup controller in standby mode",
    "temporarily unable to accept job",
    "Slurm controller is currently",
)
#: ssh's own exit code when it does not get there.
_SSH_FAILED = 255
#: Variables of the service that Slurm's commands need; jobs get none of the others. Most of Slurm's own would change
#: what is submitted, or how it is printed: the service may itself run in a job.
_PASSED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "KRB5CCNAME", "SSH_AUTH_SOCK")
_PASSED_OF_SLURM = ("SLURM_CONF", "SLURM_JWT")
#: Of these, what proves that one is the service's user.
OF_THE_SERVICE = ("KRB5CCNAME", "SSH_AUTH_SOCK", "SLURM_JWT")


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """What commands, and with them jobs, get of the service's environment."""
    return {
        name: value
        for name, value in environment.items()
        if name in (*_PASSED, *_PASSED_OF_SLURM) or name.startswith("LC_")
    }


def is_away(said: str) -> bool:
    """Whether these are Slurm's words for a controller that does not answer."""
    return any(words in said for words in _AWAY)


class Refused(Exception):
    """Slurm said no; the text is its own."""


class Unsure(EngineUnavailable):
    """A command was cut off: it may have had its effect."""


class Commands:
    """Runs them, a few at a time: a controller that is asked by many at once serves nobody."""

    def __init__(self, ssh: str, timeout: float, environment: Mapping[str, str] = os.environ) -> None:
        self._ssh = ssh
        self._timeout = timeout
        self._environment = passed_on(environment)
        self._at_once = asyncio.Semaphore(8)

    @property
    def place(self) -> str:
        """Where the commands run, for people."""
        return self._ssh or "this machine"

    async def run(self, name: str, *arguments: str, stdin: str = "", user: Owner | None = None) -> str:
        """What the command prints that this Unix user runs (None: the service's own; over SSH the one who logs in).

        Raises Refused, EngineUnavailable; Unsure when it was cut off.
        """
        argv, environment = [name, *arguments], self._environment
        if self._ssh:
            login = self._ssh if user is None else f"{user.name}@{self._ssh.rpartition('@')[2]}"
            argv = ["ssh", "-oBatchMode=yes", "-oConnectTimeout=10", login, "--", shlex.join(argv)]
        elif user is not None:
            argv = [*user.command, *argv]
            environment = {k: v for k, v in environment.items() if k not in OF_THE_SERVICE} | user.environment
        async with self._at_once:
            code, out, error = await self._carry_out(argv, name, stdin, environment)
        if code == 0:
            return out
        said = " ".join((error or out).split()) or f"exit code {code}"
        if (self._ssh and code == _SSH_FAILED) or is_away(said):
            raise EngineUnavailable(self._away(said))
        if code == 127:
            raise EngineUnavailable(self._away(f"{name} is not installed there, or not on the PATH ({said})"))
        raise Refused(said)

    async def _carry_out(
        self, argv: list[str], name: str, stdin: str, environment: Mapping[str, str]
    ) -> tuple[int, str, str]:
        with ExitStack() as files:
            given, out, told = (files.enter_context(_file(text)) for text in (stdin, "", ""))
            try:
                process = _started(argv, environment, given, out, told)
            except OSError as error:
                raise EngineUnavailable(self._away(f"{argv[0]} cannot be started: {error.strerror}")) from error
            try:
                async with asyncio.timeout(self._timeout):
                    await _end_of(process.pid)
            except TimeoutError:
                raise Unsure(self._away(f"{name} did not answer within {self._timeout:g} s")) from None
            finally:
                if process.poll() is None:
                    process.kill()
                    await _end_of(process.pid)
                    process.wait()
            return process.returncode, _text(out), _text(told)

    def _away(self, said: str) -> Reason:
        return Reason(
            ReasonCode.ENGINE_UNAVAILABLE,
            f"Slurm cannot be reached from {self.place}: {said}. What was handed over goes on and is caught up with; "
            "see trainshed doctor, scontrol ping.",
            {"said": said[:500]},
        )


def _started(
    argv: list[str], environment: Mapping[str, str], given: BinaryIO, out: BinaryIO, told: BinaryIO
) -> subprocess.Popen[bytes]:
    """Not in the loop's own way: uvloop forks, which copies the page tables of the whole service and stops it
    meanwhile. Raises OSError.
    """
    return subprocess.Popen(argv, stdin=given, stdout=out, stderr=told, env=environment, start_new_session=True)


def _file(text: str) -> BinaryIO:
    """One without a name. Not a pipe: a command may end before it has read its input."""
    file = os.fdopen(os.memfd_create("slurm", os.MFD_CLOEXEC), "w+b")
    file.write(text.encode())
    file.seek(0)
    return file


def _text(file: BinaryIO) -> str:
    """All of it, wherever the command has left off: they share the place."""
    file.seek(0)
    return file.read().decode(errors="replace")


async def _end_of(pid: int) -> None:
    """Until this child has ended; somebody has to wait for it then."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    descriptor = os.pidfd_open(pid)
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
