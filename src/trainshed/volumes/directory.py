"""A directory of this machine as a volume: a share or container of an embedded account.

It is shown where it is wanted by a bind mount; whoever mounts sees to it that its files appear as the job's user's.
"""

from __future__ import annotations

import os

from trainshed.resources.volume_sources import VolumeKind, path_in_share
from trainshed.volumes.protocol import Mounted, MountRequest

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class MountedDirectory:
    """An open directory. There is nothing to write later, and nothing to take away."""

    def __init__(
        self,
        descriptor: int,
        *,
        read_only: bool = False,
        service_owned: bool = True,
        owner: tuple[int, int] | None = None,
    ) -> None:
        """``owner``: the user and group of the machine whose files are to be the job's user's, if not the service's."""
        self._descriptor = descriptor
        #: By its descriptor: its users may put a link in its place at any time.
        self.directory = f"/proc/self/fd/{descriptor}"
        self.read_only = read_only
        self.service_owned = service_owned
        self.owner = (os.geteuid(), os.getegid()) if service_owned else owner

    def flush(self, seconds: float) -> None:
        """What was written is in this machine's own file system already."""

    def unmount(self) -> None:
        """The bind mount goes with whoever made it."""
        os.close(self._descriptor)


def mount_embedded(request: MountRequest, *, read_only: bool = False) -> Mounted:
    """A share or container of an embedded account; a directory of a share if its URL names one. Raises VolumeError."""
    try:
        descriptor = os.open(request.source.directory, _FOLDER)
    except OSError as error:
        raise request.error(f"it does not exist ({error.strerror})", hint=_how_to_make(request)) from error
    below = _below_share(request)
    for name in below:
        outer = descriptor
        try:
            descriptor = os.open(name, _FOLDER, dir_fd=outer)
        except OSError as error:
            raise request.error(
                f"the share has no directory '{'/'.join(below)}' ({error.strerror})",
                hint="Make it in the share, or leave it out of azureFileUrl to mount the whole share.",
            ) from error
        finally:
            os.close(outer)
    return MountedDirectory(descriptor, read_only=read_only)


def _below_share(request: MountRequest) -> tuple[str, ...]:
    if request.source.kind != VolumeKind.AZURE_FILE_SHARES:
        return ()
    parts = path_in_share(request.source.settings["azureFileUrl"])
    if ".." in parts:
        raise request.error("its azureFileUrl leads out of the share", hint="Leave '..' out of it.")
    return parts


def _how_to_make(request: MountRequest) -> str:
    return (
        "A share or container of an embedded account is made when a cluster or job is created that names it with one "
        f"of the account's keys: create the job again, or make the directory {request.source.directory} with mode 0700."
    )
