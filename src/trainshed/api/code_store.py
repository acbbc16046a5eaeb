"""Uploaded code on disk: files named by their SHA-256, written whole and durably or not at all.

Layout below ``{home}/code``: ``{first two digits}/{sha256}``, as the runner reads it; drafts are in ``incoming``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import AsyncIterator, Iterable
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

from trainshed.api.errors import ApiError, invalid_value

#: Largest file in bytes.
LARGEST_FILE = 1 << 30
#: Most files of a snapshot, and the longest of their paths.
MOST_FILES = 100_000
_LONGEST_PATH = 4096
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_sha256(text: object, target: str) -> str:
    """The hash, if it is one. Raises ApiError 400."""
    if isinstance(text, str) and _SHA256.fullmatch(text):
        return text
    raise invalid_value(target, f"{str(text)[:100]!r} is not a SHA-256. Give 64 hexadecimal digits in lower case.")


def missing(store: Path, hashes: Iterable[str]) -> list[str]:
    """Those of the hashes whose files the store lacks, each once, in the order given."""
    return [digest for digest in dict.fromkeys(hashes) if not blob_path(store, digest).is_file()]


def blob_path(store: Path, sha256: str) -> Path:
    """Where the file with this content lies."""
    return store / sha256[:2] / sha256


class IncomingBlob:
    """A file while it arrives. Left without ``commit``, it leaves nothing behind. Methods block on the disk."""

    def __init__(self, store: Path, sha256: str) -> None:
        self.store = store
        self.sha256 = sha256
        self.size = 0
        self._digest = hashlib.sha256()
        folder = store / "incoming"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._draft = folder / f"{sha256}.{secrets.token_hex(8)}"
        descriptor = os.open(self._draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "wb")

    def write(self, piece: bytes) -> None:
        """Take the next bytes. Raises ApiError 413 beyond the limit."""
        self.size += len(piece)
        if self.size > LARGEST_FILE:
            raise too_large()
        self._digest.update(piece)
        self._file.write(piece)

    def commit(self) -> None:
        """Check the content and put it into place, durably. Raises ApiError 400 when the content is another."""
        found = self._digest.hexdigest()
        if found != self.sha256:
            raise invalid_value(
                "sha256",
                f"The content sent has SHA-256 {found}, not {self.sha256}. It was changed on the way, or the file "
                "changed after it was hashed: hash it again and repeat.",
            )
        self._file.flush()
        os.fsync(self._file.fileno())
        target = blob_path(self.store, self.sha256)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        self._draft.replace(target)
        for folder in (target.parent, self.store):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._draft.unlink(missing_ok=True)


async def gathered(stream: AsyncIterator[bytes], size: int = 1 << 20) -> AsyncIterator[bytes]:
    """The stream in pieces of about ``size`` bytes, so that each is worth a trip to a thread."""
    buffer = bytearray()
    async for piece in stream:
        buffer += piece
        if len(buffer) >= size:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)


def snapshot_id(manifest: dict[str, Any]) -> str:
    """SHA-256 of the manifest's canonical JSON: members in order, no spaces, UTF-8."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def check_manifest(manifest: dict[str, Any]) -> None:
    """A manifest maps paths to ``{"sha256", "mode"}``. Raises ApiError 400 naming the first path that is wrong."""
    if len(manifest) > MOST_FILES:
        raise invalid_value(
            "manifest", f"The manifest has {len(manifest):,} files; at most {MOST_FILES:,} are allowed."
        )
    folders: set[str] = set()
    for path, entry in manifest.items():
        pure = PurePosixPath(path)
        plain = path == str(pure) and not pure.is_absolute() and ".." not in pure.parts and path not in (".", "")
        if not plain or "\0" in path or len(path) > _LONGEST_PATH or any(0xD800 <= ord(char) < 0xE000 for char in path):
            raise invalid_value(
                "manifest",
                f"The path {path[:200]!r} is not allowed. Give plain relative paths such as 'src/train.py', without "
                "'..', and without a leading slash.",
            )
        known = isinstance(entry, dict) and entry.keys() == {"sha256", "mode"}
        if not known or type(entry["mode"]) is not int or not 0 <= entry["mode"] <= 0o777:
            raise invalid_value(
                path[:200], f'The entry of {path[:200]!r} must be {{"sha256": ..., "mode": 0 to 511 (octal 777)}}.'
            )
        check_sha256(entry["sha256"], f"{path[:200]}.sha256")
        folders.update(str(parent) for parent in pure.parents)
    both = next((path for path in manifest if path in folders), None)
    if both is not None:
        raise invalid_value("manifest", f"The path {both[:200]!r} is both a file and a folder of other files.")


def too_large() -> ApiError:
    """413 for a file beyond the limit."""
    return ApiError(
        413,
        "RequestEntityTooLarge",
        f"The file is larger than the limit of {LARGEST_FILE:,} bytes (1 GiB). Leave it out of the code "
        "(.trainshedignore), and let the job read it from a volume.",
        headers={"Connection": "close"},
    )
