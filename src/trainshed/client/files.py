"""Downloading output files: whole directories, by ranges, taken up again where they broke, and never half a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trainshed.client.effects import Blocking, Close, Emit, Read, Relocate, Request, Sleep, Steps, TransportFailure
from trainshed.client.errors import DownloadError, error_from_reply
from trainshed.client.models import File
from trainshed.client.noun import M, Noun, listing
from trainshed.client.transport import Query, open_stream, request, send

_ATTEMPTS = 5
#: Called with (where the file will be, how many of its bytes are there, its size) while a download goes on.
Progress = Callable[[Path, int, int], None]

#: Lists one level of a directory, given by its path.
Level = Callable[[str], Steps[list[File]]]
#: Longest life of links, in minutes: a download may take as long.
LINK_MINUTES = 600


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that is now on this machine. ``fetched``: how many of its bytes had to be read this time."""

    path: Path
    size: int
    fetched: int


class Files(Noun[M]):
    """The files of a job's output directories."""

    @listing(Downloaded)
    def download(
        self,
        job: str,
        output_id: str,
        to: str | Path,
        *,
        directory: str = ".",
        only: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> Steps[None]:
        """Download an output directory with all below it; yields each file when it is complete.

        A file appears under its name only when it is whole. What an earlier, broken download left is continued;
        what it had completed is not read again. ``only``: names of the top directory to take.
        Raises DownloadError when a name would lead out of ``to``.
        """
        path = f"{self.scope.job_path(job)}/listOutputFiles"

        def level(inside: str) -> Steps[list[File]]:
            query: Query = {"outputdirectoryid": output_id, "directory": inside, "linkexpiryinminutes": LINK_MINUTES}
            return (yield from entries(request("POST", path, query=query)))

        yield from fetch_tree(level, directory, Path(to), only, progress)


def fetch_tree(
    level: Level, directory: str, target: Path, only: Sequence[str] | None, progress: Progress | None
) -> Steps[None]:
    """Emit each file of a directory and of all below it once it is complete; ``level`` lists one of them."""
    waiting: list[tuple[str, Path]] = [(directory, target)]
    top = True
    while waiting:
        inside, folder = waiting.pop(0)
        files = yield from level(inside)
        yield Blocking(partial(folder.mkdir, parents=True, exist_ok=True))
        for file in files:
            if top and only is not None and file.name not in only:
                continue
            place = folder / safe_name(file.name)
            if file.is_directory:
                waiting.append((f"{inside}/{file.name}" if inside not in ("", ".") else file.name, place))
            else:
                done = yield from _fetch(file, place, progress)
                yield Emit(done)
        top = False


def safe_name(name: str) -> str:
    """The name, if it is one plain path segment. Raises DownloadError."""
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise DownloadError(f"the service lists a file named {name!r}, which would lead out of the folder")
    return name


def entries(first: Request) -> Steps[list[File]]:
    """All entries of a directory, following its pages."""
    asked = first
    found: list[File] = []
    while True:
        answer = (yield from send(asked)).json()
        found.extend(File(entry) for entry in answer.get("value") or ())
        if not answer.get("nextLink"):
            return found
        asked = Request(first.method, answer["nextLink"])


def _fetch(file: File, place: Path, progress: Progress | None) -> Steps[Downloaded]:
    size = file.size or 0
    modified = file.modified.timestamp() if file.modified else None
    if modified is not None and (yield Blocking(lambda: _is_there(place, size, modified))):
        return Downloaded(place, size, 0)
    part = place.with_name(f".{place.name[:200]}.{_fingerprint(file)}.part")
    had: int = yield Blocking(lambda: _size(part))
    if had > size:
        yield Blocking(lambda: part.unlink())
        had = 0
    start = had
    tell = None if progress is None else partial(progress, place)
    for _ in range(_ATTEMPTS):
        had = yield from _append(file, part, had, size, tell)
        if had >= size:
            break
        yield Sleep(0.3)
        yield Relocate()
    else:
        raise DownloadError(
            f"{place.name} broke off at byte {had} of {size}; the same command again continues from there"
        )
    yield Blocking(lambda: _complete(part, place, modified))
    return Downloaded(place, had, had - start)


def _append(file: File, part: Path, had: int, size: int, tell: Callable[[int, int], None] | None) -> Steps[int]:
    """Read from byte ``had`` on, at most to ``size`` (the file may grow meanwhile); how many bytes there are then."""
    if had >= size:
        yield Blocking(lambda: part.touch())
        return had
    if file.download_url is None:
        raise DownloadError(f"the service gave no link for {file.name}")
    headers = {"Range": f"bytes={had}-{size - 1}", "Accept-Encoding": "identity"}
    stream = yield from open_stream(Request("GET", file.download_url, headers=headers, authorised=False))
    if stream.status >= 400:
        body = yield Read(stream)
        raise error_from_reply(stream.status, body)
    # 200: ranges are not supported there, and the file comes from its beginning.
    at = had if stream.status == 206 else 0
    sink = yield Blocking(lambda: part.open("ab" if at else "wb"))
    try:
        while at < size:
            piece: bytes = yield Read(stream)
            if not piece:
                break
            piece = piece[: size - at]
            yield Blocking(partial(sink.write, piece))
            at += len(piece)
            if tell is not None:
                tell(at, size)
    except TransportFailure:
        pass
    finally:
        sink.close()
    yield Close(stream)
    return at


def _fingerprint(file: File) -> str:
    """Ties a part to the file that it is of: the path in its link (which holds the job's own id), time and size."""
    link = (file.download_url or "").partition("?")[0]
    path = link.split("://", 1)[-1].partition("/")[2]
    told = f"{path}\n{file.json.get('properties')}"
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _is_there(place: Path, size: int, modified: float) -> bool:
    try:
        found = place.stat()
    except FileNotFoundError:
        return False
    return found.st_size == size and int(found.st_mtime) == int(modified)


def _complete(part: Path, place: Path, modified: float | None) -> None:
    with part.open("rb") as written:
        os.fsync(written.fileno())
    if modified is not None:
        os.utime(part, (modified, modified))
    part.replace(place)
