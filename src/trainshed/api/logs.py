"""2026-11-01: a job's log file from a byte on, followed until the job has ended and all of it was sent."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from trainshed.api import outputs
from trainshed.api.call import Call
from trainshed.api.errors import ApiError, error_response, invalid_value
from trainshed.api.lookup import find
from trainshed.api.paging import whole_number
from trainshed.resources.directories import STDOUTERR
from trainshed.resources.errors import Problem
from trainshed.resources.lifecycle import JOB
from trainshed.store import jobs
from trainshed.volumes.reading import OpenFile, OutsideRoot, Reader, Unreadable

_PIECE = 256 << 10
#: Seconds between looks at a file that does not grow: short after news, then longer.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.02, 0.2
_LARGEST_OFFSET = 1 << 62


async def get_log(call: Call) -> Response:
    """GET ``logs/{file}?offset=N&length=N&follow=true``: a file of the ``stdouterr`` directory, or below it.

    A file that is not there yet is waited for while the job may still make it (``follow``), else it is 404. Without
    ``follow`` the file is sent as it is now; 416 when ``offset`` is beyond its end.
    """
    key, file = call.job_key, call.part("file")
    if ".." in file.split("/") or file in ("", ".") or file.startswith("/") or "\0" in file:
        raise invalid_value("file", f"'{file}' is no log file's name. Give one such as stdout.txt.")
    offset = whole_number(call, "offset", 0, 0, _LARGEST_OFFSET)
    length = whole_number(call, "length", _LARGEST_OFFSET, 1, _LARGEST_OFFSET)
    follow = _flag(call, "follow")
    record, place = await call.read(lambda tx: outputs.of_job(tx, call, key, STDOUTERR))
    log = _Log(call, record.id, await outputs.reader_of(call, place), file)
    disconnected = asyncio.create_task(_disconnect(call.request.receive)) if follow else None
    try:
        while True:
            final = await log.job_is_final()
            if await log.open():
                break
            if final and not await log.open_anew(await outputs.reader_of(call, place)):
                raise _absent(file, final)
            if final:
                break
            if not follow or call.services.stopping():
                raise _absent(file, final)
            if disconnected is not None and disconnected.done():
                return Response(status_code=499)
            await asyncio.sleep(_LONGEST_PAUSE)
        # A follower of a live job may ask beyond the end: the file will grow.
        if offset > log.size() and (final or not follow):
            problem = Problem("InvalidRange", f"The offset {offset} is beyond the end of {file} ({log.size()} bytes).")
            return error_response(416, problem.to_json())
        return _LogStream(log, offset, length, follow)
    except BaseException:
        log.close()
        raise
    finally:
        if disconnected is not None:
            disconnected.cancel()
            with suppress(asyncio.CancelledError):
                await disconnected


class _Log:
    """One open log file and the job that writes it."""

    def __init__(self, call: Call, job_id: int, reader: Reader, name: str) -> None:
        self.call = call
        self.job_id = job_id
        self.reader = reader
        self.name = name
        self.file: OpenFile | None = None

    async def job_is_final(self) -> bool:
        """Whether nothing will be written any more: the job ended, or was deleted."""
        record = await self.call.read(lambda tx: find(jobs.get_by_id, tx, self.job_id))
        return record is None or record.execution in JOB.final

    async def open(self) -> bool:
        with suppress(OutsideRoot):
            try:
                self.file = await asyncio.to_thread(self.reader.open, self.name)
            except Unreadable as error:
                raise outputs.not_readable(STDOUTERR, str(error)) from None
        return self.file is not None

    async def open_anew(self, reader: Reader) -> bool:
        """By a reader that does not remember what was not there before the job's end."""
        self.reader = reader
        return await self.open()

    def size(self) -> int:
        return 0 if self.file is None else self.file.facts().size

    async def read(self, offset: int, most: int) -> bytes:
        assert self.file is not None
        return await asyncio.to_thread(self.file.read, offset, min(most, _PIECE))

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


class _LogStream(Response):
    """Sends the file as it grows."""

    def __init__(self, log: _Log, offset: int, length: int, follow: bool) -> None:
        self.log = log
        self.offset = offset
        self.left = length
        self.follow = follow
        super().__init__(None, 200, {"Content-Type": "application/octet-stream", "X-Accel-Buffering": "no"})
        # The length is not known: the answer ends when the log does.
        self.raw_headers = [header for header in self.raw_headers if header[0] != b"content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_disconnect(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            pause = _SHORTEST_PAUSE
            while not gone.done():
                # Asked before the file is read: what a job wrote before it ended is then read for certain.
                over = not self.follow or self.log.call.services.stopping() or await self.log.job_is_final()
                if await self._send_new(send, gone):
                    pause = _SHORTEST_PAUSE
                if over or not self.left:
                    break
                await asyncio.wait([gone], timeout=pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE)
            if not gone.done():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self.log.close()
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone

    async def _send_new(self, send: Send, gone: asyncio.Task[None]) -> bool:
        sent = False
        while not gone.done() and (piece := await self.log.read(self.offset, self.left)):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            self.offset += len(piece)
            self.left -= len(piece)
            sent = True
        return sent


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _flag(call: Call, name: str) -> bool:
    given = call.query.get(name, "false").lower()
    if given not in ("true", "false"):
        raise invalid_value(
            name, f"The value '{given[:50]}' of the query parameter {name} is not allowed. Give true or false."
        )
    return given == "true"


def _absent(file: str, final: bool) -> ApiError:
    way_out = (
        "The job has ended and did not write it. List the output directory 'stdouterr' to see its log files."
        if final
        else "The job has not written it yet. Add follow=true to wait for it."
    )
    return ApiError(404, "LogFileNotFound", f"The log file '{file[:200]}' does not exist. {way_out}", target="file")
