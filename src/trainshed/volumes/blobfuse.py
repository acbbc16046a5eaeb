"""Microsoft's blobfuse2, where it is installed: a container through its documented command line and variables.

It uploads a file before close() returns (its file cache), so nothing is left to be flushed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from trainshed.volumes.blob_options import BlobOptions
from trainshed.volumes.daemons import Daemon, DaemonFailed, sync_file_system
from trainshed.volumes.protocol import Mounted, MountRequest

_MOUNT_SECONDS, _STOP_SECONDS = 60.0, 30.0


@dataclass(frozen=True, slots=True)
class Container:
    """Where a container is. ``credential`` is the account's key or a shared access signature."""

    account: str
    name: str
    endpoint: str
    credential: str = field(repr=False)

    @property
    def by_signature(self) -> bool:
        """Whether the credential is a shared access signature."""
        return "sig=" in self.credential


def is_installed() -> bool:
    """Whether the node has it."""
    return shutil.which("blobfuse2") is not None


def mount(request: MountRequest, container: Container, options: BlobOptions) -> Mounted:
    """Mount it at the request's target. Raises VolumeError."""
    Path(request.cache).mkdir(mode=0o700, parents=True, exist_ok=True)
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": request.folder,
        "AZURE_STORAGE_ACCOUNT": container.account,
        "AZURE_STORAGE_ACCOUNT_CONTAINER": container.name,
        "AZURE_STORAGE_BLOB_ENDPOINT": container.endpoint,
        **(
            {"AZURE_STORAGE_AUTH_TYPE": "sas", "AZURE_STORAGE_SAS_TOKEN": container.credential}
            if container.by_signature
            else {"AZURE_STORAGE_AUTH_TYPE": "key", "AZURE_STORAGE_ACCESS_KEY": container.credential}
        ),
    }
    command = [
        "blobfuse2", "mount", request.target, "--foreground=true", f"--tmp-path={request.cache}",
        f"--container-name={container.name}", "--allow-other", f"--read-only={str(options.read_only).lower()}",
        "--log-type=base", f"--log-file-path={request.folder}/blobfuse2.log", "--log-level=LOG_WARNING",
        f"-o uid={request.uid}", f"-o gid={request.gid}", f"-o umask={options.umask:04o}",
        *([f"-o attr_timeout={options.attr_timeout}"] if options.attr_timeout is not None else []),
        *([f"--file-cache-timeout={options.cache_seconds}"] if options.cache_seconds is not None else []),
    ]  # fmt: skip
    try:
        daemon = Daemon(command, environment, request.folder, "blobfuse2.out")
        daemon.wait_for_mount(request.target, _MOUNT_SECONDS)
    except (DaemonFailed, OSError) as error:
        hint = "Check its name, the account and the key."
        raise request.error("blobfuse2 cannot mount it", str(error), hint) from error
    return BlobfuseMount(request.target, daemon, options.read_only)


class BlobfuseMount:
    """What ``mount`` mounted."""

    service_owned = False

    def __init__(self, directory: str, daemon: Daemon, read_only: bool) -> None:
        self.directory = directory
        self.read_only = read_only
        self._daemon = daemon

    def flush(self, seconds: float) -> None:
        sync_file_system(self.directory)

    def unmount(self) -> None:
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                ["fusermount3", "-u", self.directory], capture_output=True, timeout=_STOP_SECONDS, check=False
            )
        self._daemon.stop(_STOP_SECONDS)
