"""Files while they arrive: seen by nobody until they are whole, and then in their place at once and durably."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

#: Syncs at the same time: the file system's journal takes several in one go.
_AT_ONCE = 8
#: Seconds after which a draft counts as left behind.
_LEFT = 86_400


class Draft:
    """A new file in a folder of drafts. Left without ``place``, it leaves nothing behind. Methods block on the disk."""

    def __init__(self, folder: Path, mode: int = 0o600) -> None:
        """``folder`` lies on the file system of the places to be, and is made where absent. Raises OSError."""
        self.size = 0
        self._digest = hashlib.sha256()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path: Path | None = folder / secrets.token_hex(16)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.fchmod(self._descriptor, mode)

    def write(self, piece: bytes | memoryview) -> None:
        """Take the next bytes. Raises OSError."""
        self._digest.update(piece)
        rest = memoryview(piece)
        while rest:
            written = os.write(self._descriptor, rest)
            self.size += written
            rest = rest[written:]

    @property
    def sha256(self) -> str:
        """Of what was written."""
        return self._digest.hexdigest()

    @property
    def descriptor(self) -> int:
        """The open file, until the draft is closed."""
        return self._descriptor

    def sync(self) -> None:
        """The content is on the disk afterwards."""
        os.fsync(self._descriptor)

    def place(self, name: str | Path, folder: int | None = None) -> None:
        """Into its place, instead of what is there; ``name`` is relative to the open directory ``folder``, if given.

        Durable once the directory is synced. Raises OSError.
        """
        assert self._path is not None
        # Not os.replace: a link in that place would be replaced either way, and a directory is refused.
        os.rename(self._path, name, dst_dir_fd=folder)
        self._path = None

    def close(self) -> None:
        """Let it go: what was not placed is gone. Again does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def sweep(folder: Path) -> None:
    """Remove drafts that a crash left: those that nobody wrote to for a day. Blocks on the disk."""
    until = time.time() - _LEFT
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < until:
                    path.unlink()


def sync_all(descriptors: Iterable[int]) -> None:
    """Sync open files and directories, several at the same time. Raises OSError."""
    wanted = list(descriptors)
    if len(wanted) < 2:
        for descriptor in wanted:
            os.fsync(descriptor)
        return
    with ThreadPoolExecutor(min(_AT_ONCE, len(wanted))) as pool:
        for _ in pool.map(os.fsync, wanted):
            pass
