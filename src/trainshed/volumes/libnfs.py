"""NFSv3 in user space: what Trainshed needs of libnfs (libnfs.so, https://github.com/sahlberg/libnfs), by ctypes.

Version 3, since libnfs 4 calls its own version 4 not yet functional. A connection mends itself when the server comes
again (``autoreconnect=-1``): version 3 keeps no state at the server, so that open files go on as well.

A libnfs context is not safe for threads: each ``Connection`` has a lock, and a ``Pool`` has several connections, so
that one long call does not hold up the others. An open file belongs to the connection that opened it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

#: Names of the library by version of its interface; 13 is libnfs 4, 14 and later are 5 and 6.
_NAMES = ("libnfs.so.13", "libnfs.so.14", "libnfs.so.15", "libnfs.so.16", "libnfs.so")
#: What calls of an impatient connection end with when it was lost, and how long one waits.
_LOST, _IMPATIENT_MS = (errno.EIO, errno.EINTR), 15_000
INSTALL = "apt-get install libnfs13"


class LibraryMissing(Exception):
    """libnfs is not on this machine."""


class _Stat(ctypes.Structure):
    """struct nfs_stat_64 of libnfs.h."""

    _fields_ = [
        (f"nfs_{name}", ctypes.c_uint64)
        for name in (
            "dev", "ino", "mode", "nlink", "uid", "gid", "rdev", "size", "blksize", "blocks", "atime", "mtime",
            "ctime", "atime_nsec", "mtime_nsec", "ctime_nsec", "used",
        )
    ]  # fmt: skip


class _FileSystem(ctypes.Structure):
    """struct nfs_statvfs_64 of libnfs.h."""

    _fields_ = [
        (f"f_{name}", ctypes.c_uint64)
        for name in (
            "bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail", "fsid", "flag", "namemax",
        )
    ]  # fmt: skip


class _Time(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("microseconds", ctypes.c_long)]


class _DirectoryEntry(ctypes.Structure):
    """The beginning of struct nfsdirent of libnfs.h."""


_DirectoryEntry._fields_ = [
    ("next", ctypes.POINTER(_DirectoryEntry)),
    ("name", ctypes.c_char_p),
    ("inode", ctypes.c_uint64),
    ("type", ctypes.c_uint32),
    ("mode", ctypes.c_uint32),
]


@dataclass(frozen=True, slots=True)
class Facts:
    """What ``stat`` tells. Times in nanoseconds since 1970."""

    mode: int
    size: int
    inode: int
    links: int
    blocks: int
    accessed_at: int
    modified_at: int
    changed_at: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What a directory tells of what is in it: a name, the type bits of its mode, its inode."""

    name: bytes
    kind: int
    inode: int


@dataclass(frozen=True, slots=True)
class Server:
    """Where an export is."""

    address: str
    export: str
    port: int
    mount_port: int


def _load() -> Any:
    for name in _NAMES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise LibraryMissing(f"libnfs is not installed ({INSTALL})")


def available() -> bool:
    """Whether the library is on this machine."""
    try:
        _load()
    except LibraryMissing:
        return False
    return True


