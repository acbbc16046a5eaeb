"""unmanagedFileSystems: whatever the user's own mount command mounts (NFS, GlusterFS, Lustre, a bind mount ...).

The mount path is appended to the command (behaviour 3.6).
"""

from __future__ import annotations

import codecs
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from trainshed.resources.reasons import ReasonCode
from trainshed.volumes.protocol import MountPoint, Run, VolumeError

#: Characters of the tool's own words that an error carries.
_OUTPUT_LIMIT = 2000
#: Known before it is needed: where mount commands have run nothing may be imported any more.
codecs.lookup("unicode_escape")


@dataclass(frozen=True, slots=True)
class UnmanagedVolume:
    """A mount command and the place where it is to mount."""

    point: MountPoint
    mount_command: str

    def describe(self) -> str:
        """The command itself may hold a password, so only its first word is said."""
        tool = self.mount_command.split(maxsplit=1)[0] if self.mount_command.strip() else "(no command)"
        return f"unmanaged file system at {self.point.path} by {tool}"

    def mount(self, run: Run) -> None:
        """Run the command and see that something is mounted afterwards. Raises VolumeError."""
        path = self.point.path
        try:
            Path(path).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._error(f"its mount point cannot be made: {error.strerror}", "") from error
        result = run(f"{self.mount_command} {shlex.quote(path)}")
        if result.exit_code != 0:
            raise self._error(f"its mountCommand ended with exit code {result.exit_code}", result.output)
        if not is_mounted(path):
            raise self._error("its mountCommand ended with exit code 0, but nothing is mounted there", result.output)

    def unmount(self, run: Run) -> None:
        """umount, or what FUSE has for those who are not root. Raises VolumeError."""
        path = shlex.quote(self.point.path)
        result = run(f"umount {path} 2>/dev/null || fusermount3 -u {path} 2>/dev/null || umount {path}")
        if result.exit_code != 0 and is_mounted(self.point.path):
            raise self._error("it cannot be unmounted", result.output)

    def _error(self, what: str, output: str) -> VolumeError:
        said = output.strip()[-_OUTPUT_LIMIT:]
        message = f": {said}" if said else ""
        return VolumeError(
            ReasonCode.VOLUME_MOUNT_FAILED,
            f"The unmanaged file system {self.point.relative_path} cannot be used at {self.point.path}: "
            f"{what}{message}. Try the mountCommand on a node by hand, with the mount path as its last argument.",
            {"volume": self.point.relative_path, "mountPath": self.point.path, "message": said},
        )


def is_mounted(path: str) -> bool:
    """Whether a file system is mounted exactly there, bind mounts included (proc(5), mountinfo)."""
    real = os.path.realpath(path)
    # A process outside the PID namespace that /proc belongs to is not in it; the namespace's first process is.
    table = "/proc/self/mountinfo" if Path("/proc/self").exists() else "/proc/1/mountinfo"
    with open(table) as mounts:
        return any(_unescaped(line.split(" ", 5)[4]) == real for line in mounts)


def _unescaped(field: str) -> str:
    """A path of mountinfo, where blanks and backslashes are octal escapes."""
    if "\\" not in field:
        return field
    return os.fsdecode(os.fsencode(field).decode("unicode_escape").encode("latin-1"))
