"""Carrying out shell scripts as root on hosts, over the system's ``ssh``."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from trainshed.engines.slurm.bootstrap.problems import Problem, ProblemCode

#: ssh's own exit code when it does not get there.
_FAILED = 255
#: Words of ssh and sudo in small letters -> what they mean, and what to do.
_MEANINGS: tuple[tuple[str, ProblemCode, str], ...] = (
    (
        "host key verification failed",
        ProblemCode.HOST_KEY_UNKNOWN,
        "Compare its key and accept it once: ssh {login} (or put its line of ssh-keyscan into ~/.ssh/known_hosts)",
    ),
    (
        "permission denied (",
        ProblemCode.LOGIN_REFUSED,
        "Let this machine's key in: ssh-copy-id {login}; or name the key: --ssh-option IdentityFile=PATH",
    ),
    (
        "a password is required",
        ProblemCode.NO_ROOT,
        "Allow it there, in /etc/sudoers.d/trainshed: {user} ALL=(root) NOPASSWD: ALL; or use --user root",
    ),
    ("sudo: not found", ProblemCode.NO_ROOT, "Install sudo there, or use --user root"),
    ("sudo: command not found", ProblemCode.NO_ROOT, "Install sudo there, or use --user root"),
    ("is not in the sudoers file", ProblemCode.NO_ROOT, "Allow it there with visudo, or use --user root"),
)


class Unreached(Exception):
    """A script could not be carried out on a host; ``problem`` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Said:
    """How a script ended."""

    code: int
    out: str
    error: str


class Shell(Protocol):
    """A way to hosts."""

    async def run(self, host: str, script: str, stdin: bytes = b"", *, seconds: float = 60.0) -> Said:
        """Carry out a script of sh as root; what is secret goes by ``stdin``. Raises Unreached."""


@dataclass(frozen=True, slots=True)
class Ssh:
    """The system's ssh: keys only, its known_hosts, its configuration."""

    user: str = "root"
    port: int | None = None
    #: As for ``ssh -o``.
    options: Sequence[str] = ()

    def argv(self, host: str, script: str) -> list[str]:
        """The whole command."""
        port = [] if self.port is None else ["-p", str(self.port)]
        root = ["sh", "-c", script] if self.user == "root" else ["sudo", "-n", "sh", "-c", script]
        return [
            *("ssh", "-oBatchMode=yes", "-oConnectTimeout=10", "-oServerAliveInterval=15", "-oLogLevel=ERROR"),
            *(f"-o{option}" for option in self.options),
            *port,
            *("-l", self.user, "--", host, shlex.join(root)),
        ]

    async def run(self, host: str, script: str, stdin: bytes = b"", *, seconds: float = 60.0) -> Said:
        """As of ``Shell``."""
        code, out, error = await self._carry_out(host, script, stdin, seconds)
        if code and (known := self._meaning(host, error)) is not None:
            raise Unreached(known)
        if code == _FAILED:
            raise Unreached(self._away(host, " ".join(error.split())[-300:] or "ssh said nothing"))
        return Said(code, out, error)

    async def _carry_out(self, host: str, script: str, stdin: bytes, seconds: float) -> tuple[int, str, str]:
        try:
            process = await asyncio.create_subprocess_exec(
                *self.argv(host, script),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise Unreached(self._away(host, f"ssh cannot be started: {error.strerror}")) from error
        try:
            async with asyncio.timeout(seconds):
                out, error_text = await process.communicate(stdin)
        except TimeoutError:
            raise Unreached(self._away(host, f"it did not answer within {seconds:g} s")) from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        return process.returncode or 0, out.decode(errors="replace"), error_text.decode(errors="replace")

    def _meaning(self, host: str, error: str) -> Problem | None:
        for words, code, mend in _MEANINGS:
            if words in error.lower():
                login = f"{self.user}@{host}" + ("" if self.port is None else f" -p {self.port}")
                said = " ".join(error.split())[-300:]
                return Problem(host, code, said, mend.format(login=login, user=self.user) + ".")
        return None

    def _away(self, host: str, said: str) -> Problem:
        mend = f"Try it by hand: ssh -oBatchMode=yes {self.user}@{host} true; see --ssh-port and --ssh-option."
        return Problem(host, ProblemCode.HOST_UNREACHABLE, said, mend)
