"""The kernel's own SMB client, through ``mount.cifs`` of cifs-utils (mount.cifs(8))."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from trainshed.volumes.daemons import sync_file_system
from trainshed.volumes.protocol import Mounted, MountRequest

_MOUNT_SECONDS, _UNMOUNT_SECONDS = 60.0, 30.0


@dataclass(frozen=True, slots=True)
class Share:
    """Where a share is and how it is to appear."""

    host: str
    port: int
    name: str
    #: Directories below the share.
    below: tuple[str, ...]
    account: str
    key: str = field(repr=False)
    file_mode: int = 0o777
    directory_mode: int = 0o777


def kernel_has_it() -> bool:
    """Whether the running kernel knows the file system now, and the helper program is there."""
    with suppress(OSError):
        known = {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines() if line.strip()}
        return "cifs" in known and os.geteuid() == 0 and shutil.which("mount.cifs") is not None
    return False


def mount(request: MountRequest, share: Share) -> Mounted:
    """Mount it at the request's target. Raises VolumeError."""
    options = ",".join(
        (
            "vers=3.1.1",
            f"port={share.port}",
            f"username={share.account}",
            f"uid={request.uid},gid={request.gid},forceuid,forcegid",
            f"file_mode={share.file_mode:04o},dir_mode={share.directory_mode:04o}",
            "serverino,nosharesock,actimeo=1,mfsymlinks,noperm,nosuid,nodev",
        )
    )
    source = f"//{share.host}/{'/'.join((share.name, *share.below))}"
    command = ["mount.cifs", source, request.target, "-o", options]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "PASSWD": share.key}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_MOUNT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise request.error(f"{share.host} did not answer within {_MOUNT_SECONDS:g} s", hint=_HINT) from None
    if done.returncode:
        raise request.error("mount.cifs cannot mount it", done.stdout, _HINT)
    return CifsMount(request)


_HINT = "Check the share's name, the account's key, and that the node reaches the server's SMB port (445)."


class CifsMount:
    """What ``mount`` mounted. The kernel writes when a file is closed, and the rest when it is unmounted."""

    service_owned = False
    read_only = False

    def __init__(self, request: MountRequest) -> None:
        self._request = request
        self.directory = request.target

    def flush(self, seconds: float) -> None:
        sync_file_system(self.directory)

    def unmount(self) -> None:
        """Raises VolumeError."""
        try:
            done = subprocess.run(
                ["umount", self.directory],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_UNMOUNT_SECONDS,
                check=False,
            )
            said = done.stdout if done.returncode else ""
        except subprocess.TimeoutExpired:
            said = f"umount did not end within {_UNMOUNT_SECONDS:g} s"
        if said:
            raise self._request.error("it cannot be unmounted", said)
