"""azureFileShares: SMB 3 to ``account.file.core.windows.net``, or wherever the share's URL or the administrator says.

The kernel's own client where the kernel has it, else rclone.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from trainshed.resources.volume_sources import path_in_share, share_of
from trainshed.volumes import cifs
from trainshed.volumes.directory import mount_embedded
from trainshed.volumes.protocol import Mounted, MountRequest
from trainshed.volumes.rclone import Look, Remote, mount_remote

_SMB_PORT = 445


def mount_files(request: MountRequest) -> Mounted:
    """A share. Raises VolumeError."""
    if request.source.directory:
        return mount_embedded(request)
    share = share_at(request)
    if cifs.kernel_has_it():
        return cifs.mount(request, share)
    return mount_remote(request, _remote(share), Look(share.file_mode, share.directory_mode))


def remote_of(request: MountRequest) -> Remote:
    """Where rclone finds it. Raises VolumeError."""
    return _remote(share_at(request))


def _remote(share: cifs.Share) -> Remote:
    return Remote(
        "smb",
        "/".join((share.name, *share.below)),
        {"host": share.host, "port": str(share.port), "user": share.account, "pass": share.key},
        frozenset({"pass"}),
    )


def share_at(request: MountRequest) -> cifs.Share:
    """Where the share is and how it is to appear. Raises VolumeError."""
    settings = request.source.settings
    url = urlsplit(settings["azureFileUrl"])
    name, below = share_of(settings["azureFileUrl"]), path_in_share(settings["azureFileUrl"])
    if not url.hostname or not name or ".." in below:
        raise request.error(
            f"its azureFileUrl {settings['azureFileUrl']!r} names no share",
            hint="It is like https://ACCOUNT.file.core.windows.net/SHARE.",
        )
    key = request.secret("accountKey")
    if not key:
        raise request.error("no key of the account is given", hint="Give credentials.accountKey.")
    host, _, port = str(settings.get("endpoint") or url.hostname).rpartition(":")
    if not host:
        host, port = port, str(_SMB_PORT)
    return cifs.Share(
        host=host,
        port=int(port),
        name=name,
        below=below,
        account=settings["accountName"],
        key=key,
        file_mode=_mode(request, "fileMode"),
        directory_mode=_mode(request, "directoryMode"),
    )


def _mode(request: MountRequest, member: str) -> int:
    """Octal digits, 0777 by default (behaviour 3.6)."""
    given = str(request.source.settings.get(member) or "0777")
    try:
        mode = int(given, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise request.error(f"its {member} {given!r} is no mode", hint="Give octal digits such as 0755.")
    return mode
