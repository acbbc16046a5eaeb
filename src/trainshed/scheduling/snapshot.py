"""What the scheduler is told: plain values. Times are Unix milliseconds, durations milliseconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from operator import attrgetter

from trainshed.scheduling.policy import Policy

#: A moment that never comes: when a gang without a limit ends.
NEVER = 2**62

_age = attrgetter("job_id")


class Scope(StrEnum):
    """Whom usage is counted for and limits hold for."""

    WORKSPACE = "workspace"
    USER = "user"
    EXPERIMENT = "experiment"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a gang is, by the keys of the workspace, the user and the experiment; users are a workspace's own."""

    workspace: str = ""
    user: str = ""
    experiment: str = ""

    def subject(self, scope: Scope) -> str:
        """The key of the one that is meant."""
        if scope is Scope.USER:
            return self.user
        return self.experiment if scope is Scope.EXPERIMENT else self.workspace


NOBODY = Owner()


@dataclass(frozen=True, slots=True)
class Gang:
    """A job that waits for nodes, all or none. ``job_id`` grows with the time of submission."""

    job_id: int
    #: Higher goes first (high 1000, normal 0, low -1000).
    priority: int
    node_count: int
    #: Its wall-clock limit; NEVER without one.
    limit: int = NEVER
    owner: Owner = NOBODY
    #: It was pre-empted: it goes before the others of its priority.
    returning: bool = False


@dataclass(frozen=True, slots=True)
class RunningGang:
    """A job that holds nodes."""

    job_id: int
    priority: int
    node_count: int
    started_at: int
    #: When its wall-clock limit ends it; NEVER without one. Of one that is stopping: when its grace is over.
    ends_by: int
    owner: Owner = NOBODY
    #: It was told to stop: its nodes are free soon and it is nobody's victim any more.
    stopping: bool = False
    #: It may be pre-empted (its cluster allows it, and it wasn't marked as protected).
    preemptible: bool = True


@dataclass(frozen=True, slots=True)
class Arrival:
    """Nodes that will be there without anybody's end: being prepared, or asked for."""

    at: int
    count: int


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """One cluster at one moment."""

    #: Waiting gangs by lanes, see ``lanes_of``; each lane in its own order of age.
    lanes: Sequence[Iterable[Gang]]
    #: Ids of nodes that are ready and hold no gang, in the order in which they are to be used.
    idle_nodes: Sequence[str]
    #: The most nodes that a gang of this cluster can ever get as things stand: those that are usable or on their way.
    attainable_nodes: int
    now: int = 0
    #: In order of ``ends_by``. Only backfill and pre-emption look at them.
    running: Sequence[RunningGang] = ()
    arrivals: Sequence[Arrival] = ()
    #: No new job may start (scale-down that waits for running jobs).
    draining: bool = False
    policy: Policy = field(default_factory=Policy)
    #: Whether all gangs of a lane have one owner.
    by_owner: bool = False


@dataclass(frozen=True, slots=True)
class Placement:
    """Start this job on these nodes; the first is the master."""

    job_id: int
    node_ids: tuple[str, ...]
    #: It started before others that wait, in time for their reservation.
    backfilled: bool = False


@dataclass(frozen=True, slots=True)
class Preemption:
    """Take this running job's nodes for that waiting one."""

    victim: int
    beneficiary: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """When the first gang that has to wait can start at the latest, if running ones keep to their limits."""

    job_id: int
    #: NEVER when that depends on a gang without a limit.
    at: int
    #: Nodes that are free then beside its own: what runs longer may use them.
    spare: int


def lanes_of(queue: Iterable[Gang], *, by_owner: bool = False) -> list[list[Gang]]:
    """A queue in any order as lanes: gangs that only age tells apart, the oldest first.

    ``by_owner``: fair share or budgets tell owners apart too.
    """
    lanes: dict[object, list[Gang]] = {}
    for gang in queue:
        key: object
        if by_owner:
            owner = gang.owner
            # Its parts instead of itself: a tuple is hashed without a call of Python.
            key = (gang.priority, gang.returning, owner.workspace, owner.user, owner.experiment)
        else:
            key = (gang.priority, gang.returning)
        lane = lanes.get(key)
        if lane is None:
            lanes[key] = [gang]
        else:
            lane.append(gang)
    for lane in lanes.values():
        lane.sort(key=_age)
    return list(lanes.values())
