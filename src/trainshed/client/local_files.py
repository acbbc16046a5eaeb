"""The files of this machine that are to be sent to a share, with their hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainshed.client.effects import Blocking, Steps
from trainshed.client.errors import UploadError
from trainshed.client.ignore import IGNORE_FILE, CodeFile, data_files
from trainshed.client.sending import Outgoing, Progress

#: So many bytes, or files, are read between two steps of the progress.
_STEP_BYTES, _STEP_FILES = 64 << 20, 500


@dataclass(frozen=True, slots=True)
class LocalFile(Outgoing):
    """A file to be sent. ``name`` is its path in the share."""

    executable: bool = False


def read_files(source: Path, folder: str, skip: Sequence[Path], progress: Progress | None) -> Steps[list[LocalFile]]:
    """The files below ``source``, or that file alone, as they are to be in ``folder`` of the share.

    Raises UploadError for what cannot be sent, with its name.
    """
    found: list[tuple[CodeFile, int]] = yield Blocking(lambda: list(_find(source, skip)))
    total, done = sum(size for _, size in found), 0
    read: list[LocalFile] = []
    at = 0
    while at < len(found):
        end, amount = at, 0
        while end < len(found) and end - at < _STEP_FILES and amount < _STEP_BYTES:
            amount += found[end][1]
            end += 1
        step = found[at:end]
        read += yield Blocking(lambda step=step: [_read(file, folder) for file, _ in step])  # type: ignore[misc]
        at, done = end, done + amount
        if progress is not None:
            progress("reading", done, total)
    return read


def _find(source: Path, skip: Sequence[Path]) -> Iterator[tuple[CodeFile, int]]:
    try:
        if source.is_file():
            facts = source.stat()
            yield CodeFile(source.name, source, bool(facts.st_mode & 0o111)), facts.st_size
            return
        if not source.is_dir():
            raise UploadError(f"{source} is no file and no folder")
        for file in data_files(source, skip=skip):
            yield file, file.source.stat().st_size
    except OSError as error:
        raise UploadError(f"{error.filename or source} cannot be read: {error.strerror}") from error


def _read(file: CodeFile, folder: str) -> LocalFile:
    try:
        file.path.encode("utf-8")
    except UnicodeEncodeError:
        raise UploadError(
            f"the name {file.path!r} is not UTF-8: rename the file, or name it in {IGNORE_FILE}"
        ) from None
    try:
        with file.source.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
            size = content.tell()
    except OSError as error:
        raise UploadError(f"{file.path} cannot be read: {error.strerror}; or name it in {IGNORE_FILE}") from error
    name = f"{folder}/{file.path}" if folder else file.path
    return LocalFile(name, file.source, digest, size, file.executable)
