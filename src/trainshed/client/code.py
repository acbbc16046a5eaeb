"""Sending a folder's code: files are named by their content, and only those that the service lacks travel."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainshed.client.connection import home_directory
from trainshed.client.effects import Blocking, Steps
from trainshed.client.errors import CodeFolderError
from trainshed.client.ignore import CodeFile, code_files
from trainshed.client.noun import M, Noun, operation
from trainshed.client.sending import Outgoing, put, send_files
from trainshed.client.transport import request, send

#: The service's limit for one file, in bytes.
LARGEST_FILE = 1 << 30
#: Hashes asked for in one request: far below the limit of a body.
_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Code as the service keeps it. ``sent``: how many files travelled this time; sizes in bytes."""

    id: str
    files: int
    size: int
    sent: int
    sent_size: int


#: Called with (files sent, files to send) while an upload goes on.
Progress = Callable[[int, int], None]


class Code(Noun[M]):
    """Code for the jobs of the scope's workspace."""

    @operation
    def upload(
        self, folder: str | Path, *, skip: Sequence[Path] | None = None, progress: Progress | None = None
    ) -> Steps[Snapshot]:
        """Send the folder's code, honouring ``.trainshedignore`` or ``.gitignore``; the snapshot's id goes into
        a job's ``codeSnapshot``. Raises CodeFolderError for what cannot be sent, with its name.
        """
        root = Path(folder)
        skipped = [home_directory()] if skip is None else skip
        manifest, sources = yield Blocking(lambda: read_folder(root, skipped))
        base = f"{self.scope.workspace_path()}/code"
        missing = yield from _missing(base, sorted(sources))
        sent = 0

        def tell(files: int, _: int) -> None:
            nonlocal sent
            sent += files
            if progress is not None:
                progress(sent, len(missing))

        yield from send_files(
            [sources[digest] for digest in missing],
            f"{base}/blobs",
            lambda _: {},
            lambda file: put(f"{base}/blobs/{file.sha256}", {}, file),
            tell,
        )
        snapshot = snapshot_id(manifest)
        yield from send(request("PUT", f"{base}/snapshots/{snapshot}", body=manifest))
        total = sum(sources[entry["sha256"]].size for entry in manifest.values())
        sent_size = sum(sources[digest].size for digest in missing)
        return Snapshot(snapshot, len(manifest), total, len(missing), sent_size)


def snapshot_id(manifest: dict[str, Any]) -> str:
    """SHA-256 of the manifest's canonical JSON: keys in order, no spaces."""
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_folder(root: Path, skip: Sequence[Path]) -> tuple[dict[str, Any], dict[str, Outgoing]]:
    """The manifest (path -> sha256 and mode) and, by hash, where the content is."""
    if not root.is_dir():
        raise CodeFolderError(f"{root} is not a folder")
    manifest: dict[str, Any] = {}
    sources: dict[str, Outgoing] = {}
    for file in code_files(root, skip=skip):
        digest, size = _hash(file)
        manifest[file.path] = {"sha256": digest, "mode": 0o755 if file.executable else 0o644}
        sources[digest] = Outgoing(file.path, file.source, digest, size)
    return manifest, sources


def _hash(file: CodeFile) -> tuple[str, int]:
    try:
        file.path.encode("utf-8")
        if file.source.stat().st_size > LARGEST_FILE:
            raise CodeFolderError(
                f"{file.path} is larger than {LARGEST_FILE >> 30} GiB: name it in .trainshedignore, "
                "and let the job read it from a volume"
            )
        with file.source.open("rb") as source:
            return hashlib.file_digest(source, "sha256").hexdigest(), source.tell()
    except UnicodeEncodeError:
        raise CodeFolderError(f"the name {file.path!r} is not UTF-8: rename the file or ignore it") from None
    except OSError as error:
        raise CodeFolderError(f"{file.path} cannot be read: {error.strerror}; name it in .trainshedignore") from error


def _missing(base: str, digests: list[str]) -> Steps[list[str]]:
    missing: list[str] = []
    for start in range(0, len(digests), _BATCH):
        body = {"sha256": digests[start : start + _BATCH]}
        reply = yield from send(request("POST", f"{base}/missing", body=body))
        missing.extend(reply.json()["missing"])
    return missing
