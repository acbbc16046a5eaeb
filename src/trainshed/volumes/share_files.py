"""Putting files into a share or container of an embedded account, and seeing what is there, without being led out.

Jobs write there too, and may make links at any time: every step on the way is opened from the one before, and no link
is followed. A file is replaced whole, so that a job that reads the old one goes on reading it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from trainshed.volumes.content_hashes import ContentHashes
from trainshed.volumes.drafts import Draft, sync_all

_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_FOLDERS = 128
_FILE_MODE, _PROGRAM_MODE, _FOLDER_MODE = 0o644, 0o755, 0o755


class InTheWay(Exception):
    """What lies at the path cannot be replaced by a file, or led through; the message says which and what it is."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file as it is to be. ``path`` is relative to the share, of plain segments; size in bytes."""

    path: str
    sha256: str
    size: int
    executable: bool = False

    @property
    def mode(self) -> int:
        """Permissions that it gets."""
        return _PROGRAM_MODE if self.executable else _FILE_MODE


class Share:
    """An open share or container. For one thread; methods block on the disk and raise OSError."""

    def __init__(self, directory: Path) -> None:
        """Raises FileNotFoundError where there is none."""
        self._root = os.open(directory, _STEP)
        #: Open directories by path; a request's files lie in few of them.
        self._folders: dict[str, int] = {}
        #: Directories with new names in them, not synced yet.
        self._dirty: set[str] = set()

    def differing(self, wanted: Iterable[Wanted], hashes: ContentHashes) -> list[str]:
        """The paths of those that are not there with that content and right to run."""
        found = []
        for entry in wanted:
            if not self._has(entry, hashes):
                found.append(entry.path)
            self._tidy()
        return found

    def _has(self, wanted: Wanted, hashes: ContentHashes) -> bool:
        parent, name = _split(wanted.path)
        try:
            folder = self._folder(parent)
            facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
            alike = stat.S_ISREG(facts.st_mode) and facts.st_size == wanted.size
            if not alike or bool(facts.st_mode & 0o100) is not wanted.executable:
                return False
            descriptor = os.open(name, _READ, dir_fd=folder)
        except (FileNotFoundError, NotADirectoryError, PermissionError, InTheWay):
            return False
        except OSError as error:
            if _is_link(error):
                return False
            raise
        try:
            return stat.S_ISREG(os.fstat(descriptor).st_mode) and hashes.of(descriptor) == wanted.sha256
        finally:
            os.close(descriptor)

    def check(self, path: str) -> None:
        """Raises InTheWay when a file cannot be put there as things are now."""
        parent, name = _split(path)
        with suppress(FileNotFoundError):
            facts = os.stat(name, dir_fd=self._folder(parent), follow_symlinks=False)
            if not stat.S_ISREG(facts.st_mode):
                raise InTheWay(f"'{path}' is {_kind(facts.st_mode)} there")

    def place(self, drafts: Sequence[tuple[Wanted, Draft]], hashes: ContentHashes) -> None:
        """Put whole files into their places, durably; directories on the way are made. Raises InTheWay.

        Those before one that is in the way stay.
        """
        stamps = [hashes.stamp(draft.descriptor) for _, draft in drafts]
        sync_all(draft.descriptor for _, draft in drafts)
        try:
            for (wanted, draft), stamp in zip(drafts, stamps, strict=True):
                self.check(wanted.path)
                parent, name = _split(wanted.path)
                draft.place(name, self._made(parent))
                self._dirty.add(parent)
                hashes.wrote(draft.descriptor, stamp, wanted.sha256)
                self._tidy()
        finally:
            self._sync()

    def remove(self, paths: Iterable[str]) -> int:
        """Remove files, and directories that are left empty by it; how many files were there. Raises InTheWay."""
        removed = 0
        emptied: set[str] = set()
        try:
            for path in paths:
                parent, name = _split(path)
                try:
                    os.unlink(name, dir_fd=self._folder(parent))
                except FileNotFoundError:
                    continue
                except IsADirectoryError:
                    raise InTheWay(f"'{path}' is a directory there") from None
                removed += 1
                self._dirty.add(parent)
                emptied.add(parent)
                self._tidy()
        finally:
            self._sync()
        for path in sorted(emptied, key=len, reverse=True):
            self._remove_empty(path)
        return removed

    def _remove_empty(self, path: str) -> None:
        while path:
            parent, name = _split(path)
            try:
                os.rmdir(name, dir_fd=self._folder(parent))
            except (OSError, InTheWay):
                return
            self._drop(path)
            path = parent

    def _folder(self, path: str) -> int:
        """The open directory. Raises FileNotFoundError and InTheWay."""
        return self._open(path, make=False)

    def _made(self, path: str) -> int:
        return self._open(path, make=True)

    def _open(self, path: str, *, make: bool) -> int:
        if not path:
            return self._root
        if path in self._folders:
            return self._folders[path]
        parent, name = _split(path)
        outer = self._open(parent, make=make)
        try:
            found = self._enter(outer, name, path)
        except FileNotFoundError:
            if not make:
                raise
            found = self._make(outer, name, path)
            self._dirty.add(parent)
        self._folders[path] = found
        return found

    def _make(self, outer: int, name: str, path: str) -> int:
        try:
            os.mkdir(name, 0o700, dir_fd=outer)
        except FileExistsError:
            return self._enter(outer, name, path)
        found = self._enter(outer, name, path)
        # Whatever the umask is.
        os.fchmod(found, _FOLDER_MODE)
        return found

    def _enter(self, outer: int, name: str, path: str) -> int:
        try:
            return os.open(name, _STEP, dir_fd=outer)
        except OSError as error:
            if not (_is_link(error) or isinstance(error, NotADirectoryError)):
                raise
            facts = os.stat(name, dir_fd=outer, follow_symlinks=False)
            raise InTheWay(f"'{path}' is {_kind(facts.st_mode)} there, and no directory") from None

    def _sync(self) -> None:
        """What has new names is durable; what a job has removed meanwhile needs not be."""
        dirty, self._dirty = self._dirty, set()
        descriptors = []
        for path in dirty:
            with suppress(FileNotFoundError, InTheWay):
                descriptors.append(self._folder(path))
        sync_all(descriptors)

    def _tidy(self) -> None:
        """Between two files: not too many directories stay open."""
        if len(self._folders) > _OPEN_FOLDERS:
            self._sync()
            for path in list(self._folders):
                self._drop(path)

    def _drop(self, path: str) -> None:
        descriptor = self._folders.pop(path, None)
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        """Let it go."""
        for path in list(self._folders):
            self._drop(path)
        os.close(self._root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _split(path: str) -> tuple[str, str]:
    parent, _, name = path.rpartition("/")
    return parent, name


def _is_link(error: OSError) -> bool:
    return error.errno == errno.ELOOP


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    if stat.S_ISDIR(mode):
        return "a directory"
    return "a file" if stat.S_ISREG(mode) else "a special file"
