"""Reading a directory of a volume from where the service runs: list it, open its files, with or without a node.

Methods block; call them from threads.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol

from trainshed.resources.directories import join
from trainshed.volumes.filetree import Entry, OutsideRoot, list_directory, open_file


class Unreadable(Exception):
    """What holds the volume cannot be asked now, or refuses; the message says which and why, without credentials."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file as it is now. Size in bytes, time in Unix nanoseconds."""

    size: int
    modified_ns: int


class OpenFile(Protocol):
    """A file that is open for reading; it may grow meanwhile."""

    def facts(self) -> FileFacts:
        """As it is now."""
        ...

    def read(self, offset: int, most: int) -> bytes:
        """From a byte on; empty at the end. Raises Unreadable."""
        ...

    def close(self) -> None:
        """Let it go. Again does nothing."""
        ...


class Reader(Protocol):
    """One directory with all below it. ``inside`` is a path relative to it, without ``..``; empty for itself."""

    def list(self, inside: str, after: str | None, limit: int) -> list[Entry]:
        """Up to ``limit`` entries of one level, in order of name, after a name; empty where there is no such directory.

        Raises OutsideRoot and Unreadable.
        """
        ...

    def open(self, inside: str) -> OpenFile | None:
        """The regular file, None where there is none (any more). Raises OutsideRoot and Unreadable."""
        ...


class LocalFile:
    """By a descriptor, which it owns."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def facts(self) -> FileFacts:
        """As it is now."""
        found = os.fstat(self._descriptor)
        return FileFacts(found.st_size, found.st_mtime_ns)

    def read(self, offset: int, most: int) -> bytes:
        """From a byte on; empty at the end."""
        return os.pread(self._descriptor, most, offset)

    def close(self) -> None:
        """Let it go. Again does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class DirectoryReader:
    """A directory on this machine. ``path`` and ``root``, below which all stays, are absolute."""

    path: str
    root: str
    #: The folder on the way whose owner's rights count, if that is not the service's own user.
    own: str | None = None

    def list(self, inside: str, after: str | None, limit: int) -> list[Entry]:
        """One level, as Reader says."""
        return list_directory(self.root, join(self.path, inside), after, limit, self.own)

    def open(self, inside: str) -> LocalFile | None:
        """The regular file, as Reader says."""
        descriptor = open_file(self.root, join(self.path, inside), self.own)
        return None if descriptor is None else LocalFile(descriptor)


__all__ = ["DirectoryReader", "Entry", "FileFacts", "LocalFile", "OpenFile", "OutsideRoot", "Reader", "Unreadable"]
