"""Files of shares and containers of embedded storage accounts: sending what is not there yet, listing, fetching."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from trainshed.client.connection import home_directory
from trainshed.client.effects import Blocking, Request, Steps
from trainshed.client.errors import DownloadError, ServiceError
from trainshed.client.files import LINK_MINUTES, Downloaded, entries, fetch_tree
from trainshed.client.files import Progress as FileProgress
from trainshed.client.local_files import LocalFile, read_files
from trainshed.client.models import File
from trainshed.client.noun import M, Noun, listing, operation
from trainshed.client.sending import Outgoing, Progress, put, send_files
from trainshed.client.transport import Query, pages, request, send

#: Files, and bytes of files, that one question is about: the service may have to read them all.
_ASKED_FILES, _ASKED_BYTES = 5_000, 32 << 30
#: Bytes a second that the service reads at least.
_SLOWEST = 50 << 20


@dataclass(frozen=True, slots=True)
class Comparison:
    """What of a folder is to be sent to a share, and what the share has beyond it. ``path`` is the share's folder."""

    account: str
    share: str
    container: bool
    path: str
    #: Files of the folder, and their bytes.
    files: int
    size: int
    missing: tuple[LocalFile, ...]
    #: Paths in the share; empty unless asked for.
    extra: tuple[str, ...] = ()

    @property
    def missing_size(self) -> int:
        """In bytes."""
        return sum(file.size for file in self.missing)

    @property
    def json(self) -> Mapping[str, Any]:
        """For output."""
        return {
            "account": self.account,
            "container" if self.container else "share": self.share,
            "path": self.path,
            "files": self.files,
            "size": self.size,
            "sent": [file.name for file in self.missing],
            "sentSize": self.missing_size,
            "removed": list(self.extra),
        }


class StorageFiles(Noun[M]):
    """Files of the storage accounts of the scope's resource group. ``container``: of a container, not a file share.

    Only accounts of this service have files here: those in Azure are reached through jobs that mount them.
    """

    @operation
    def compare(
        self,
        source: str | Path,
        account: str,
        share: str,
        *,
        path: str = "",
        container: bool = False,
        extra: bool = False,
        skip: Sequence[Path] | None = None,
        progress: Progress | None = None,
    ) -> Steps[Comparison]:
        """What ``send`` would send of a file or of a folder's files, honouring ``.trainshedignore``. Changes nothing.

        A file goes into the folder ``path`` of the share, a folder's files likewise. ``extra``: also look for what is
        there and not here. ``progress`` is called with what is done, how much of it, and how much there is. Raises
        UploadError for what cannot be sent.
        """
        inside, root = path.strip("/"), Path(source)
        skipped = [home_directory()] if skip is None else skip
        files = yield from read_files(root, inside, skipped, progress)
        base = self.scope.share_path(account, share, container=container)
        missing: set[str] = set()
        for asked in _questions(files):
            missing.update((yield from _missing(base, asked)))
        beyond: tuple[str, ...] = ()
        if extra:
            there = yield from _all_paths(base, inside)
            beyond = yield Blocking(lambda: tuple(_not_here(there, {file.name for file in files}, root, inside)))
        return Comparison(
            account,
            share,
            container,
            inside,
            len(files),
            sum(file.size for file in files),
            tuple(file for file in files if file.name in missing),
            beyond,
        )

    @operation
    def send(self, comparison: Comparison, *, progress: Progress | None = None) -> Steps[Comparison]:
        """Send what a comparison found missing, and remove what is extra. What was sent before a failure stays.

        Raises UploadError when a file was changed meanwhile.
        """
        base = self.scope.share_path(comparison.account, comparison.share, container=comparison.container)
        whole, done = comparison.missing_size, 0

        def travelled(size: int) -> None:
            nonlocal done
            done = min(done + size, whole)
            if progress is not None and size:
                progress("sending", done, whole)

        def alone(file: Outgoing) -> Request:
            query = {"path": file.name, "sha256": file.sha256, **_flag(file)}
            return put(f"{base}/content", query, file, travelled)

        yield from send_files(
            comparison.missing,
            f"{base}/content",
            lambda file: {"path": file.name, **({"executable": True} if _flag(file) else {})},
            alone,
            lambda _, size: travelled(size),
        )
        for start in range(0, len(comparison.extra), _ASKED_FILES):
            body = {"paths": comparison.extra[start : start + _ASKED_FILES]}
            yield from send(request("POST", f"{base}/remove", body=body))
        return comparison

    @operation
    def upload(
        self,
        source: str | Path,
        account: str,
        share: str,
        *,
        path: str = "",
        container: bool = False,
        skip: Sequence[Path] | None = None,
        progress: Progress | None = None,
    ) -> Steps[Comparison]:
        """``compare`` and ``send``: afterwards the share has the files. What it has already does not travel."""
        found = yield from StorageFiles.compare.steps(
            self, source, account, share, path=path, container=container, skip=skip, progress=progress
        )
        return (yield from StorageFiles.send.steps(self, found, progress=progress))

    @listing(File)
    def list(self, account: str, share: str, *, path: str = "", container: bool = False) -> Steps[None]:
        """One level of a share, with links that live for an hour. Raises NotFoundError where there is no share."""
        base = self.scope.share_path(account, share, container=container)
        yield from pages(request("GET", f"{base}/content", query={"directory": path.strip("/")}), File)

    @listing(Downloaded)
    def download(
        self,
        account: str,
        share: str,
        to: str | Path,
        *,
        path: str = "",
        container: bool = False,
        progress: FileProgress | None = None,
    ) -> Steps[None]:
        """Fetch a folder of a share with all below it, or one file, into ``to``; yields each file when it is complete.

        What an earlier, broken download left is continued. Raises DownloadError when there is nothing at ``path``.
        """
        base, inside = self.scope.share_path(account, share, container=container), path.strip("/")
        only: list[str] | None = None
        if inside and not (yield from _level(base, inside)):
            folder, _, name = inside.rpartition("/")
            if not any(file.name == name and not file.is_directory for file in (yield from _level(base, folder))):
                raise DownloadError(f"there is no file and no folder {inside} in {account}/{share}")
            inside, only = folder, [name]
        yield from fetch_tree(partial(_level, base), inside, Path(to), only, progress)


