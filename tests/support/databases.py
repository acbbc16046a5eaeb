"""A database at the newest schema, made once for a test process and copied: migrating one takes most of a second."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

from trainshed.store.backend import backend_of
from trainshed.store.migrate import upgrade


def copy_migrated(path: Path) -> None:
    """Make ``path`` an empty SQLite database at the newest schema, readable by its owner only."""
    path.touch(mode=0o600)
    path.write_bytes(_migrated())


@functools.cache
def _migrated() -> bytes:
    folder = Path(tempfile.mkdtemp(prefix="trainshed-schema-"))
    try:
        path = folder / "trainshed.db"
        upgrade(backend_of(f"sqlite:///{path}"))
        return path.read_bytes()
    finally:
        shutil.rmtree(folder)
