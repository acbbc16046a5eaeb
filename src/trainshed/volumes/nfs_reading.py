"""Reading a file server from where the service runs, as its clients do: by NFS. Its disks are in another namespace.

Links are resolved by the server's answers within the export, so that none leads to the service's own files.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from trainshed.resources.directories import join
from trainshed.volumes.filetree import Entry
from trainshed.volumes.libnfs import Connection, Facts, LibraryMissing, Server
from trainshed.volumes.reading import FileFacts, Unreadable

T = TypeVar("T")

#: Links that are followed one after another, as the kernel does (path_resolution(7)).
_LINKS = 40
#: Servers to which a connection is kept.
_KEPT = 16
_CONNECT_SECONDS = 3.0
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE, errno.EACCES)

_connections: OrderedDict[Server, Connection] = OrderedDict()
_guard = threading.Lock()


class NfsReader:
    """A directory of an export (``volumes.reading.Reader``)."""

    def __init__(self, server: Server, path: str, title: str) -> None:
        """``path`` is relative to the export; ``title`` names the volume in errors."""
        self._server = server
        self._path = path
        self._title = title

    def list(self, inside: str, after: str | None, limit: int) -> list[Entry]:
        """One level, as Reader says."""

        def entries(connection: Connection) -> list[Entry]:
            folder = _resolve(connection, join("/", self._path, inside))
            if folder is None:
                return []
            names = sorted(os.fsdecode(entry.name) for entry in connection.list(os.fsencode(folder)))
            found: list[Entry] = []
            for name in names:
                if name in (".", "..") or (after is not None and name <= after):
                    continue
                entry = _entry(connection, folder, name)
                if entry is not None:
                    found.append(entry)
                if len(found) == limit:
                    break
            return found

        return self._ask(entries) or []

    def open(self, inside: str) -> NfsFile | None:
        """The regular file, as Reader says."""

        def file(connection: Connection) -> NfsFile | None:
            path = _resolve(connection, join("/", self._path, inside))
            if path is None or not stat.S_ISREG(connection.stat(os.fsencode(path)).mode):
                return None
            return NfsFile(connection, connection.open(os.fsencode(path), os.O_RDONLY), self._title)

        return self._ask(file)

    def _ask(self, act: Callable[[Connection], T | None]) -> T | None:
        """None where there is no such thing. Once more where the connection was one that the server has forgotten."""
        for last in (False, True):
            connection = self._connect()
            try:
                with connection.lock:
                    return act(connection)
            except OSError as error:
                if error.errno in _ABSENT:
                    return None
                if last or not connection.broken:
                    raise self._unreadable(error) from error
        return None

    def _connect(self) -> Connection:
        """A connection of this process to the server; asked first whether it listens, since libnfs waits long."""
        try:
            socket.create_connection((self._server.address, self._server.port), _CONNECT_SECONDS).close()
            with _guard:
                found = _connections.pop(self._server, None)
                if found is None or found.broken:
                    found = Connection(self._server, patient=False)
                _connections[self._server] = found
                if len(_connections) > _KEPT:
                    # Files that are open on it go on using it.
                    _connections.popitem(last=False)
                return found
        except (OSError, LibraryMissing) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> Unreadable:
        return Unreadable(f"{self._title} cannot be read now: {error}")


class NfsFile:
    """An open file (``volumes.reading.OpenFile``)."""

    def __init__(self, connection: Connection, handle: Any, title: str) -> None:
        self._connection = connection
        self._handle = handle
        self._title = title

    def facts(self) -> FileFacts:
        """As it is now."""
        try:
            with self._connection.lock:
                found = self._connection.fstat(self._handle)
        except OSError as error:
            raise Unreadable(f"{self._title} cannot be read now: {error}") from error
        return FileFacts(found.size, found.modified_at)

    def read(self, offset: int, most: int) -> bytes:
        """From a byte on; empty at the end. Raises Unreadable."""
        try:
            with self._connection.lock:
                return self._connection.read(self._handle, offset, most)
        except OSError as error:
            raise Unreadable(f"{self._title} cannot be read now: {error}") from error

    def close(self) -> None:
        """Let it go. Again does nothing."""
        handle, self._handle = self._handle, None
        if handle is not None:
            with self._connection.lock, suppress(OSError):
                self._connection.close_file(handle)


def _entry(connection: Connection, folder: str, name: str) -> Entry | None:
    try:
        facts = connection.stat(os.fsencode(join(folder, name)))
        if stat.S_ISLNK(facts.mode):
            target = _resolve(connection, join(folder, name))
            if target is None:
                return None
            facts = connection.stat(os.fsencode(target))
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise
    return _told(name, facts)


def _told(name: str, facts: Facts) -> Entry | None:
    if stat.S_ISDIR(facts.mode):
        return Entry(name, True)
    if stat.S_ISREG(facts.mode):
        return Entry(name, False, facts.size, facts.modified_at // 1_000_000)
    return None


def _resolve(connection: Connection, path: str) -> str | None:
    """The path without links; None where one of them leads out of the export: an absolute one, or up from its root."""
    done: list[str] = []
    waiting = path.split("/")[::-1]
    links = 0
    while waiting:
        part = waiting.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not done:
                return None
            done.pop()
            continue
        here = "/" + "/".join([*done, part])
        if not stat.S_ISLNK(connection.stat(os.fsencode(here)).mode):
            done.append(part)
            continue
        links += 1
        target = os.fsdecode(connection.read_link(os.fsencode(here)))
        if target.startswith("/") or links > _LINKS:
            return None
        waiting += target.split("/")[::-1]
    return "/" + "/".join(done)
