"""Files that only their owner may read: made once, read with suspicion."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

#: Secret files are small; anything larger is not one.
_LARGEST = 4096


class UnsafeSecretFile(Exception):
    """A secret's file cannot be trusted: the message names the file, what is wrong and the command that mends it."""


def read_or_create(path: Path, make: Callable[[], bytes]) -> bytes:
    """The file's content; when there is no file, ``make()`` is written to it first, with mode 0600.

    Two processes that start at once agree on one content. Raises UnsafeSecretFile (see ``read_private``).
    """
    try:
        return read_private(path)
    except FileNotFoundError:
        pass
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write_private(draft, make())
        try:
            # A link, unlike a rename, fails where another process was first.
            os.link(draft, path)
        except FileExistsError:
            pass
    finally:
        draft.unlink(missing_ok=True)
    _sync_directory(path.parent)
    return read_private(path)


def replace_private(path: Path, content: bytes) -> None:
    """Put a file with mode 0600 in the place of the one that is there, if any: at any instant it is either, whole.

    Durable when this returns. Raises OSError; then the old file is there.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write_private(draft, content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    _sync_directory(path.parent)


def read_private(path: Path, *, largest: int = _LARGEST) -> bytes:
    """The content of a file that belongs to this user (or root) and that nobody else can read or write;
    no more than ``largest`` bytes of it.

    Raises FileNotFoundError, and UnsafeSecretFile when others have access, or when it is no regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnsafeSecretFile(
            f"{path} cannot be read ({error.strerror}): remove it or give it to this user"
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise UnsafeSecretFile(f"{path} is not a regular file: remove it, a new one is made at the next start")
        if facts.st_mode & 0o077:
            raise UnsafeSecretFile(
                f"{path} holds a secret, but its mode is {stat.S_IMODE(facts.st_mode):04o}, so that other users "
                f"have access to it: chmod 600 {path} (and remove the file if others may have read it: a new secret "
                "is then made)"
            )
        if facts.st_uid not in (os.geteuid(), 0):
            raise UnsafeSecretFile(f"{path} holds a secret, but belongs to user {facts.st_uid}: chown it to this user")
        return file.read(largest)


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
