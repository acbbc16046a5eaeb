"""What a driver of a kind of volume offers: say what it is, mount it, unmount it.

A driver decides the commands; whoever mounts (the runner for a job's volumes, the engine for a cluster's) runs them in
the right namespaces with the right environment, and passes ``Run`` for that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from trainshed.resources.reasons import Reason, ReasonCode


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
    """One volume of a cluster or a job."""

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
