"""A managed file server as a volume: by the kernel's NFS client, else by one in user space (``nfs_client``).

Where nothing serves NFS (nfs-ganesha is not to be had) the directory of its disks itself is shown.

The kernel's client shows files as those of the service's user, as which the server takes every caller; whether a
program may read and write is asked of the server, so that a job's user may although it is not the owner.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from trainshed.resources.exports import source_directory
from trainshed.volumes import libnfs, nfs_options
from trainshed.volumes.daemons import Daemon, DaemonFailed, requests_waiting, sync_file_system
from trainshed.volumes.directory import MountedDirectory
from trainshed.volumes.protocol import Mounted, MountRequest
from trainshed.volumes.unmanaged import is_mounted

#: Seconds within which a server that is starting again must answer, and a mount must be there or gone.
_PATIENCE, _MOUNT_SECONDS, _UNMOUNT_SECONDS = 30, 45.0, 10.0
_FILE_SYSTEMS = "/proc/filesystems"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def mount_file_server(request: MountRequest) -> Mounted:
    """Mount it, or the ``sourceDirectory`` of it. Raises VolumeError."""
    settings = request.source.settings
    try:
        inside = source_directory(settings.get("sourceDirectory"))
    except ValueError as error:
        raise request.error(str(error)) from error
    if "nfsPort" not in settings["mountSettings"]:
        return _directory(request, inside)
    try:
        if kernel_has_nfs():
            return _by_kernel(request, inside)
        return _by_fuse(request, inside)
    except nfs_options.UnknownOptions as error:
        raise request.error(str(error)) from error


def kernel_has_nfs() -> bool:
    """Whether the kernel mounts NFSv4 here, perhaps by a module that is loaded now, with the program for it."""
    if os.geteuid() != 0 or shutil.which("mount.nfs4") is None:
        return False
    if not _known("nfs4") and shutil.which("modprobe") is not None:
        _run("modprobe", "--quiet", "nfsv4")
    return _known("nfs4")


def why_no_client() -> str:
    """Why this machine's nodes could not mount what a file server exports, with what mends it; empty when they can."""
    if _known("nfs4") and shutil.which("mount.nfs4") is not None:
        return ""
    if not libnfs.available():
        return f"the kernel has no NFS and libnfs is not installed; {libnfs.INSTALL}"
    if importlib.util.find_spec("mfusepy") is None:
        return "the kernel has no NFS and mfusepy is not installed; pip install 'trainshed[volumes]'"
    if not Path("/dev/fuse").exists():
        return "the kernel has neither NFS nor FUSE; use another kernel"
    return ""


def _known(kind: str) -> bool:
    with suppress(OSError), open(_FILE_SYSTEMS) as table:
        return any(line.split()[-1] == kind for line in table)
    return False


class MountedByKernel:
    """By the kernel's client."""

    service_owned = False

    def __init__(self, request: MountRequest, *, read_only: bool) -> None:
        self._request = request
        self.directory = request.target
        self.read_only = read_only

    def flush(self, seconds: float) -> None:
        """Have the kernel send what it still holds."""
        sync_file_system(self.directory)

    def unmount(self) -> None:
        """umount(8), which waits for what is not yet written."""
        done = _run("umount", self.directory, seconds=_UNMOUNT_SECONDS)
        if done and is_mounted(self.directory):
            _run("umount", "--force", "--lazy", self.directory, seconds=_UNMOUNT_SECONDS)
            raise self._request.error("it could not be unmounted in an orderly way", done)


