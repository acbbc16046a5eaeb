"""Embedded storage accounts and file servers on disk: directories below the service's home.

``storage/{account}/files/{share}/...`` and ``storage/{account}/blobs/{container}/...``: scripts may rely on this.
``fileservers/{uid}`` is what a file server exports. All are made with mode 0700. What is to be removed is first moved
aside, to ``storage/.removed/{uid}``, so that its name is free at once and never shows half of its content.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from trainshed.resources.names import is_container, is_storage_account

_REMOVED = "storage/.removed"


def account_path(account: str) -> str:
    """The account's directory, relative to the home. Raises ValueError for a name that could lead elsewhere."""
    if not is_storage_account(account):
        raise ValueError(f"{account!r} is not a storage account's name")
    return f"storage/{account}"


def hashes_path(home: Path) -> Path:
    """Where it is remembered what the files of all accounts hold (``volumes.content_hashes``)."""
    return home / "storage/.hashes.db"


def file_server_path(uid: str) -> str:
    """A file server's directory, relative to the home."""
    return f"fileservers/{uid}"


class EmbeddedStorage:
    """The directories of one home."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def make_account(self, account: str) -> Path:
        """The account's directory with ``files`` and ``blobs``, made where absent."""
        path = self._home / account_path(account)
        self._make(path / "files")
        self._make(path / "blobs")
        return path

    def make_share(self, account: str, share: str) -> Path:
        """The directory of a share, made where absent. Raises ValueError for a name that no share can have."""
        return self._make_inside(account, "files", share)

    def make_container(self, account: str, container: str) -> Path:
        """The directory of a container, made where absent. Raises ValueError for a name that none can have."""
        return self._make_inside(account, "blobs", container)

    def move_aside(self, path: str, uid: str) -> str:
        """Take the directory from its place, so that it is free; returns where it lies now.

        Once only for each uid: what is made in that place afterwards is somebody else's, and stays.
        """
        aside = f"{_REMOVED}/{uid}"
        self._make(self._home / _REMOVED)
        if path != aside and not (self._home / aside).exists():
            try:
                (self._home / path).rename(self._home / aside)
            except FileNotFoundError:
                self._make(self._home / aside)
        return aside

    def remove(self, path: str, uid: str) -> None:
        """Remove the directory with all that is in it. Raises OSError when something cannot be removed."""
        aside = self._home / self.move_aside(path, uid)
        with suppress(FileNotFoundError):
            shutil.rmtree(aside)

    def _make_inside(self, account: str, kind: str, name: str) -> Path:
        if not is_container(name):
            raise ValueError(f"{name!r} is not the name of a share or container")
        path = self._home / account_path(account) / kind / name
        self._make(path)
        return path

    def _make(self, path: Path) -> None:
        """Each missing directory on the way with mode 0700, whatever the umask."""
        missing = [path, *path.parents]
        for directory in reversed(missing[: missing.index(self._home)]):
            with suppress(FileExistsError):
                directory.mkdir(mode=0o700)
