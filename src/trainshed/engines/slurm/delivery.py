"""What travels with jobs: the packages that a node needs, put once into the shared directory under their own digest.

A service of another version puts another folder beside it, and jobs that are queued keep theirs. Nothing but Python is
needed on the nodes: what a runner imports is the standard library.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from functools import cache
from pathlib import Path

import trainshed
from trainshed.engines.slurm.node.places import Places

_PARTS = ("resources", "runner", "toolkits", "volumes", "engines/slurm/node")
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
