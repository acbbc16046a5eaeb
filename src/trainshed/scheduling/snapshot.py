"""What the scheduler is told, and what it answers: plain values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueuedGang:
    """A job that waits: how many nodes it needs, all or nothing."""

    job_id: int
    #: Higher goes first (high 1000, normal 0, low -1000).
    priority: int
    node_count: int


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """One cluster at one moment."""

    #: Waiting gangs in any order; ``job_id`` grows with the time of submission.
    queue: tuple[QueuedGang, ...]
    #: Ids of nodes that are ready and hold no gang, in the order in which they are to be used.
    idle_nodes: tuple[str, ...]
    #: The most nodes that a gang of this cluster can ever get as things stand: those that are usable or on their way.
    attainable_nodes: int
    #: No new job may start (scale-down that waits for running jobs).
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Placement:
    """Start this job on these nodes; the first is the master."""

    job_id: int
    node_ids: tuple[str, ...]
