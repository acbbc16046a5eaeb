"""Each kind of volume with a real server of its own on loopback, where one is installed."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tests.volumes import newer_servers, servers

from trainshed.client import Client
from trainshed.engines.local.fileserver import nfs
from trainshed.volumes.file_server import kernel_has_nfs, why_no_client

#: Of the large file on each place, and of the one in a git repository, which makes slower work of it.
MB, _GIT_MB = 200, 50
#: Where the jobs find their volume.
_MOUNTED = "$AZ_BATCHAI_JOB_MOUNT_ROOT/v"
_PATH = {"relativeMountPath": "v"}
#: The NFS server of the measurement; its size bounds what is written to it.
_FILE_SERVER = {
    "vmSize": "STANDARD_D1",
    "sshConfiguration": {"userAccountSettings": {"adminUserName": "bench", "adminUserPassword": "bench-only-4711"}},
    "dataDisks": {"diskSizeInGB": 1, "diskCount": 1, "storageAccountType": "Standard_LRS"},
}


@dataclass(frozen=True)
class Place:
    """A kind of volume: its entry of mountVolumes, and where a job finds it; or why it is not to be had."""

    name: str
    volumes: dict[str, Any] = field(default_factory=dict)
    path: str = _MOUNTED
    #: Whether jobs write to it; else its ``big`` is there already.
    written: bool = True
    megabytes: int = MB
    missing: str = ""


class Storage:
    """Servers that run, and the places that they make."""

    def __init__(self) -> None:
        #: Files for the service's home.
        self.files: dict[str, str] = {}
        self.places: list[Place] = []

    def start(self, stack: ExitStack) -> None:
        """Start what is installed; all of it ends with ``stack``."""
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trainshed-bench-servers-")))
        endpoints: dict[str, dict[str, str]] = {}
        kinds: dict[str, Callable[[ExitStack, Path], list[Place]]] = {
            "Azure Files": lambda stack, folder: self._shares(stack, folder, endpoints),
            "Azure Blob": lambda stack, folder: self._blobs(stack, folder, endpoints),
            "S3": self._buckets,
            "SFTP": self._sftp,
            "host directory": self._host_directory,
            "mount command": self._sshfs,
            "git": self._git,
        }
        for number, (name, make) in enumerate(kinds.items()):
            own = folder / str(number)
            own.mkdir()
            try:
                self.places += make(stack, own)
            except pytest.skip.Exception as why:
                self.places.append(Place(name, missing=str(why)))
        self.files["storage-endpoints.json"] = json.dumps(endpoints)

    def _shares(self, stack: ExitStack, folder: Path, endpoints: dict[str, dict[str, str]]) -> list[Place]:
        server = stack.enter_context(servers.samba(folder))
        endpoints[servers.SMB_USER] = {"file": server.address}
        entry = {"accountName": servers.SMB_USER, "azureFileUrl": "https://x.file.core.windows.net/data", **_PATH}
        return [
            Place("Azure Files", {"azureFileShares": [{**entry, "credentials": {"accountKey": servers.SMB_PASSWORD}}]})
        ]

    def _blobs(self, stack: ExitStack, folder: Path, endpoints: dict[str, dict[str, str]]) -> list[Place]:
        server = stack.enter_context(servers.azurite(folder))
        server.make_container("data")
        endpoints[servers.BLOB_ACCOUNT] = {"blob": server.endpoint}
        entry = {"accountName": servers.BLOB_ACCOUNT, "containerName": "data", **_PATH}
        credentials = {"credentials": {"accountKey": servers.BLOB_KEY}}
        return [Place("Azure Blob", {"azureBlobFileSystems": [{**entry, **credentials}]})]

    def _buckets(self, stack: ExitStack, folder: Path) -> list[Place]:
        server = stack.enter_context(newer_servers.moto(folder))
        server.make_bucket("data")
        credentials = {"accessKeyId": newer_servers.S3_ID, "secretAccessKey": newer_servers.S3_KEY}
        entry = {"bucket": "data", "endpoint": server.endpoint, "credentials": credentials, **_PATH}
        cached = {**entry, "readOnly": True, "cache": {"maxSizeInGB": 1}}
        # What the first job wrote is read twice: by who fills the node's cache, and by who finds it filled.
        reads = Place("S3, fills cache", {"s3Buckets": [cached]}, written=False)
        return [Place("S3", {"s3Buckets": [entry]}), reads, replace(reads, name="S3, from cache")]

    def _sftp(self, stack: ExitStack, folder: Path) -> list[Place]:
        server = stack.enter_context(newer_servers.sshd(folder))
        entry = {
            "host": "127.0.0.1", "port": server.port, "user": "root", "path": str(server.folder),
            "hostKey": server.host_key, "credentials": {"privateKey": server.private_key}, **_PATH,
        }  # fmt: skip
        return [Place("SFTP", {"sftpDirectories": [entry]})]

    def _host_directory(self, _: ExitStack, folder: Path) -> list[Place]:
        self.files["host-directories.json"] = json.dumps({str(folder): {"readOnly": False}})
        return [Place("host directory", {"hostDirectories": [{"path": str(folder), **_PATH}]})]

    def _sshfs(self, stack: ExitStack, folder: Path) -> list[Place]:
        command = stack.enter_context(servers.sshd(folder))
        (folder / "files").mkdir()
        entry = {"mountCommand": f"{command}{folder}/files", **_PATH}
        return [Place("sshfs by command", {"unmanagedFileSystems": [entry]})]

    def _git(self, stack: ExitStack, folder: Path) -> list[Place]:
        server = stack.enter_context(newer_servers.git_daemon(folder))
        server.make("data", {"README": "bench\n"})
        repository = server.folder / "data"
        # Content that cannot be made smaller is what a repository of models or images has.
        newer_servers.git(repository, "config", "core.compression", "0")
        with (repository / "big").open("wb") as file:
            for _ in range(_GIT_MB):
                file.write(os.urandom(1 << 20))
        server.commit("data", {})
        volumes = {"gitRepositories": [{"repositoryUrl": f"{server.url}/data", **_PATH}]}
        fetched = Place("git, fetched", volumes, written=False, megabytes=_GIT_MB)
        return [fetched, replace(fetched, name="git, on the node")]


@contextmanager
def storage() -> Iterator[Storage]:
    """All servers that can be started here, until the end of the block."""
    with ExitStack() as stack:
        made = Storage()
        made.start(stack)
        yield made


def of_the_service(client: Client) -> list[Place]:
    """What the service itself serves: an embedded account, and a managed file server."""
    client.storage_accounts.create("bench")
    key = client.storage_accounts.keys("bench")[0].get("value")
    account = {"accountName": "bench", "credentials": {"accountKey": key}}
    share = {**account, "azureFileUrl": "https://bench.file.core.windows.net/share", **_PATH}
    embedded = Place("embedded", {"azureFileShares": [share]})
    name = f"NFS by {'the kernel' if kernel_has_nfs() else 'libnfs'}"
    if why_not := nfs.why_not() or why_no_client():
        return [embedded, Place("NFS", missing=why_not)]
    server = client.file_servers.create("bench", _FILE_SERVER)
    return [embedded, Place(name, {"fileServers": [{"fileServer": {"id": server.id}, **_PATH}]})]
