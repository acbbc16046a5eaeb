"""Following a download link: no token, byte ranges, and a growing file as it is now (rest-contract section 9)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path
from urllib.parse import unquote

from sqlalchemy import Connection
from starlette.responses import Response, StreamingResponse

from trainshed.api import outputs
from trainshed.api.call import Call
from trainshed.api.errors import ApiError, error_response
from trainshed.api.gate import FILES_PREFIX
from trainshed.api.lookup import find
from trainshed.api.ranges import RangeNotSatisfiable, parse_range
from trainshed.identity import LinkRefused
from trainshed.resources.errors import Problem
from trainshed.store import jobs, storage_accounts
from trainshed.volumes.embedded import account_path
from trainshed.volumes.reading import DirectoryReader, OpenFile, OutsideRoot, Reader, Unreadable

_PIECE = 1 << 20


async def get_file(call: Call) -> Response:
    """GET or HEAD: 200, 206 with only the range asked for, or 416 when it begins at or after the end."""
    # File names may hold bytes that are no UTF-8; the raw path still has them.
    raw: bytes = call.request.scope.get("raw_path") or call.path.encode()
    path = unquote(raw.partition(b"?")[0].decode("latin-1"), errors="surrogateescape")
    _check_link(call, path)
    uid, directory_id, relative = path.removeprefix(FILES_PREFIX).split("/", 2)
    reader, inside = await _reader(call, uid, directory_id, relative)
    try:
        file = await asyncio.to_thread(reader.open, inside)
    except OutsideRoot:
        file = None
    except Unreadable as error:
        raise outputs.not_readable(directory_id, str(error)) from None
    if file is None:
        raise ApiError(404, "FileNotFound", f"The file '{relative}' does not exist (any more). List the files anew.")
    try:
        return _answer(call, file)
    except BaseException:
        file.close()
        raise


async def _reader(call: Call, uid: str, directory: str, path: str) -> tuple[Reader, str]:
    """What reads a job's output directory, or a share (of ``files`` or ``blobs``) of a storage account, and where."""
    share, _, below = path.partition("/")

    def query(tx: Connection) -> outputs.Place | Path:
        record = find(jobs.get_by_uid, tx, uid)
        if record is not None:
            return outputs.place_of(tx, call.services, record, directory)
        account = find(storage_accounts.get_by_uid, tx, uid)
        if account is not None:
            return call.services.home / account_path(account.name) / directory / share
        raise ApiError(
            404,
            "JobNotFound",
            "The job or storage account that this link belongs to was deleted. A job's files stay on their volume.",
        )

    place = await call.read(query)
    if isinstance(place, Path):
        return DirectoryReader(str(place), str(place)), below
    return await outputs.reader_of(call, place), path


def _check_link(call: Call, path: str) -> None:
    try:
        call.services.links.check(path, call.query, call.now())
    except LinkRefused as refusal:
        raise ApiError(
            403,
            "AuthenticationFailed",
            f"The link is not valid: {refusal}. List the output files again to get new links.",
            target="sig",
        ) from None


def _answer(call: Call, file: OpenFile) -> Response:
    facts = file.facts()
    size = facts.size
    etag = f'"{facts.modified_ns:x}-{size:x}"'
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Disposition": "attachment",
        "ETag": etag,
        "Last-Modified": formatdate(facts.modified_ns // 1_000_000_000, usegmt=True),
    }
    asked = call.request.headers.get("range")
    if call.request.headers.get("if-range") not in (None, etag, headers["Last-Modified"]):
        asked = None
    try:
        part = parse_range(asked, size)
    except RangeNotSatisfiable:
        file.close()
        problem = Problem("InvalidRange", f"The range '{asked}' begins at or after the end of the file ({size} bytes).")
        return error_response(416, problem.to_json(), {"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"})
    start, end = part or (0, size)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    status = 200 if part is None else 206
    if call.request.method == "HEAD" or start == end:
        file.close()
        return Response(b"", status, headers, "application/octet-stream")
    return StreamingResponse(_pieces(file, start, end), status, headers, "application/octet-stream")


async def _pieces(file: OpenFile, start: int, end: int) -> AsyncIterator[bytes]:
    """The bytes from ``start`` to before ``end``; fewer when the file shrinks meanwhile."""
    try:
        while start < end:
            piece = await asyncio.to_thread(file.read, start, min(_PIECE, end - start))
            if not piece:
                return
            start += len(piece)
            yield piece
    finally:
        file.close()
