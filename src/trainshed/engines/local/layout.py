"""Where the local engine keeps things below the service's home, and how small files are made durable."""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Longest path of a Unix socket on Linux, with the closing NUL (unix(7)).
_SOCKET_PATH_LIMIT = 108


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders of one home."""

    home: Path

    @property
    def root(self) -> Path:
        """What only the engine touches."""
        return self.home / "engine" / "local"

    @property
    def lock(self) -> Path:
        """Held by the daemon for its whole life."""
        return self.root / "daemon.lock"

    @property
    def leader(self) -> Path:
        """Under which lease the daemon was last spoken to."""
        return self.root / "leader.json"

    @property
    def log(self) -> Path:
        """What the daemon writes to its standard error."""
        return self.home / "logs" / "daemon.log"

    @property
    def mark(self) -> str:
        """Names this home in the environment of every process of it, so that leftovers can be found."""
        return hashlib.sha256(os.fsencode(os.path.realpath(self.home))).hexdigest()[:16]

    @property
    def socket(self) -> Path:
        """The daemon's socket: in the engine's folder, or in a short private one when that path is too long."""
        usual = Path(os.path.realpath(self.home), "engine", "local", "daemon.sock")
        if len(os.fsencode(usual)) < _SOCKET_PATH_LIMIT:
            return usual
        return Path("/tmp", f"trainshed-{os.geteuid()}-{self.mark}", "daemon.sock")

    def remove_socket(self) -> None:
        """The socket, and the folder that was made for it alone."""
        self.socket.unlink(missing_ok=True)
        if self.socket.parent != self.root.resolve():
            with suppress(OSError):
                self.socket.parent.rmdir()

    def clusters(self) -> Path:
        """One file a cluster."""
        return self.root / "clusters"

    def nodes(self) -> Path:
        """One file a node."""
        return self.root / "nodes"

    def file_servers(self) -> Path:
        """One file a file server, and a folder for what its programs keep."""
        return self.root / "fileservers"

    def file_server(self, uid: str) -> Path:
        """The data of a file server."""
        return self.home / "fileservers" / uid

    def file_server_log(self, uid: str) -> Path:
        """What its NFS and SSH servers say."""
        return self.log.parent / "fileservers" / f"{uid}.log"

    def attempts(self) -> Path:
        """One folder an attempt that is not forgotten."""
        return self.root / "attempts"

    def attempt(self, attempt_id: str) -> Path:
        """The engine's own files of an attempt."""
        return self.attempts() / attempt_id

    def mount_root(self, cluster_uid: str) -> Path:
        """The durable directory of a cluster that its nodes share; kept when they are gone."""
        return self.home / "clusters" / cluster_uid / "mounts"

    def node(self, node_id: str) -> Path:
        """What is local to a node; removed with it."""
        return self.home / "nodes" / node_id

    def jobs(self, node_id: str) -> Path:
        """AZ_BATCHAI_JOB_TEMP_DIR: temp directories of the node's job."""
        return self.node(node_id) / "jobs"

    def private(self, node_id: str) -> Path:
        """What lies behind the /tmp of the node's job, where that is the job's own."""
        return self.node(node_id) / "private"

    def setup(self, node_id: str) -> Path:
        """The same for the node's setup, and the home directory of the node's root."""
        return self.node(node_id) / "setup"

    def containers(self, node_id: str) -> Path:
        """What the containers of the node's jobs write outside of the jobs' directories."""
        return self.node(node_id) / "container"

    def images(self) -> Path:
        """Images of containers, fetched once for all nodes."""
        return self.root / "images"

    def volumes(self, node_id: str) -> Path:
        """What the node's managed volumes keep: files that are read often, and those that are not written yet."""
        return self.node(node_id) / "volumes"

    def removed(self, node_id: str) -> Path:
        """Where the directory of a node that is gone waits for its deletion."""
        return self.home / "nodes" / f".removed-{node_id}-{time.monotonic_ns()}"

    def waiting_for_deletion(self) -> list[Path]:
        """What ``removed`` named and is still there."""
        return sorted((self.home / "nodes").glob(".removed-*"))

    def make(self) -> None:
        """Make the engine's own folders, for the owner only. Raises OSError, PermissionError for a foreign folder."""
        for folder in (
            self.root,
            self.clusters(),
            self.nodes(),
            self.file_servers(),
            self.attempts(),
            self.log.parent,
        ):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        parent = self.socket.parent
        parent.mkdir(mode=0o700, exist_ok=True)
        status = parent.lstat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise PermissionError(f"{parent} must belong to this user and be closed to others (mode 0700)")


def write_durably(path: Path, value: dict[str, Any]) -> None:
    """Replace the file as a whole; it survives a power cut. Mode 0600."""
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        json.dump(value, out, separators=(",", ":"))
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_all(folder: Path) -> list[dict[str, Any]]:
    """The JSON files of a folder, by name; temporary ones are left out."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("[!.]*.json"))]
