"""What is to be done after a transaction has committed: decided inside it, carried out outside it."""

from __future__ import annotations

from dataclasses import dataclass, field

from trainshed.engines.protocol import ClusterSpec, GangSpec, NodeSpec
from trainshed.resources.reasons import Reason


@dataclass(frozen=True, slots=True)
class StartGang:
    """An attempt that is recorded and may now be acted upon."""

    gang: GangSpec


@dataclass(frozen=True, slots=True)
class StopGang:
    """An attempt that is to end."""

    attempt_id: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class AddNodes:
    """Nodes that are recorded and may now be asked for."""

    cluster: ClusterSpec
    nodes: tuple[NodeSpec, ...]


@dataclass(frozen=True, slots=True)
class MakeFileServer:
    """A file server that is recorded and may now get its directory."""

    key: str
    uid: str


@dataclass(slots=True)
class Actions:
    """The engine calls that follow from one pass."""

    starts: list[StartGang] = field(default_factory=list)
    stops: list[StopGang] = field(default_factory=list)
    #: Attempts whose outcome is recorded.
    forget: list[str] = field(default_factory=list)
    ensure_clusters: list[ClusterSpec] = field(default_factory=list)
    add_nodes: list[AddNodes] = field(default_factory=list)
    remove_nodes: list[str] = field(default_factory=list)
    remove_clusters: list[str] = field(default_factory=list)
    make_file_servers: list[MakeFileServer] = field(default_factory=list)
    #: uids of resources that are gone and whose directories below the home are to follow.
    remove_directories: list[str] = field(default_factory=list)
    #: Something changed that another pass should look at at once.
    again: bool = False

    #: An auto-scaled cluster has jobs that wait and could have more nodes.
    grow: bool = False

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
            or self.make_file_servers
            or self.remove_directories
        )
