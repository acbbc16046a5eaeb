"""Several service processes on one home: those of one PostgreSQL database, and no others.

``service.lock`` is held by whoever serves the home: by one process alone, or by several in common, who then all use the
database that it names. ``service.members`` is held in common by the same processes; who gets it for itself is alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from trainshed.identity.private_files import read_or_create
from trainshed.service_home import AlreadyRunning

#: Seconds for which a process that is just starting may have the home for itself, and between two looks.
_STARTING, _LOOK_AGAIN = 5.0, 0.02


class ForeignHome(Exception):
    """The database belongs to another home, where its nodes are."""


def home_id(home: Path) -> str:
    """What names the home, made at its first use. Raises UnsafeSecretFile."""
    return read_or_create(home / "home.id", lambda: os.urandom(16).hex().encode() + b"\n").decode().strip()


def require_own(home: Path, own: str, recorded: str) -> None:
    """Raises ForeignHome when the database was made with another home: jobs that run there would run here again."""
    if own != recorded:
        raise ForeignHome(
            f"the database belongs to another home ({recorded}), where its nodes and secrets are: give that --home, on "
            f"its machine. If it moved here, bring its home.id along; if it is lost and nothing of it runs any more: "
            f"echo {recorded} > {home / 'home.id'}"
        )


@contextlib.contextmanager
def one_of_several(home: Path, database: str, when_alone: Callable[[], None]) -> Iterator[Members]:
    """Hold the home in common with other processes on the database of this id.

    ``when_alone`` is called before anybody else can join, when nobody else is there. Raises AlreadyRunning.
    """
    with (home / "service.lock").open("a+") as lock, (home / "service.members").open("a+") as members:
        _join(home, lock, database, when_alone)
        fcntl.lockf(members, fcntl.LOCK_SH)
        yield Members(members)


def _join(home: Path, lock: IO[str], database: str, when_alone: Callable[[], None]) -> None:
    until = time.monotonic() + _STARTING
    while True:
        if _try(lock, fcntl.LOCK_EX):
            lock.seek(0)
            lock.truncate()
            json.dump({"database": database}, lock)
            lock.flush()
            when_alone()
            # Not atomic: somebody may get in between, and then the loop goes on.
            fcntl.flock(lock, fcntl.LOCK_UN)
        if _try(lock, fcntl.LOCK_SH):
            if _database_of(lock) == database:
                return
            raise AlreadyRunning(
                f"services on {home} use another database: stop them first, or give this one another --home"
            )
        if time.monotonic() > until:
            raise AlreadyRunning(
                f"a service that has {home} for itself is running; see `trainshed status`, or give another --home"
            )
        time.sleep(_LOOK_AGAIN)


def _try(lock: IO[str], operation: int) -> bool:
    try:
        fcntl.flock(lock, operation | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _database_of(lock: IO[str]) -> str:
    lock.seek(0)
    try:
        return str(json.loads(lock.read())["database"])
    except (ValueError, KeyError, TypeError):
        return ""


class Members:
    """Who shares the home."""

    def __init__(self, lock: IO[str] | None = None) -> None:
        """Without ``lock`` there is nobody else."""
        self._lock = lock

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether this process is the only one; while the block runs, no other joins.

        Such a lock, unlike that of flock(2), is never let go of in between (fcntl(2), record locks).
        """
        if self._lock is None:
            yield True
            return
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_SH)
