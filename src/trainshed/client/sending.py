"""Sending many files: small ones together, large ones each in a request of its own, each checked by its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from trainshed.client.effects import Blocking, Request, Steps
from trainshed.client.errors import UploadError
from trainshed.client.transport import API_VERSION, send

#: Files up to so many bytes go together; so many bytes and files in one request (the service takes twice as much).
SMALL, TOGETHER, MOST_TOGETHER = 512 << 10, 8 << 20, 1_000
#: Longest silence in seconds: the service puts all on the disk before it answers.
_PATIENCE = 600.0

#: Called with what is done ("reading", "sending"), how many bytes of it, and how many there are.
Progress = Callable[[str, int, int], None]
#: Called with the bytes that travelled since the last call.
Tell = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A file to be sent. Size in bytes, as it was when it was hashed."""

    name: str
    source: Path
    sha256: str
    size: int


def send_files(
    files: Sequence[Outgoing],
    together: str,
    describe: Callable[[Outgoing], Mapping[str, Any]],
    alone: Callable[[Outgoing], Request],
    tell: Callable[[int, int], None] | None = None,
) -> Steps[None]:
    """Send all of them. ``together`` is the path that takes batches, ``describe`` what it is told of each file.

    ``tell`` is called with files and bytes that travelled since it was called last. Raises UploadError for a file that
    was changed after it was hashed.
    """
    for group in _groups([file for file in files if file.size <= SMALL]):
        body = yield Blocking(partial(_body, group, describe))
        yield from send(
            Request("POST", together, {"api-version": API_VERSION}, body=body, headers=_OCTETS, timeout=_PATIENCE)
        )
        if tell is not None:
            tell(len(group), sum(file.size for file in group))
    for file in files:
        if file.size > SMALL:
            yield from send(alone(file))
            if tell is not None:
                tell(1, 0)


def put(path: str, query: Mapping[str, str], file: Outgoing, tell: Tell | None = None) -> Request:
    """The request that sends one file."""
    members = {"api-version": API_VERSION, **query}
    return Request("PUT", path, members, file=file.source, timeout=_PATIENCE, tell=tell)


_OCTETS = {"Content-Type": "application/octet-stream"}


def _groups(files: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    group: list[Outgoing] = []
    size = 0
    for file in files:
        if group and (size + file.size > TOGETHER or len(group) == MOST_TOGETHER):
            yield group
            group, size = [], 0
        group.append(file)
        size += file.size
    if group:
        yield group


def _body(group: Sequence[Outgoing], describe: Callable[[Outgoing], Mapping[str, Any]]) -> bytes:
    contents = []
    for file in group:
        try:
            content = file.source.read_bytes()
        except OSError as error:
            raise UploadError(f"{file.name} cannot be read: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise UploadError(f"{file.name} was changed while it was sent; the same command again sends what is new")
        contents.append(content)
    files = [{"sha256": file.sha256, "size": file.size, **describe(file)} for file in group]
    line = json.dumps({"files": files}, separators=(",", ":"), ensure_ascii=False)
    return b"".join([line.encode(), b"\n", *contents])
