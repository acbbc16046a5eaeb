"""Puts the job's code snapshot into ``{AZ_BATCHAI_JOB_TEMP}/code``, which becomes the working directory.

Files are copied (the kernel shares blocks where it can), never linked: a job that edits its code must not change the
store's. Each is checked against its SHA-256 on the way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from trainshed.resources.reasons import ReasonCode
from trainshed.runner.failure import AttemptEnded, failed
from trainshed.runner.hands import Hands

DIRECTORY = "code"
_CHUNK = 1 << 20


def blob_path(store: str, sha256: str) -> str:
    """Where the store keeps the file with this content."""
    return f"{store}/{sha256[:2]}/{sha256}"


def materialise(store: str, manifest: Mapping[str, Mapping[str, Any]], target: str, hands: Hands) -> None:
    """Make the tree of the manifest (path -> ``{"sha256", "mode"}``). Raises AttemptEnded (JobCodeUnavailable).

    The store is read with the runner's rights, the tree made with those of ``hands``.
    """
    made: set[str] = set()
    for path, entry in manifest.items():
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or not pure.parts:
            raise _unavailable(path, "the path leads out of the code folder")
        destination = f"{target}/{pure}"
        folder = destination.rpartition("/")[0]
        try:
            if folder not in made:
                hands.make_directory(folder)
                made.add(folder)
            mode = int(entry.get("mode", 0o644)) & 0o777
            found = _copy(blob_path(store, entry["sha256"]), hands.create(destination, mode | 0o600))
        except OSError as error:
            raise _unavailable(path, f"{error.strerror}: {error.filename}") from error
        if found != entry["sha256"]:
            raise _unavailable(path, f"its content has SHA-256 {found}, not {entry['sha256']}: the store is damaged")


def _copy(source: str, destination: int) -> str:
    digest = hashlib.sha256()
    with open(destination, "wb", buffering=0) as writing:
        with open(source, "rb", buffering=0) as reading:
            while chunk := reading.read(_CHUNK):
                digest.update(chunk)
                view = memoryview(chunk)
                while view:
                    view = view[writing.write(view) :]
    return digest.hexdigest()


def _unavailable(path: str, why: str) -> AttemptEnded:
    return failed(
        ReasonCode.JOB_CODE_UNAVAILABLE,
        f"The job's code cannot be put on the node: {path}: {why}. Send the code again and submit a new job.",
        {"path": path},
    )