def _flag(file: Outgoing) -> dict[str, str]:
    return {"executable": "true"} if isinstance(file, LocalFile) and file.executable else {}


def _questions(files: Sequence[LocalFile]) -> Iterator[list[LocalFile]]:
    asked: list[LocalFile] = []
    size = 0
    for file in files:
        if asked and (len(asked) == _ASKED_FILES or size + file.size > _ASKED_BYTES):
            yield asked
            asked, size = [], 0
        asked.append(file)
        size += file.size
    if asked:
        yield asked


def _missing(base: str, files: Sequence[LocalFile]) -> Steps[list[str]]:
    described = [
        {"path": file.name, "sha256": file.sha256, "size": file.size, "executable": file.executable} for file in files
    ]
    asked = request("POST", f"{base}/missing", body={"files": described})
    patience = asked.timeout + sum(file.size for file in files) / _SLOWEST
    missing: list[str] = (yield from send(replace(asked, timeout=patience))).json()["missing"]
    return missing


def _level(base: str, inside: str) -> Steps[list[File]]:
    query: Query = {"directory": inside, "linkexpiryinminutes": LINK_MINUTES}
    return (yield from entries(request("GET", f"{base}/content", query=query)))


def _all_paths(base: str, inside: str) -> Steps[list[str]]:
    """The paths of all files below a folder; none where there is no such share."""
    found: list[str] = []
    waiting = [inside]
    while waiting:
        folder = waiting.pop()
        try:
            level = yield from _level(base, folder)
        except ServiceError as error:
            if error.code in ("ShareNotFound", "ContainerNotFound"):
                return []
            raise
        for file in level:
            path = f"{folder}/{file.name}" if folder else file.name
            (waiting if file.is_directory else found).append(path)
    return sorted(found)


def _not_here(there: Sequence[str], names: set[str], root: Path, inside: str) -> Iterator[str]:
    """What the share has and the folder has not; what the folder has and does not send (ignored) stays."""
    for path in there:
        here = root / path[len(inside) + 1 if inside else 0 :]
        if path not in names and not (root.is_dir() and (here.exists() or here.is_symlink())):
            yield path
