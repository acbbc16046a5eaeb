"""``~/.bashrc`` as a message from preparation to the job, without scribbling in the account's home directory.

Preparation may append to ``~/.bashrc`` (Intel MPI's set-up does), and the toolkit's processes must then see it
(behaviour 5.1). HOME stays the account's, since caches, keys and user-installed packages are found through it; but
where the attempt has a mount namespace, an empty file of the job's own is bound over ``~/.bashrc`` while the attempt
lasts. Elsewhere, and in a container, the account's file is used and only what was appended counts: images have files
that return at once for shells like ours. Either way the added text is kept as ``{AZ_BATCHAI_JOB_TEMP}/.bashrc``, and
every command line of the job reads it first, if there is any.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from trainshed.runner import linux
from trainshed.volumes import CommandResult


class Bashrc:
    """The file, watched from before preparation until after it."""

    def __init__(self, home: str, job_temp: str, own_mounts: bool, stranger: bool) -> None:
        """``stranger``: the job runs as a user of its own, whose home is the job's temp directory."""
        self._stranger = stranger
        self._path = f"{home}/.bashrc"
        self._own = f"{job_temp}/.bashrc"
        if stranger:
            return
        self._bound = own_mounts and self._bind()
        self._before = 0 if self._bound else _size(self._path)

    def _bind(self) -> bool:
        try:
            for path in (self._own, self._path):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
            linux.mount(self._own, self._path, None, linux.MS_BIND)
        except OSError:
            return False
        return True

    def prelude(self) -> str:
        """What a command line begins with so that it sees what preparation added; empty when it added nothing."""
        if self._stranger:
            return f"[ ! -s {shlex.quote(self._path)} ] || . {shlex.quote(self._path)}\n"
        if not self._bound:
            added = b""
            with suppress(OSError), open(self._path, "rb") as file:
                file.seek(self._before)
                added = file.read()
            if not added:
                return ""
            with open(self._own, "wb") as file:
                file.write(added)
        return f". {shlex.quote(self._own)}\n" if _size(self._own) else ""


class ContainersBashrc:
    """The same for the home directory in a container, which only those inside may look at."""

    def __init__(self, job_temp: str, capture: Callable[[str], CommandResult]) -> None:
        """``capture`` runs a command line in the container."""
        self._own = f"{job_temp}/.bashrc"
        self._capture = capture
        told = capture("[ ! -f ~/.bashrc ] || wc -c < ~/.bashrc").output.strip()
        self._before = int(told) if told.isdecimal() else 0

    def prelude(self) -> str:
        """As ``Bashrc.prelude``."""
        own = shlex.quote(self._own)
        added = f"[ -f ~/.bashrc ] && tail -c +{self._before + 1} ~/.bashrc > {own} && [ -s {own} ]"
        return f". {own}\n" if self._capture(added).exit_code == 0 else ""


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0
