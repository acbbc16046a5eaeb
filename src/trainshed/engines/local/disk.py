"""Keeps room on the file system of the home, whatever jobs write: the database must always be able to.

While attempts run, free space is looked at several times a second. When less than the reserve is left, the attempt
that has written most is ended, with a reason that says so.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.runner.descent import descendants

RESERVE_VARIABLE = "TRAINSHED_DISK_RESERVE"
_MIB = 2**20
#: The reserve by default: a share of the file system, within bounds.
_LEAST, _SHARE, _MOST = 256 * _MIB, 0.02, 2048 * _MIB
#: Seconds between two looks: the longest, the shortest, and in between as fast as a disk might be filled (bytes/s).
_SLOW, _FAST, _SPEED = 0.25, 0.02, 2 * 2**30
#: An attempt that wrote less is not to blame.
_BLAME = 16 * _MIB
#: Files and seconds that measuring one attempt may take.
_FILES, _SECONDS = 50_000, 0.2
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True, slots=True)
class Writer:
    """A running attempt, as far as it may write on the home's file system."""

    attempt_id: str
    #: Its nodes' own directories.
    folders: tuple[Path, ...]
    #: The durable directory that it shares with others, and what is its own there.
    shared: Path
    segment: str
    #: Processes below which all of its are.
    processes: tuple[int, ...]
    #: Unix seconds at which it started.
    since: float
    uid: int


class DiskGuard:
    """Looks while there are writers; ``end`` is told whom to end and why."""

    def __init__(self, home: Path, writers: Callable[[], list[Writer]], end: Callable[[str, Reason], None]) -> None:
        self._home = home
        self._writers = writers
        self._end = end
        self._reserve = reserve(home)
        self._timer: asyncio.TimerHandle | None = None
        #: Free space when it was last looked for somebody to blame, in vain.
        self._in_vain: int | None = None
        self._ended: set[str] = set()

    def watch(self) -> None:
        """Something begins to run."""
        if self._timer is None:
            self._look()

    def _look(self) -> None:
        self._timer = None
        writers = self._writers()
        self._ended &= {writer.attempt_id for writer in writers}
        if not writers:
            return
        spare = free(self._home) - self._reserve
        if spare >= 0:
            self._in_vain = None
        elif not self._ended and (self._in_vain is None or spare <= self._in_vain - _BLAME // 2):
            self._blame(writers, spare)
        pause = min(_SLOW, max(_FAST, spare / _SPEED))
        self._timer = asyncio.get_running_loop().call_later(pause, self._look)

    def _blame(self, writers: list[Writer], spare: int) -> None:
        self._in_vain = spare
        amounts = {
            writer.attempt_id: written(writer, {other.segment for other in writers} - {writer.segment})
            for writer in writers
        }
        attempt_id, most = max(amounts.items(), key=lambda pair: pair[1])
        if most >= _BLAME:
            self._in_vain = None
            self._ended.add(attempt_id)
            self._end(attempt_id, exceeded(most, self._reserve))


def exceeded(amount: int, kept: int) -> Reason:
    """Why the attempt is ended."""
    return Reason(
        ReasonCode.JOB_DISK_LIMIT_EXCEEDED,
        f"The job wrote too much: about {amount // _MIB} MiB, more than any other, until less than {kept // _MIB} MiB "
        "were free on the service's disk, which it needs for itself. Make the job write less, remove files that are no "
        f"longer needed, or give the service a larger disk ({RESERVE_VARIABLE} is what it keeps free).",
        {"writtenMiB": str(amount // _MIB), "reserveMiB": str(kept // _MIB)},
    )


def reserve(home: Path) -> int:
    """Bytes that are kept free: what the environment says (``512M``), else a share of the file system."""
    asked = os.environ.get(RESERVE_VARIABLE, "")
    found = re.fullmatch(r"\s*(\d+)\s*([KMGT]?)i?B?\s*", asked, re.IGNORECASE | re.ASCII)
    if found:
        return int(found[1]) * _UNITS[found[2].upper()]
    facts = os.statvfs(home)
    return int(min(_MOST, max(_LEAST, facts.f_blocks * facts.f_frsize * _SHARE)))


def free(home: Path) -> int:
    """Bytes that can still be written."""
    facts = os.statvfs(home)
    return facts.f_bavail * facts.f_frsize


def written(writer: Writer, segments_of_others: set[str]) -> int:
    """About how many bytes the attempt has on the file system: its files there, and those that it holds open."""
    until = time.monotonic() + _SECONDS
    device = writer.shared.stat().st_dev
    seen: dict[int, int] = {}

    def count(facts: os.stat_result) -> None:
        mine = facts.st_ctime >= writer.since and facts.st_uid == writer.uid
        if mine and stat.S_ISREG(facts.st_mode) and facts.st_dev == device:
            seen[facts.st_ino] = facts.st_blocks * 512

    for facts in _open_files(writer.processes):
        count(facts)
    for folder in (*writer.folders, writer.shared):
        for number, facts in enumerate(_files(folder, segments_of_others)):
            if number > _FILES or time.monotonic() > until:
                break
            count(facts)
    return sum(seen.values())


def _open_files(roots: tuple[int, ...]) -> Iterator[os.stat_result]:
    """Also those that have no name any more."""
    for pid in {below for root in roots for below in descendants(root)}:
        with suppress(OSError):
            for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - numbers are all that is needed
                with suppress(OSError):
                    yield os.stat(f"/proc/{pid}/fd/{name}")  # noqa: PTH116 - a link to what may have no path


def _files(folder: Path, leave_out: set[str]) -> Iterator[os.stat_result]:
    """Files below, newest folders not known: in the order of the file system, links not followed."""
    waiting = [str(folder)]
    while waiting:
        current = waiting.pop()
        if any(current.endswith(f"/{segment}") for segment in leave_out):
            continue
        with suppress(OSError), os.scandir(current) as entries:
            for entry in entries:
                with suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        yield entry.stat(follow_symlinks=False)