class Connection:
    """One connection to an export. Paths are relative to it and begin with ``/``; all methods raise OSError."""

    def __init__(self, server: Server, *, patient: bool = True) -> None:
        """Connect. Raises LibraryMissing; OSError with libnfs's own words when the server cannot be reached.

        ``patient``: wait for a server that is gone until it comes again, however long that takes; else a call fails
        when the connection was lost, and the connection is of no use any more.
        """
        self._library = _load()
        for name in ("nfs_init_context", "nfs_parse_url_dir", "nfs_readdir"):
            getattr(self._library, name).restype = ctypes.c_void_p
        self._library.nfs_readdir.restype = ctypes.POINTER(_DirectoryEntry)
        self._library.nfs_get_error.restype = ctypes.c_char_p
        self._context = ctypes.c_void_p(self._library.nfs_init_context())
        self.lock = threading.Lock()
        self._patient = patient
        #: Whether the connection was lost: nothing may be called any more, and libnfs 4 cannot let go of it either.
        self.broken = False
        options = f"version=3&nfsport={server.port}&mountport={server.mount_port}&autoreconnect={-1 if patient else 0}"
        url = f"nfs://{server.address}{server.export}?{options}".encode()
        # Parsing sets the options of the context.
        if not self._library.nfs_parse_url_dir(self._context, url):
            raise self._error(errno.EINVAL)
        self._library.nfs_umask(self._context, ctypes.c_uint16(0))
        self._library.nfs_set_dircache(self._context, 0)
        if not patient:
            self._library.nfs_set_timeout(self._context, ctypes.c_int(_IMPATIENT_MS))
        self._call("mount", server.address.encode(), server.export.encode())

    def close(self) -> None:
        """Let go."""
        if not self.broken:
            self._library.nfs_destroy_context(self._context)

    def stat(self, path: bytes) -> Facts:
        """Of a path; links are not followed."""
        found = _Stat()
        self._call("lstat64", path, ctypes.byref(found))
        return _facts(found)

    def fstat(self, handle: Any) -> Facts:
        """Of an open file."""
        found = _Stat()
        self._call("fstat64", handle, ctypes.byref(found))
        return _facts(found)

    def open(self, path: bytes, flags: int, mode: int = 0o666) -> Any:
        """A handle of a file, created where ``flags`` say so (open(2))."""
        handle = ctypes.c_void_p()
        self._call("open2", path, ctypes.c_int(flags), ctypes.c_int(mode), ctypes.byref(handle))
        return handle

    def close_file(self, handle: Any) -> None:
        """Let go of a handle."""
        self._call("close", handle)

    def read(self, handle: Any, offset: int, size: int) -> bytes:
        """Fewer bytes than asked for at the end of the file only."""
        buffer = ctypes.create_string_buffer(size)
        got = self._call("pread", handle, ctypes.c_uint64(offset), ctypes.c_uint64(size), buffer)
        return buffer.raw if got == size else ctypes.string_at(buffer, got)

    def write(self, handle: Any, offset: int, data: bytes) -> int:
        """Bytes that were written."""
        try:
            return self._call("pwrite", handle, ctypes.c_uint64(offset), ctypes.c_uint64(len(data)), data)
        except OSError as error:
            if error.errno != errno.EFAULT:
                raise
            # libnfs 4 keeps to itself what the server answered to a write.
            free = self.file_system(b"/")
            full = free["f_bavail"] * free["f_frsize"] < len(data)
            raise OSError(*_SAID[full]) from error

    def sync(self, handle: Any) -> None:
        """What was written is on the server's disk."""
        self._call("fsync", handle)

    def truncate(self, path: bytes, size: int) -> None:
        """By path."""
        self._call("truncate", path, ctypes.c_uint64(size))

    def truncate_file(self, handle: Any, size: int) -> None:
        """By handle."""
        self._call("ftruncate", handle, ctypes.c_uint64(size))

    def list(self, path: bytes) -> list[Entry]:
        """What is in a directory, ``.`` and ``..`` among it."""
        directory = ctypes.c_void_p()
        self._call("opendir", path, ctypes.byref(directory))
        found = []
        while entry := self._library.nfs_readdir(self._context, directory):
            told = entry.contents
            found.append(Entry(bytes(told.name), _TYPES.get(told.type, 0), told.inode))
        self._library.nfs_closedir(self._context, directory)
        return found

    def make_directory(self, path: bytes, mode: int) -> None:
        """mkdir(2)."""
        self._call("mkdir2", path, ctypes.c_int(mode))

    def make_node(self, path: bytes, mode: int) -> None:
        """mknod(2), for files, pipes and sockets."""
        self._call("mknod", path, ctypes.c_int(mode), ctypes.c_int(0))

    def remove_directory(self, path: bytes) -> None:
        """rmdir(2)."""
        self._call("rmdir", path)

    def remove(self, path: bytes) -> None:
        """unlink(2)."""
        self._call("unlink", path)

    def rename(self, old: bytes, new: bytes) -> None:
        """rename(2)."""
        self._call("rename", old, new)

    def link(self, old: bytes, new: bytes) -> None:
        """link(2)."""
        self._call("link", old, new)

    def symlink(self, target: bytes, path: bytes) -> None:
        """symlink(2)."""
        self._call("symlink", target, path)

    def read_link(self, path: bytes) -> bytes:
        """readlink(2)."""
        buffer = ctypes.create_string_buffer(4097)
        self._call("readlink", path, buffer, ctypes.c_int(len(buffer)))
        return buffer.value

    def change_mode(self, path: bytes, mode: int) -> None:
        """chmod(2)."""
        self._call("chmod", path, ctypes.c_int(mode))

    def set_times(self, path: bytes, accessed_at: int, modified_at: int) -> None:
        """Nanoseconds since 1970, kept to the microsecond. nfs-ganesha does not change those of links."""
        times = (_Time * 2)(*(_Time(ns // 10**9, ns % 10**9 // 1000) for ns in (accessed_at, modified_at)))
        self._call("lutimes", path, times)

    def file_system(self, path: bytes) -> dict[str, int]:
        """statvfs(3)."""
        found = _FileSystem()
        self._call("statvfs64", path, ctypes.byref(found))
        return {name: int(getattr(found, name)) for name, *_ in _FileSystem._fields_ if name != "f_fsid"}

    def _call(self, name: str, *arguments: Any) -> int:
        if self.broken:
            raise OSError(errno.EIO, "the connection was lost")
        result = int(getattr(self._library, f"nfs_{name}")(self._context, *arguments))
        if result < 0:
            self.broken = self.broken or (not self._patient and -result in _LOST)
            raise self._error(-result)
        return result

    def _error(self, number: int) -> OSError:
        said = self._library.nfs_get_error(self._context) or b""
        return OSError(number, said.decode(errors="replace") or os.strerror(number))


_SAID = {
    True: (errno.ENOSPC, os.strerror(errno.ENOSPC)),
    False: (errno.EIO, "the server refused to write"),
}

#: ftype3 of RFC 1813 -> the type bits of a mode (inode(7)).
_TYPES = {1: 0o100000, 2: 0o040000, 3: 0o060000, 4: 0o020000, 5: 0o120000, 6: 0o140000, 7: 0o010000}


def _facts(found: _Stat) -> Facts:
    return Facts(
        mode=found.nfs_mode,
        size=found.nfs_size,
        inode=found.nfs_ino,
        links=found.nfs_nlink,
        blocks=(found.nfs_used + 511) // 512,
        accessed_at=found.nfs_atime * 10**9 + found.nfs_atime_nsec,
        modified_at=found.nfs_mtime * 10**9 + found.nfs_mtime_nsec,
        changed_at=found.nfs_ctime * 10**9 + found.nfs_ctime_nsec,
    )


class Pool:
    """Several connections to one export, each used by one thread at a time."""

    def __init__(self, server: Server, size: int = 4) -> None:
        """Connect all of them. Raises LibraryMissing, OSError."""
        self._connections = [Connection(server) for _ in range(size)]
        self._next = count()

    @contextmanager
    def any(self) -> Iterator[Connection]:
        """A connection that nobody uses, or the one whose turn it is."""
        for connection in self._connections:
            if connection.lock.acquire(blocking=False):
                break
        else:
            connection = self._connections[next(self._next) % len(self._connections)]
            connection.lock.acquire()
        try:
            yield connection
        finally:
            connection.lock.release()
