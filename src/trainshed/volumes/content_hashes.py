"""What files hold, by their SHA-256, so that a file that was read once need not be read again.

A hash counts for as long as device, inode, size and both times are what they were. Times move in steps of some
milliseconds, and a page that is mapped and dirty may be written to without a new time until it is written back (30
seconds by default, ``vm.dirty_expire_centisecs``): so a hash is kept only for files that nobody changed of late, and
for those that the service has just written itself, with a time that no later write has.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

#: Nanoseconds for which a file must have been left alone before its hash is kept.
SETTLED = 60 * 10**9
#: Beyond so many bytes (of some 3 million files) all is forgotten.
_LARGEST = 256 << 20
_TABLE = """
CREATE TABLE IF NOT EXISTS hashes (
  device INTEGER, inode INTEGER, size INTEGER, modified INTEGER, changed INTEGER, sha256 BLOB,
  PRIMARY KEY (device, inode)
) WITHOUT ROWID
"""
_GET = "SELECT sha256 FROM hashes WHERE device = ? AND inode = ? AND size = ? AND modified = ? AND changed = ?"
_KEEP = "INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?, ?)"


class ContentHashes:
    """The hashes that are kept in one file, for one thread. A file that cannot be used keeps nothing and harms nobody.

    Methods block on the disk.
    """

    def __init__(self, path: Path) -> None:
        self._fresh: list[tuple[int | bytes, ...]] = []
        self._connection: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path.exists() and path.stat().st_size > _LARGEST:
                _remove(path)
            self._connection = sqlite3.connect(path, timeout=5.0)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(_TABLE)
        except sqlite3.OperationalError:
            self._go_without()
        except (sqlite3.DatabaseError, OSError):
            self._go_without()
            with suppress(OSError):
                _remove(path)

    def of(self, descriptor: int) -> str | None:
        """The SHA-256 of an open regular file; None when it was changed while it was read. Raises OSError."""
        facts = os.fstat(descriptor)
        found = self._kept(facts)
        if found is not None:
            return found
        began = time.time_ns()
        with os.fdopen(os.dup(descriptor), "rb") as source:
            source.seek(0)
            digest = hashlib.file_digest(source, "sha256").hexdigest()
        if _identity(os.fstat(descriptor)) != _identity(facts):
            return None
        if began - max(facts.st_mtime_ns, facts.st_ctime_ns) > SETTLED:
            self._keep(facts, digest)
        return digest

    def stamp(self, descriptor: int) -> int:
        """Give a file that the service writes a time of change that no other write will have; returns it (ns)."""
        now = time.time_ns()
        os.utime(descriptor, ns=(now, now))
        return os.fstat(descriptor).st_mtime_ns

    def wrote(self, descriptor: int, stamp: int, sha256: str) -> None:
        """The service has placed this file, stamped, with this content; unless somebody has changed it since."""
        facts = os.fstat(descriptor)
        if facts.st_mtime_ns == stamp:
            self._keep(facts, sha256)

    def _kept(self, facts: os.stat_result) -> str | None:
        if self._connection is None:
            return None
        try:
            row = self._connection.execute(_GET, _identity(facts)).fetchone()
        except sqlite3.Error:
            self._go_without()
            return None
        return None if row is None else bytes(row[0]).hex()

    def _keep(self, facts: os.stat_result, sha256: str) -> None:
        self._fresh.append((*_identity(facts), bytes.fromhex(sha256)))

    def close(self) -> None:
        """Write down what is new."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with closing(connection):
            try:
                if self._fresh:
                    with connection:
                        connection.executemany(_KEEP, self._fresh)
            except sqlite3.Error:
                # Another process holds it, or the disk is full: the files are read again next time.
                pass

    def _go_without(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _identity(facts: os.stat_result) -> tuple[int, int, int, int, int]:
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
