"""Uploaded code on disk: files named by their SHA-256, written whole and durably or not at all.

Layout below ``{home}/code``: ``{first two digits}/{sha256}``, as the runner reads it; drafts are in ``incoming``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any

from trainshed.api.batches import Content, grouped, wrong_content
from trainshed.api.errors import ApiError, invalid_value
from trainshed.api.sha256 import check_sha256
from trainshed.volumes.drafts import Draft, sync_all

#: Largest file in bytes.
LARGEST_FILE = 1 << 30
#: Most files of a snapshot, and the longest of their paths.
MOST_FILES = 100_000
_LONGEST_PATH = 4096


def missing(store: Path, hashes: Iterable[str]) -> list[str]:
    """Those of the hashes whose files the store lacks, each once, in the order given."""
    return [digest for digest in dict.fromkeys(hashes) if not blob_path(store, digest).is_file()]


def blob_path(store: Path, sha256: str) -> Path:
    """Where the file with this content lies."""
    return store / sha256[:2] / sha256


class IncomingBlob(Draft):
    """A file while it arrives. Left without ``commit``, it leaves nothing behind. Methods block on the disk."""

    def __init__(self, store: Path, sha256: str) -> None:
        super().__init__(store / "incoming")
        self._store = store
        self._named = sha256

    def write(self, piece: bytes | memoryview) -> None:
        """Take the next bytes. Raises ApiError 413 beyond the limit."""
        if self.size + len(piece) > LARGEST_FILE:
            raise too_large()
        super().write(piece)

    def commit(self) -> None:
        """Check the content and put it into place, durably. Raises ApiError 400 when the content is another."""
        if self.sha256 != self._named:
            raise wrong_content(self.sha256, self._named, "sha256")
        _place(self._store, [(self._named, self)])


def put_all(store: Path, files: Sequence[Content]) -> None:
    """Put files whose content is known to be right into place, durably. Blocks on the disk."""

    def put(group: Sequence[Content]) -> None:
        with ExitStack() as stack:
            drafts = []
            for content in group:
                draft = stack.enter_context(Draft(store / "incoming"))
                draft.write(content.data)
                drafts.append((content.sha256, draft))
            _place(store, drafts)

    grouped(list({content.sha256: content for content in files}.values()), put)


def _place(store: Path, drafts: Sequence[tuple[str, Draft]]) -> None:
    sync_all(draft.descriptor for _, draft in drafts)
    folders = {store}
    for sha256, draft in drafts:
        target = blob_path(store, sha256)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        draft.place(target)
        folders.add(target.parent)
    with ExitStack() as stack:
        descriptors = []
        for folder in folders:
            descriptors.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            stack.callback(os.close, descriptors[-1])
        sync_all(descriptors)


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