class MountedByFuse:
    """By a process of ours, which writes each block to the server before the program that wrote it goes on."""

    service_owned = False

    def __init__(self, request: MountRequest, daemon: Daemon, *, read_only: bool) -> None:
        self._request = request
        self._daemon = daemon
        self.directory = request.target
        self.read_only = read_only

    def flush(self, seconds: float) -> None:
        """What programs wrote through memory maps is sent."""
        sync_file_system(self.directory)

    def unmount(self) -> None:
        """Take it away, with its process."""
        waiting = requests_waiting(self.directory)
        said = _run("umount", self.directory, seconds=_UNMOUNT_SECONDS) if self._daemon.alive else ""
        if said:
            _run("umount", "--lazy", self.directory, seconds=_UNMOUNT_SECONDS)
        self._daemon.stop(_UNMOUNT_SECONDS)
        if said:
            raise self._request.error(f"it could not be unmounted in an orderly way ({waiting} requests waited)", said)


def _by_kernel(request: MountRequest, inside: str) -> Mounted:
    settings = request.source.settings
    reached = settings["mountSettings"]
    given = nfs_options.for_kernel(settings.get("mountOptions"))
    version = [] if any("vers=" in option for option in given) else ["vers=4.2"]
    own = [f"port={reached['nfsPort']}", "nosuid", "nodev"]
    if any(option.endswith("vers=3") for option in given):
        # The server has no lock manager for version 3: locks hold on one node then.
        own += [f"mountport={reached['mountPort']}", "nolock"]
    source = f"{reached['fileServerInternalIP']}:{reached['mountPoint']}/{inside}".rstrip("/")
    options = ",".join([*version, *given, *own])
    request.log(f"mounting {request.source.title} by the kernel's NFS client ({options})")
    said = _run("mount", "-t", "nfs4" if version else "nfs", "-o", options, source, request.target)
    if said:
        raise request.error("the kernel's NFS client could not mount it", said, _hint(inside))
    return MountedByKernel(request, read_only="ro" in given)


def _by_fuse(request: MountRequest, inside: str) -> Mounted:
    settings = request.source.settings
    reached = settings["mountSettings"]
    options = nfs_options.for_user_space(settings.get("mountOptions"))
    command = [
        sys.executable,
        *("-P", "-m", "trainshed.volumes.nfs_client"),
        f"{reached['fileServerInternalIP']}:{reached['mountPoint']}",
        request.target,
        *("--port", str(reached["nfsPort"]), "--mount-port", str(reached["mountPort"])),
        *("--directory", f"/{inside}", "--uid", str(request.uid), "--gid", str(request.gid)),
        *("--believed", str(options.believed), "--patience", str(_PATIENCE)),
        *(["--read-only"] if options.read_only else []),
        *(["--no-exec"] if options.no_exec else []),
    ]
    request.log(f"mounting {request.source.title} by an NFS client in user space")
    try:
        daemon = Daemon(command, os.environ, request.folder, "nfs-client.log")
        daemon.wait_for_mount(request.target, _MOUNT_SECONDS)
    except (DaemonFailed, OSError) as error:
        raise request.error("the NFS client in user space could not mount it", str(error), _hint(inside)) from error
    return MountedByFuse(request, daemon, read_only=options.read_only)


def _directory(request: MountRequest, inside: str) -> Mounted:
    options = nfs_options.for_user_space(request.source.settings.get("mountOptions"))
    request.log(f"showing the directory of {request.source.title}: nothing serves NFS on this machine")
    try:
        descriptor = os.open(request.source.directory, _FOLDER)
        for name in Path(inside).parts:
            outer = descriptor
            try:
                descriptor = os.open(name, _FOLDER, dir_fd=outer)
            finally:
                os.close(outer)
    except OSError as error:
        raise request.error(f"it has no directory '/{inside}' ({error.strerror})", hint=_hint(inside)) from error
    return MountedDirectory(descriptor, read_only=options.read_only)


def _hint(inside: str) -> str:
    if inside:
        return f"If '{inside}' does not exist in it, make it from a job that mounts all of it, or by SFTP."
    return "See the file server's state, and its log below logs/fileservers of the service's home."


def _run(*command: str, seconds: float = _MOUNT_SECONDS) -> str:
    """What it said when it failed; empty when it succeeded."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return (done.stdout.decode(errors="replace").strip() or f"exit code {done.returncode}") if done.returncode else ""
