"""An NFS export as a file system in user space (FUSE), where the kernel has no NFS client.

Its files appear as one user's, whoever owns them at the server, which takes every caller for the same user: what
``chown`` asks for is not done and not an error. Permissions are checked by the kernel against the mode bits.

What another node changed is seen within a second (attributes), and at the next ``open`` (contents). Locks hold among
the processes of one mount and not between nodes; extended attributes are not there.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from dataclasses import dataclass
from itertools import count
from typing import Any

import mfusepy

from trainshed.volumes.libnfs import Connection, Facts, Pool

_ACCESS_FLAGS = os.O_RDONLY | os.O_WRONLY | os.O_RDWR
#: What of open(2) the server is told; appending is the kernel's work, which gives the offset of each write.
_FLAGS = _ACCESS_FLAGS | os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_SYNC
#: UTIME_NOW and UTIME_OMIT of utimensat(2), which libfuse gives with 0 seconds.
_NOW, _OMIT = (1 << 30) - 1, (1 << 30) - 2


@dataclass(frozen=True, slots=True)
class _File:
    connection: Connection
    handle: Any


class NfsOperations(mfusepy.Operations):  # type: ignore[misc]
    """What the kernel asks for, answered by the server. Each method raises OSError."""

    use_ns = True

    def __init__(self, pool: Pool, directory: str, uid: int, gid: int) -> None:
        """``directory`` of the export becomes the root; files appear as those of ``uid`` and ``gid``."""
        self._pool = pool
        self._root = os.fsencode(directory.rstrip("/"))
        self._uid, self._gid = uid, gid
        self._files: dict[int, _File] = {}
        self._numbers = count(1)
        self._lock = threading.Lock()

    def _at(self, path: str) -> bytes:
        return self._root + path.encode("utf-8", "surrogateescape")

    # Attributes.

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        file = self._files.get(fh) if fh else None
        if file is not None:
            with file.connection.lock:
                return self._attributes(file.connection.fstat(file.handle))
        with self._pool.any() as connection:
            return self._attributes(connection.stat(self._at(path)))

    def _attributes(self, facts: Facts) -> dict[str, Any]:
        return {
            "st_mode": facts.mode,
            "st_size": facts.size,
            "st_ino": facts.inode,
            "st_nlink": facts.links,
            "st_blocks": facts.blocks,
            "st_uid": self._uid,
            "st_gid": self._gid,
            "st_atime": facts.accessed_at,
            "st_mtime": facts.modified_at,
            "st_ctime": facts.changed_at,
        }

    def chmod(self, path: str, mode: int) -> int:
        with self._pool.any() as connection:
            connection.change_mode(self._at(path), stat.S_IMODE(mode))
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        accessed_at, modified_at = times if times is not None else (_NOW, _NOW)
        with self._pool.any() as connection:
            if _OMIT in (accessed_at, modified_at):
                facts = connection.stat(self._at(path))
                accessed_at = facts.accessed_at if accessed_at == _OMIT else accessed_at
                modified_at = facts.modified_at if modified_at == _OMIT else modified_at
            now = time.time_ns()
            accessed_at, modified_at = (now if told == _NOW else told for told in (accessed_at, modified_at))
            connection.set_times(self._at(path), accessed_at, modified_at)
        return 0

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        file = self._files.get(fh) if fh else None
        if file is not None:
            with file.connection.lock:
                file.connection.truncate_file(file.handle, length)
            return 0
        with self._pool.any() as connection:
            connection.truncate(self._at(path), length)
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        with self._pool.any() as connection:
            return connection.file_system(self._at(path))

    # Names.

    def readdir(self, path: str, fh: int) -> list[tuple[str, dict[str, int], int]]:
        with self._pool.any() as connection:
            found = connection.list(self._at(path))
        # An entry without an inode is one that readdir(3) skips.
        return [
            (entry.name.decode("utf-8", "surrogateescape"), {"st_mode": entry.kind, "st_ino": entry.inode or 1}, 0)
            for entry in found
        ]

    def mkdir(self, path: str, mode: int) -> int:
        with self._pool.any() as connection:
            connection.make_directory(self._at(path), mode)
        return 0

    def mknod(self, path: str, mode: int, dev: int) -> int:
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
            raise OSError(errno.EPERM, "devices are not made here")
        with self._pool.any() as connection:
            connection.make_node(self._at(path), mode)
        return 0

    def rmdir(self, path: str) -> int:
        with self._pool.any() as connection:
            connection.remove_directory(self._at(path))
        return 0

    def unlink(self, path: str) -> int:
        with self._pool.any() as connection:
            connection.remove(self._at(path))
        return 0

    def rename(self, old: str, new: str) -> int:
        with self._pool.any() as connection:
            connection.rename(self._at(old), self._at(new))
        return 0

    def link(self, target: str, source: str) -> int:
        with self._pool.any() as connection:
            connection.link(self._at(source), self._at(target))
        return 0

    def symlink(self, target: str, source: str) -> int:
        with self._pool.any() as connection:
            connection.symlink(source.encode("utf-8", "surrogateescape"), self._at(target))
        return 0

    def readlink(self, path: str) -> str:
        with self._pool.any() as connection:
            return connection.read_link(self._at(path)).decode("utf-8", "surrogateescape")

    # Contents.

    def open(self, path: str, flags: int) -> int:
        with self._pool.any() as connection:
            return self._opened(connection, connection.open(self._at(path), flags & _FLAGS))

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        flags = (fi if isinstance(fi, int) else os.O_RDWR) | os.O_CREAT
        with self._pool.any() as connection:
            return self._opened(connection, connection.open(self._at(path), flags & _FLAGS, stat.S_IMODE(mode)))

    def _opened(self, connection: Connection, handle: Any) -> int:
        with self._lock:
            number = next(self._numbers)
            self._files[number] = _File(connection, handle)
        return number

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        file = self._files[fh]
        with file.connection.lock:
            return file.connection.read(file.handle, offset, size)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        file = self._files[fh]
        with file.connection.lock:
            return file.connection.write(file.handle, offset, data)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        file = self._files[fh]
        with file.connection.lock:
            file.connection.sync(file.handle)
        return 0

    def release(self, path: str, fh: int) -> int:
        file = self._files.pop(fh)
        with file.connection.lock:
            file.connection.close_file(file.handle)
        return 0
