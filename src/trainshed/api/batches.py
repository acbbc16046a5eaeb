"""Many small files in one request: a line of JSON that describes them, then their contents, one after the other.

The line is ``{"files": [{"sha256": ..., "size": ...}, ...]}``, with further members that the route names; each content
has as many bytes as its ``size`` says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from trainshed.api.body import parse_object
from trainshed.api.errors import ApiError, invalid_value
from trainshed.api.sha256 import check_sha256
from trainshed.resources.errors import INVALID_REQUEST_CONTENT

#: Largest request in bytes, and most files in it.
LIMIT = 16 << 20
MOST_FILES = 2_000
#: Files that are written together: each is open until all are on the disk.
GROUP = 128
_SHAPE = 'a line {"files": [{"sha256": "...", "size": 12}, ...]}, and after it the contents'

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Content:
    """A file of a batch: how it is described, and its bytes."""

    entry: dict[str, Any]
    data: memoryview

    @property
    def sha256(self) -> str:
        return str(self.entry["sha256"])


async def read_batch(request: Request) -> bytes:
    """The request's body. Raises ApiError 413 when it is too large."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > LIMIT:
        raise _too_large()
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > LIMIT:
                raise _too_large()
    except ClientDisconnect:
        message = "The connection was closed before all files were sent. Send them again."
        raise ApiError(400, INVALID_REQUEST_CONTENT, message) from None
    return bytes(body)


def contents(body: bytes) -> list[Content]:
    """The files of a batch, each with the content that its hash says. Raises ApiError 400."""
    end = body.find(b"\n")
    files = parse_object(body[: end if end >= 0 else len(body)], _SHAPE).get("files")
    if not isinstance(files, list) or not all(isinstance(entry, dict) for entry in files):
        raise invalid_value("files", f"The member files is required: a list of objects. Expected {_SHAPE}.")
    if len(files) > MOST_FILES:
        raise invalid_value("files", f"The request has {len(files):,} files; at most {MOST_FILES:,} are allowed.")
    found = []
    at, whole = end + 1 if end >= 0 else len(body), memoryview(body)
    for index, entry in enumerate(files):
        size = check_size(entry.get("size"), f"files[{index}].size")
        check_sha256(entry.get("sha256"), f"files[{index}].sha256")
        found.append(Content(entry, whole[at : at + size]))
        at += size
    if at != len(body):
        raise ApiError(
            400,
            INVALID_REQUEST_CONTENT,
            f"The sizes of the files say that the body has {at:,} bytes, but it has {len(body):,}. Expected {_SHAPE}.",
            target="files",
        )
    for index, content in enumerate(found):
        digest = hashlib.sha256(content.data).hexdigest()
        if digest != content.sha256:
            raise wrong_content(digest, content.sha256, f"files[{index}].sha256")
    return found


def grouped(files: Sequence[T], work: Callable[[Sequence[T]], None]) -> None:
    """Call ``work`` with so many of the files as may be open at the same time, until none is left."""
    for start in range(0, len(files), GROUP):
        work(files[start : start + GROUP])


def check_size(value: object, target: str) -> int:
    """A size in bytes. Raises ApiError 400."""
    if type(value) is int and 0 <= value < 1 << 63:
        return value
    raise invalid_value(target, f"{str(value)[:50]!r} is not a size. Give the number of bytes.")


def wrong_content(found: str, named: str, target: str) -> ApiError:
    """400 for content that has another hash than it should have."""
    return invalid_value(
        target,
        f"The content sent has SHA-256 {found}, not {named}. It was changed on the way, or the file changed after it "
        "was hashed: hash it again and repeat.",
    )


def _too_large() -> ApiError:
    return ApiError(
        413,
        "RequestEntityTooLarge",
        f"The request is larger than the limit of {LIMIT:,} bytes ({LIMIT >> 20} MiB). Send fewer files at once, and "
        "large ones each in a request of its own.",
        headers={"Connection": "close"},
    )
