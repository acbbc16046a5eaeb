"""What travels with jobs: the packages that a node needs, put once into the shared directory under their own digest.

A service of another version puts another folder beside it, and jobs that are queued keep theirs. Nothing but Python is
needed on the nodes: what a runner imports is the standard library.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Set
from contextlib import suppress
from functools import cache
from pathlib import Path

import trainshed
from trainshed.engines.slurm.node.places import Places

_PARTS = ("resources", "runner", "toolkits", "volumes", "engines/slurm/node")
_SUFFIX = ".tar.xz"
_SINGLE = ("__init__.py", "engines/__init__.py", "engines/slurm/__init__.py")


@cache
def _files() -> dict[str, bytes]:
    root = Path(trainshed.__file__).parent
    found = [root / name for name in _SINGLE]
    for part in _PARTS:
        found += [path for path in (root / part).rglob("*") if path.is_file() and path.suffix in (".py", ".sh")]
    return {str(path.relative_to(root.parent)): path.read_bytes() for path in sorted(found)}


@cache
def digest() -> str:
    """Names what this version of the service sends."""
    whole = hashlib.sha256()
    for name, content in _files().items():
        whole.update(f"{name}\0{len(content)}\0".encode())
        whole.update(content)
    return whole.hexdigest()[:16]


@cache
def _archive() -> bytes:
    """All of it in one file; the same for the same version."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as archive:
        for name, content in _files().items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755 if name.endswith(".sh") else 0o644
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@cache
def archive_digest() -> str:
    """SHA-256 of what this version of the service sends as one file."""
    return hashlib.sha256(_archive()).hexdigest()


def archive_of(places: Places, sha256: str) -> Path:
    """Where such a file is kept."""
    return places.runners / f"{sha256}{_SUFFIX}"


def pack(places: Places) -> str:
    """Put it there as one file, unless it is, for nodes that fetch it; its SHA-256. Raises OSError."""
    path = archive_of(places, archive_digest())
    if not path.exists():
        new = path.with_name(f".{archive_digest()}.{os.getpid()}")
        new.write_bytes(_archive())
        new.rename(path)
    return archive_digest()


def drop_archives(places: Places, needed: Set[str]) -> None:
    """Remove those that no job may fetch any more, and what was only begun to be written. Nobody packs meanwhile."""
    for path in list(places.runners.iterdir()):
        begun = path.name.startswith(".") and path.is_file()
        if begun or (path.name.endswith(_SUFFIX) and path.name.removesuffix(_SUFFIX) not in needed):
            with suppress(OSError):
                path.unlink()


def start_of(places: Places) -> Path:
    """The path of what a job starts."""
    return places.runners / digest() / "trainshed" / "engines" / "slurm" / "node" / "start.py"


def deliver(places: Places) -> Path:
    """Put it there, unless it is; the path of what a job starts. Raises OSError."""
    folder = places.runners / digest()
    start = start_of(places)
    if folder.is_dir():
        return start
    # A folder of its own: several jobs, or services, may be about it at once.
    new = Path(tempfile.mkdtemp(prefix=f".{digest()}.", dir=places.runners))
    new.chmod(0o755)
    for name, content in _files().items():
        path = new / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if path.suffix == ".sh" else 0o644)
    try:
        new.rename(folder)
    except OSError:
        # Somebody else was quicker.
        shutil.rmtree(new, ignore_errors=True)
        if not folder.is_dir():
            raise
    return start
