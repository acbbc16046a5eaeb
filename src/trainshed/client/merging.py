"""Several logs of a job as one: line by line in the order of their times, live, taken up again where it broke.

The service is asked for what has grown, and then for those bytes, so a follower needs no connection for each log, and
an answer that is lost or cut short is just asked for again: nothing is lost, nothing comes twice.
"""

from __future__ import annotations

import heapq
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any, TypeAlias
from urllib.parse import quote

from trainshed.client.effects import Emit, Relocate, Reply, Sleep, Steps
from trainshed.client.errors import ServiceError, ServiceUnreachableError
from trainshed.client.models import Log
from trainshed.client.transport import Query, may_be_repeated, request, send
from trainshed.resources.joblogs import LogTimes

#: How long, in seconds, a follower stays with a service that does not answer (time for it to be restarted).
PATIENCE = 120.0
#: Bytes that are asked for at once, and the longest line that is kept whole.
PIECE, LONGEST_LINE = 256 << 10, 1 << 20
_PAUSES = (0.1, 0.2, 0.3)
#: Bytes before the first wanted one that are read too, for the line that they begin.
_BEFORE = 64 << 10
_LATER = 1 << 62

Wanted: TypeAlias = Callable[[Log], bool]


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of one log, without its end. ``time``: when it was there, to about 0.2 s; None for just now."""

    log: Log
    text: bytes
    time: datetime | None


@dataclass(slots=True)
class _Reader:
    """How far one log has been read."""

    log: Log
    order: int
    asked: int = 0
    buffer: bytearray = field(default_factory=bytearray)

    def take(self, *, last: bool) -> bytes | None:
        """The next line with its end, if all of it is there; ``last``: what is there is all there will be."""
        cut = self.buffer.find(b"\n") + 1
        if not cut and (len(self.buffer) >= LONGEST_LINE or (last and self.asked >= self.log.size)):
            cut = len(self.buffer)
        if not cut:
            return None
        line = bytes(self.buffer[:cut])
        del self.buffer[:cut]
        return line


def merge(
    job_path: str,
    wanted: Wanted,
    *,
    follow: bool,
    since: datetime | None = None,
    matching: re.Pattern[bytes] | None = None,
    tail: int | None = None,
) -> Steps[None]:
    """Emit the lines of the wanted logs.

    ``since`` leaves out what was there before, ``matching`` the lines in which it is not found; ``tail`` leaves out
    all but the last of what there is at first.
    """
    merging = _Merging(job_path, wanted, follow, since, matching)
    quiet = 0
    while True:
        listing = yield from merging.ask(f"{job_path}/logs")
        seen = listing.json()
        complete = bool(seen["complete"])
        moved = yield from merging.look(seen["value"], last=complete or not follow, tail=tail)
        tail = None
        if complete or not follow:
            return
        quiet = 0 if moved else quiet + 1
        yield Sleep(_PAUSES[min(quiet, len(_PAUSES) - 1)])


class _Merging:
    def __init__(
        self, job_path: str, wanted: Wanted, follow: bool, since: datetime | None, matching: re.Pattern[bytes] | None
    ) -> None:
        self._job_path = job_path
        self._wanted = wanted
        self._follow = follow
        self._since = None if since is None else int(since.timestamp() * 1000)
        self._matching = matching
        self._readers: dict[str, _Reader] = {}
        self._times: dict[str, LogTimes] = {}
        self._times_read: dict[str, int] = {}

    def ask(self, path: str, query: Query | None = None) -> Steps[Reply]:
        """GET, for as long as a follower's patience lasts."""
        began = monotonic()
        while True:
            try:
                return (yield from send(request("GET", path, query=query)))
            except ServiceUnreachableError:
                if not self._follow or monotonic() - began > PATIENCE:
                    raise
            except ServiceError as error:
                if not self._follow or not may_be_repeated(error.status) or monotonic() - began > PATIENCE:
                    raise
            yield Sleep(1.0)
            yield Relocate()

    def look(self, listed: list[Mapping[str, Any]], *, last: bool, tail: int | None) -> Steps[bool]:
        """Emit the lines that are new in these logs; whether there were any."""
        logs = [log for log in map(Log, listed) if self._wanted(log)]
        for log in logs:
            if log.times:
                yield from self._read_times(log.times, log.times_size)
        heap: list[tuple[int, int, LogLine]] = []
        readers: list[_Reader] = []
        for log in logs:
            reader = self._reader(log)
            readers.append(reader)
            yield from self._push(heap, reader, last)
        kept: deque[LogLine] | None = None if tail is None else deque(maxlen=tail)
        moved = bool(heap)
        by_order = {reader.order: reader for reader in readers}
        while heap:
            _, order, line = heapq.heappop(heap)
            if kept is None:
                yield Emit(line)
            else:
                kept.append(line)
            yield from self._push(heap, by_order[order], last)
        for line in kept or ():
            yield Emit(line)
        return moved

    def _reader(self, log: Log) -> _Reader:
        reader = self._readers.get(log.name)
        if reader is None:
            reader = self._readers[log.name] = _Reader(log, len(self._readers))
            if self._since is not None and log.times:
                reader.asked = max(0, self._times[log.times].size_before(log.name, self._since) - _BEFORE)
        reader.log = log
        return reader

    def _push(self, heap: list[tuple[int, int, LogLine]], reader: _Reader, last: bool) -> Steps[None]:
        """The reader's next line that is late enough goes to the heap, if there is one."""
        while True:
            end = reader.asked - len(reader.buffer)
            text = reader.take(last=last)
            if text is None:
                if reader.asked >= reader.log.size or not (yield from self._read_on(reader)):
                    return
                continue
            time = self._when(reader.log, end + len(text), last)
            if self._since is not None and time is not None and time < self._since:
                continue
            if self._matching is not None and self._matching.search(text.removesuffix(b"\n")) is None:
                continue
            moment = None if time is None else datetime.fromtimestamp(time / 1000, UTC)
            line = LogLine(reader.log, text.removesuffix(b"\n"), moment)
            heapq.heappush(heap, (_LATER if time is None else time, reader.order, line))
            return

    def _when(self, log: Log, end: int, last: bool) -> int | None:
        found = self._times[log.times].when(log.name, end) if log.times in self._times else None
        if found is None and last and log.last_modified is not None:
            return int(log.last_modified.timestamp() * 1000)
        return found

    def _read_on(self, reader: _Reader) -> Steps[bool]:
        piece = yield from self._piece(reader.log.name, reader.asked)
        reader.buffer += piece
        reader.asked += len(piece)
        return bool(piece)

    def _read_times(self, name: str, size: int) -> Steps[None]:
        times = self._times.setdefault(name, LogTimes())
        while (at := self._times_read.get(name, 0)) < size:
            piece = yield from self._piece(name, at)
            if not piece:
                return
            times.feed(piece)
            self._times_read[name] = at + len(piece)

    def _piece(self, name: str, offset: int) -> Steps[bytes]:
        """Bytes of a file; none when it has gone or become shorter."""
        try:
            path = f"{self._job_path}/logs/{quote(name)}"
            return (yield from self.ask(path, {"offset": offset, "length": PIECE})).body
        except ServiceError as error:
            if error.status in (404, 416):
                return b""
            raise
