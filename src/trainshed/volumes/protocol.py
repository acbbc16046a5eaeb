"""What a driver of a kind of volume offers.

There are two sorts. A *managed* volume is mounted by the service itself, outside of what jobs can reach: a driver is a
function from a ``MountRequest`` to what is ``Mounted``. An *unmanaged* one is the user's own mount command, which runs
where the user's other commands run: a ``Volume``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.resources.volume_sources import VolumeKind, VolumeSource

#: Seconds that mounting one volume may take, and writing what was not written when it ends.
MOUNT_SECONDS, FLUSH_SECONDS = 150.0, 600.0
#: Characters of a tool's own words that an error carries.
WORDS_LIMIT = 2000
#: Code of the error by kind (behaviour 9); VolumeMountError for all others.
_CODES = {
    VolumeKind.AZURE_FILE_SHARES: ReasonCode.AZURE_FILE_MOUNT_FAILED,
    VolumeKind.AZURE_BLOB_FILE_SYSTEMS: ReasonCode.AZURE_BLOB_MOUNT_FAILED,
}
_BLOTTED = "***"


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended: its exit code and what it printed (standard output and error together)."""

    exit_code: int
    output: str


#: Runs a bash command line to its end.
Run = Callable[[str], CommandResult]


class VolumeError(Exception):
    """A volume could not be mounted; the message names the volume, the cause and the way out."""

    def __init__(self, code: ReasonCode, text: str, details: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.reason = Reason(code, text, details or {})


@dataclass(frozen=True, slots=True)
class MountRequest:
    """A managed volume that is wanted, and what its driver may use."""

    source: VolumeSource
    #: Opened secrets by JSON pointer. None of them may get onto a command line, into a log or to where jobs can look.
    secrets: Mapping[str, str] = field(repr=False)
    #: Whose everything on the volume is to be, as far as the kind can tell owners.
    uid: int
    gid: int
    #: An empty directory to mount at, and a folder for sockets and password files. Both are on an in-memory file
    #: system that nobody but the service's user on this node can see, and vanish with it.
    target: str
    folder: str
    #: A folder on disk, closed to others, that the same volume gets again on this node; made by who needs it.
    cache: str
    #: A folder on disk, closed to others, for what the next jobs on this node can use again; made by who needs it.
    shared: str
    #: The node's name, for errors; empty for the service itself.
    node: str
    #: Tells the execution log.
    log: Callable[[str], None]

    def secret(self, name: str) -> str | None:
        """One of the volume's credentials, such as ``accountKey``."""
        return self.source.secret(name, self.secrets)

    def error(self, what: str, said: str = "", hint: str = "", details: Mapping[str, str] | None = None) -> VolumeError:
        """The volume cannot be used: what happened, the tool's own words, and what to do about it."""
        said = self._blotted(said).strip()[-WORDS_LIMIT:]
        source = self.source
        where = f" on node {self.node}" if self.node else ""
        text = f"The {source.title} cannot be used at {source.relative_path}{where}: {self._blotted(what)}"
        text += f": {said}." if said else "."
        return VolumeError(
            _CODES.get(VolumeKind(source.kind), ReasonCode.VOLUME_MOUNT_FAILED),
            f"{text} {hint}".strip(),
            {
                "volume": source.title,
                "kind": source.kind,
                "relativeMountPath": source.relative_path,
                "node": self.node,
                **({"message": said} if said else {}),
                **(details or {}),
            },
        )

    def _blotted(self, text: str) -> str:
        for value in sorted(self.secrets.values(), key=len, reverse=True):
            if value:
                text = text.replace(value, _BLOTTED)
        return text


class Mounted(Protocol):
    """A managed volume that is mounted."""

    @property
    def directory(self) -> str:
        """Where its files are: the request's target, or a directory of this machine."""
        ...

    @property
    def read_only(self) -> bool:
        """Whether nobody may write."""
        ...

    @property
    def service_owned(self) -> bool:
        """Whether its files belong to the service's own user on disk, and are to be shown as the job's user's."""
        ...

    def flush(self, seconds: float) -> None:
        """Write all that was closed to where it belongs, in that time at most. Nobody writes any more.

        Raises VolumeError that names what could not be written; it stays in the request's cache.
        """
        ...

    def unmount(self) -> None:
        """Take it away with all processes that served it, within seconds. Raises VolumeError."""
        ...


#: Mounts a volume. Raises VolumeError; nothing is left then.
Driver = Callable[[MountRequest], Mounted]


@dataclass(frozen=True, slots=True)
class MountPoint:
    """Where a volume appears."""

    root: str
    relative_path: str
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Absolute path of the mount point."""
        return f"{self.root}/{self.relative_path}"


class Volume(Protocol):
    """An unmanaged volume: it decides the commands, whoever mounts passes ``Run``, which runs them."""

    @property
    def point(self) -> MountPoint:
        """Where it is to appear."""
        ...

    def describe(self) -> str:
        """For people and logs; never holds a credential."""
        ...

    def mount(self, run: Run) -> None:
        """Mount it; the mount point's directory is made. Raises VolumeError."""
        ...

    def unmount(self, run: Run) -> None:
        """Unmount it, waiting for what is not yet written. Raises VolumeError."""
        ...
