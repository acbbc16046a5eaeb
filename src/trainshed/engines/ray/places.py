"""Where the Ray engine keeps things: in a directory that the service's machine and all Ray nodes see at one path.

What is a node's alone lies below ``scratch``, a path on the node's own disk, where the settings name one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainshed.engines.local.layout import Layout
from trainshed.runner.code import blob_path

#: What a node needs of the package: the standard library suffices for it.
_PARTS = ("resources", "toolkits", "volumes", "runner", "engines")
_SUFFIXES = (".py", ".sh")
#: Proves, beside a part's outcome, that nothing of it lives: the reason why it was lost, as JSON.
LOST_FILE = "lost.json"


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of one engine."""

    directory: Path
    #: On each node's own disk; None: below the shared directory.
    scratch: Path | None = None

    @property
    def engine(self) -> Path:
        """What only the engine reads and writes."""
        return self.directory / "engine"

    @property
    def clusters(self) -> Path:
        """One file a cluster."""
        return self.engine / "clusters"

    @property
    def nodes(self) -> Path:
        """One file a node."""
        return self.engine / "nodes"

    @property
    def attempts(self) -> Path:
        """One folder an attempt that is not forgotten."""
        return self.directory / "attempts"

    def part(self, attempt_id: str, index: int) -> Path:
        """What a runner keeps of its part: its spec, and its outcome."""
        return self.attempts / attempt_id / str(index)

    def mount_root(self, cluster_uid: str) -> Path:
        """The durable directory of a cluster."""
        return self.directory / "clusters" / cluster_uid / "mounts"

    def node(self, node_id: str) -> NodeLayout:
        """What is local to a node."""
        home = (self.scratch or self.directory / "nodes") / node_id
        return NodeLayout(home, self.directory)

    def shared_jobs(self, node_id: str) -> Path:
        """Where a gang's shared temp directory is, by the gang's first node: every node of it must see that."""
        return self.node(node_id).jobs(node_id) if self.scratch is None else self.directory / "shared" / node_id

    def make(self) -> None:
        """Make the folders. Raises OSError."""
        for folder in (self.clusters, self.nodes, self.attempts):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def identity(self) -> str:
        """A name of this engine that stays, for what Ray keeps of it. Raises OSError."""
        path = self.engine / "id"
        with suppress(FileExistsError):
            fresh = path.with_name(f".id.{os.getpid()}")
            fresh.write_text(uuid.uuid4().hex[:12])
            try:
                os.link(fresh, path)
            finally:
                fresh.unlink()
        return path.read_text().strip()

    def bring_package(self) -> Path:
        """Put the program of the nodes into the directory, by its content; the folder to import it from."""
        package = Path(__file__).parents[2]
        files = [package / "__init__.py"]
        for part in _PARTS:
            files += sorted(path for path in (package / part).rglob("*") if path.suffix in _SUFFIXES)
        digest = hashlib.sha256()
        for path in files:
            digest.update(f"{path.relative_to(package)}\0{path.stat().st_mode & 0o111:o}\0".encode())
            digest.update(path.read_bytes())
        target = self.directory / "programs" / digest.hexdigest()[:16]
        if not target.is_dir():
            fresh = target.with_name(f".{target.name}.{os.getpid()}")
            shutil.rmtree(fresh, ignore_errors=True)
            for path in files:
                copy = fresh / package.name / path.relative_to(package)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy)
            try:
                fresh.rename(target)
            except OSError:  # Another process was faster.
                shutil.rmtree(fresh)
        return target

    def bring_code(self, store: str, manifest: Mapping[str, Mapping[str, Any]]) -> str:
        """Put the files of a job's code where nodes can read them, by their content; that folder. Raises OSError."""
        folder = self.directory / "code"
        for entry in manifest.values():
            target = Path(blob_path(str(folder), entry["sha256"]))
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                fresh = target.with_name(f".{target.name}.{os.getpid()}")
                shutil.copyfile(blob_path(store, entry["sha256"]), fresh)
                fresh.rename(target)
        return str(folder)


@dataclass(frozen=True, slots=True)
class NodeLayout(Layout):
    """A home for the processes of one node: as the local engine's, but the clusters' directories are all nodes'."""

    shared: Path

    @property
    def mark(self) -> str:
        """Names this node in the environment of every process of it. Of the path as it is: nodes may resolve links
        in it otherwise than the service's machine.
        """
        return hashlib.sha256(b"ray\0" + os.fsencode(self.home)).hexdigest()[:16]

    def mount_root(self, cluster_uid: str) -> Path:
        """The durable directory of a cluster."""
        return Places(self.shared).mount_root(cluster_uid)

    def attempt(self, attempt_id: str) -> Path:
        """What the runners keep of an attempt."""
        return Places(self.shared).attempts / attempt_id
