"""What is to be done after a transaction has committed: decided inside it, carried out outside it."""

from __future__ import annotations

from dataclasses import dataclass, field

from trainshed.control.locked import Locked
from trainshed.engines.protocol import ClusterSpec, FileServerSpec, GangSpec, NodeSpec
from trainshed.resources.preemption import StopWarning
from trainshed.resources.reasons import Reason


@dataclass(frozen=True, slots=True)
class StartGang:
    """An attempt that is recorded and may now be acted upon."""

    gang: GangSpec
    secrets: Locked


@dataclass(frozen=True, slots=True)
class StopGang:
    """An attempt that is to end."""

    attempt_id: str
    reason: Reason
    #: What its processes get before.
    warning: StopWarning | None = None


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """A cluster as the engine is to know it."""

    cluster: ClusterSpec
    secrets: Locked


@dataclass(frozen=True, slots=True)
class AddNodes:
    """Nodes that are recorded and may now be asked for."""

    plan: ClusterPlan
    nodes: tuple[NodeSpec, ...]


@dataclass(frozen=True, slots=True)
class EnsureFileServer:
    """A file server that is recorded and that the engine is to serve."""

    key: str
    server: FileServerSpec
    secrets: Locked


@dataclass(slots=True)
class Actions:
    """The engine calls that follow from one pass."""

    starts: list[StartGang] = field(default_factory=list)
    stops: list[StopGang] = field(default_factory=list)
    #: Attempts whose outcome is recorded.
    forget: list[str] = field(default_factory=list)
    ensure_clusters: list[ClusterPlan] = field(default_factory=list)
    add_nodes: list[AddNodes] = field(default_factory=list)
    remove_nodes: list[str] = field(default_factory=list)
    remove_clusters: list[str] = field(default_factory=list)
    ensure_file_servers: list[EnsureFileServer] = field(default_factory=list)
    remove_file_servers: list[str] = field(default_factory=list)
    #: uids of resources that are gone and whose directories below the home are to follow.
    remove_directories: list[str] = field(default_factory=list)
    #: Something changed that another pass should look at at once.
    again: bool = False

    #: An auto-scaled cluster has jobs that wait and could have more nodes.
    grow: bool = False

    #: Jobs joined a queue because others were placed: it is to be looked at once more.
    released: bool = False

    #: When (Unix ms) a job that failed is to be tried again, if one is.
    due: int | None = None

    def wake_at(self, due: int | None) -> None:
        """Somebody has to look again at this time (Unix ms), or earlier."""
        if due is not None:
            self.due = due if self.due is None else min(self.due, due)

    @property
    def any(self) -> bool:
        """Whether there is anything to carry out."""
        return bool(
            self.starts
            or self.stops
            or self.forget
            or self.ensure_clusters
            or self.add_nodes
            or self.remove_nodes
            or self.remove_clusters
            or self.ensure_file_servers
            or self.remove_file_servers
            or self.remove_directories
        )
