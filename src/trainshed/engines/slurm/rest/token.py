"""The JWT that slurmrestd wants: from a file that somebody renews, or from a command such as ``scontrol token``.

It is kept in memory only. What it says of itself (RFC 7519: exp, iat; Slurm's own: sun) is read, not proven.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shlex
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
#: Seconds before its end at which a token is renewed; of a short one a fifth of its life.
_EARLY_SECONDS = 60.0


class NoToken(Exception):
    """There is none; the text says why, and what mends it."""


@dataclass(frozen=True, slots=True)
class _Held:
    text: str = field(repr=False)
    #: Whose it is; empty when it does not say.
    user: str
    #: Unix seconds from which it is to be renewed; None where it does not say when it ends.
    renew_at: float | None


class Token:
    """One source of tokens."""

    def __init__(self, file: str, command: str, timeout: float, environment: Mapping[str, str]) -> None:
        self._file = file
        self._command = command
        self._timeout = timeout
        self._environment = dict(environment)
        self._held: _Held | None = None
        self._renewing = asyncio.Lock()

    async def get(self, refused: str = "") -> tuple[str, str]:
        """The token and whose it is. ``refused``: one that was not accepted; it is not given again unasked.

        Raises NoToken.
        """
        async with self._renewing:
            held = self._held
            due = held is None or held.text == refused or (held.renew_at is not None and time.time() >= held.renew_at)
            if held is None or due or self._file:
                held = self._held = _held(await self._from_command() if self._command else self._from_file())
            return held.text, held.user

    def _from_file(self) -> str:
        path = Path(self._file)
        try:
            if stat.S_IMODE(path.stat().st_mode) & 0o007:
                raise NoToken(f"everybody may read the token file {path}; mend it: chmod 600 {path}")
            return path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise NoToken(f"the token file {path} cannot be read: {error}") from error

    async def _from_command(self) -> str:
        words = shlex.split(self._command)
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as error:
            raise NoToken(f"the token_command {words[0]} cannot be started: {error.strerror}") from error
        try:
            async with asyncio.timeout(self._timeout):
                out, said = await process.communicate()
        except TimeoutError:
            raise NoToken(f"the token_command {words[0]} did not answer within {self._timeout:g} s") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode != 0:
            why = " ".join(said.decode(errors="replace").split())[:300]
            raise NoToken(f"the token_command {words[0]} ended with {process.returncode}: {why}")
        return out.decode(errors="replace")


def _held(text: str) -> _Held:
    found = _FORM.search(text)
    if found is None:
        raise NoToken("what the token_file or token_command gave holds no JWT; see: scontrol token")
    claims: dict[str, object] = {}
    with suppress(ValueError):
        middle = found[0].split(".")[1]
        read = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
        claims = read if isinstance(read, dict) else {}
    ends, begins, user = claims.get("exp"), claims.get("iat"), claims.get("sun") or claims.get("username")
    renew_at = None
    if isinstance(ends, int | float):
        life = ends - begins if isinstance(begins, int | float) else 5 * _EARLY_SECONDS
        renew_at = ends - min(_EARLY_SECONDS, max(0.0, life) / 5)
    return _Held(found[0], user if isinstance(user, str) else "", renew_at)
