"""What the scheduler is told of a cluster: rows of one transaction, the queue read as far as it is looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import overload

from sqlalchemy import Connection

from trainshed.control.policies import Policies, WorkspacePolicy, limit_ms, owner_of, wall_clock_ms
from trainshed.control.settings import ControlSettings
from trainshed.resources.cluster import MAX_NODES, limits_jobs_together
from trainshed.resources.lifecycle import AttemptState, NodeState
from trainshed.resources.preemption import may_preempt, usual_grace
from trainshed.scheduling.policy import Policy
from trainshed.scheduling.scaling import largest_size
from trainshed.scheduling.snapshot import NEVER, Arrival, ClusterSnapshot, Gang, Owner, RunningGang
from trainshed.store import jobs
from trainshed.store.records import ClusterRecord, JobRecord, NodeRecord, QueuedJob
from trainshed.store.usage import Holder

#: Nodes of the jobs that one pass hands over to an engine that queues by itself.
HANDED_AT_ONCE = 500


class _Later(Sequence[RunningGang]):
    """Running gangs, read when somebody asks: a decision that starts everything never does."""

    def __init__(self, read: Callable[[], list[RunningGang]]) -> None:
        self._read = read
        self._found: list[RunningGang] | None = None

    def _all(self) -> list[RunningGang]:
        if self._found is None:
            self._found = self._read()
        return self._found

    @overload
    def __getitem__(self, index: int) -> RunningGang: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[RunningGang]: ...
    def __getitem__(self, index: int | slice) -> RunningGang | Sequence[RunningGang]:
        return self._all()[index]

    def __iter__(self) -> Iterator[RunningGang]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


def is_idle(node: NodeRecord) -> bool:
    """Whether a gang may be placed on the node."""
    return node.state is NodeState.READY and node.attempt_id is None


def attainable_nodes(cluster: ClusterRecord, members: list[NodeRecord], *, refused: bool) -> int:
    """How many nodes a gang can hope for: those that work or are being prepared, and those that scaling may still add.

    ``refused``: the engine could not provide more nodes the last time, so only those that are there count.
    """
    present = sum(1 for node in members if node.state in (NodeState.READY, NodeState.PREPARING))
    if refused:
        return present
    unusable = sum(1 for node in members if node.state is NodeState.UNUSABLE)
    return max(present, largest_size(cluster.scale) - unusable)


def snapshot_of(
    tx: Connection,
    cluster: ClusterRecord,
    members: list[NodeRecord],
    policies: Policies,
    settings: ControlSettings,
    now: int,
    *,
    refused: bool,
    draining: bool = False,
) -> ClusterSnapshot:
    """The cluster as the scheduler sees it. The transaction must not change it before the decision is made."""
    rules = policies.of(cluster.workspace_key)
    # Where attempts were lost lately comes last: a job that lost one there runs elsewhere if it can.
    idle = tuple(node.id for node in sorted(filter(is_idle, members), key=lambda node: len(node.losses)))
    attainable = attainable_nodes(cluster, members, refused=refused)
    # What is on its way may come at any moment, as far as anybody knows.
    ready = sum(1 for node in members if node.state is NodeState.READY)
    waiting = waiting_lanes(tx, cluster, rules, now, max_nodes=attainable, first=len(idle) + 1)
    grace = round(1000 * settings.grace_seconds)
    room = grace + round(1000 * usual_grace(cluster.definition))
    return ClusterSnapshot(
        lanes=[map(gang_of, lane) for lane in waiting],
        idle_nodes=idle,
        attainable_nodes=attainable,
        now=now,
        running=_Later(lambda: _running(policies, cluster.uid, grace)),
        arrivals=(Arrival(now, attainable - ready),) if attainable > ready else (),
        draining=draining,
        policy=Policy(
            backfill=cluster.definition.get("backfill", True),
            preemption=may_preempt(cluster.definition),
            fair_share=rules.fair_share,
            grace=room,
        ),
        by_owner=rules.by_owner,
    )


def handing_snapshot(tx: Connection, cluster: ClusterRecord, policies: Policies, now: int) -> ClusterSnapshot:
    """A cluster whose engine queues by itself, as the scheduler sees it: there is always room.

    What is left to decide is what holds for any engine: the order, limits and budgets, and its largest size, of each
    job or of all together.
    """
    rules, most = policies.of(cluster.workspace_key), largest_size(cluster.scale)
    room = room_in(cluster, policies)
    return ClusterSnapshot(
        lanes=[map(gang_of, lane) for lane in waiting_lanes(tx, cluster, rules, now, max_nodes=most)],
        idle_nodes=("",) * (HANDED_AT_ONCE if room is None else min(room, HANDED_AT_ONCE)),
        attainable_nodes=most,
        now=now,
        policy=Policy(backfill=False, fair_share=rules.fair_share),
        by_owner=rules.by_owner,
    )


def room_in(cluster: ClusterRecord, policies: Policies) -> int | None:
    """Nodes that jobs may still get of a cluster whose engine queues by itself; None when only each job is limited."""
    if not limits_jobs_together(cluster.definition):
        return None
    held = sum(holder.node_count for holder in policies.holders(cluster.uid))
    return max(0, largest_size(cluster.scale) - held)


def waiting_lanes(
    tx: Connection,
    cluster: ClusterRecord,
    rules: WorkspacePolicy,
    now: int,
    *,
    max_nodes: int = MAX_NODES,
    first: int = 64,
) -> list[Iterator[QueuedJob]]:
    """The cluster's queue, by owner where that matters; read as far as it is looked at."""
    if rules.by_owner:
        return jobs.lanes(tx, cluster.uid, now=now, first=first)
    return [jobs.walk(tx, cluster.uid, now=now, max_nodes=max_nodes, first=first)]


def gang_of(job: QueuedJob | JobRecord) -> Gang:
    """A waiting job."""
    owner = Owner(job.workspace_key, job.submitted_by or "", job.experiment_key)
    return Gang(job.id, job.priority, job.node_count, wall_clock_ms(job.wall_clock_seconds), owner, bool(job.returned))


def _running(policies: Policies, cluster_uid: str, grace: int) -> list[RunningGang]:
    found = [_running_gang(holder, grace) for holder in policies.holders(cluster_uid)]
    found.sort(key=lambda gang: gang.ends_by)
    return found


def _running_gang(holder: Holder, grace: int) -> RunningGang:
    stopping = holder.state == AttemptState.STOPPING.value
    ends_by = (
        holder.state_at + grace + round(1000 * holder.warned)
        if stopping
        else min(NEVER, holder.placed_at + limit_ms(holder))
    )
    return RunningGang(
        holder.job_id,
        holder.priority,
        holder.node_count,
        holder.placed_at,
        ends_by,
        owner_of(holder),
        stopping,
    )
