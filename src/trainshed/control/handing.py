"""Jobs onto engines that queue by themselves: handed over as soon as nothing of ours holds them back."""

from __future__ import annotations

from sqlalchemy import Connection

from trainshed.control.actions import Actions
from trainshed.control.fleet import queues
from trainshed.control.gangs import start_of
from trainshed.control.policies import Policies, holder_of
from trainshed.control.settings import ControlSettings
from trainshed.control.snapshots import HANDED_AT_ONCE, gang_of, handing_snapshot, room_in
from trainshed.engines.protocol import GangStatus
from trainshed.resources.lifecycle import JobState, ProvisioningState
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.scheduling.decide import decide
from trainshed.scheduling.scaling import largest_size
from trainshed.store import attempts, clusters, jobs
from trainshed.store.errors import or_none
from trainshed.store.records import ClusterRecord, JobRecord
from trainshed.store.usage import Holder


def hand_over_jobs(
    tx: Connection, actions: Actions, cluster: ClusterRecord, policies: Policies, settings: ControlSettings, now: int
) -> None:
    """Record an attempt for the jobs of the cluster that limits, budgets and its largest size let through.

    In the order in which they would be served; so many at once as one transaction can well take, the others follow.
    """
    rules = policies.of(cluster.workspace_key)
    decision = decide(handing_snapshot(tx, cluster, policies, now), rules.ledger, rules.limits)
    handed = 0
    for placement in decision.placements:
        job = jobs.get_by_id(tx, placement.job_id)
        policies.placed(_hand_over(tx, actions, job, cluster, settings, now))
        handed += job.node_count
    if handed and handed + largest_size(cluster.scale) > HANDED_AT_ONCE:
        actions.released = True


def take_up(
    tx: Connection, actions: Actions, status: GangStatus, settings: ControlSettings, now: int, *, draining: bool
) -> bool:
    """The engine has queued the work of this attempt, which is over, again by itself: that becomes the next attempt.

    At once, since the engine may start it at any moment. False when nobody wants the job to run any more, nothing may
    start, or a limit holds it back now; the engine is to drop it then.
    """
    attempt = or_none(attempts.get, tx, status.attempt_id)
    if attempt is None:
        return False
    job = jobs.get_by_id(tx, attempt.job_id)
    live = attempts.live_of_job(tx, job.id)
    if live is not None:
        return live.number > attempt.number
    cluster = or_none(clusters.get_by_uid, tx, job.cluster_uid)
    wanted = (
        job.execution is JobState.QUEUED
        and job.state is not ProvisioningState.DELETING
        and job.blocked == 0
        and (job.not_before is None or job.not_before <= now)
        and job.attempts == attempt.number
        and cluster is not None
        and cluster.state is ProvisioningState.SUCCEEDED
        and queues(settings.engines, cluster.engine)
    )
    if not wanted or draining or cluster is None or not _within_limits(tx, job, cluster, settings, now):
        return False
    _hand_over(tx, actions, job, cluster, settings, now)
    return True


def _within_limits(tx: Connection, job: JobRecord, cluster: ClusterRecord, settings: ControlSettings, now: int) -> bool:
    policies = Policies(tx, now, settings.prices)
    room = room_in(cluster, policies)
    if room is not None and job.node_count > room:
        return False
    rules = policies.of(job.workspace_key)
    return rules.limits.excess(gang_of(job).owner, job.node_count, rules.ledger) is None


def _hand_over(
    tx: Connection, actions: Actions, job: JobRecord, cluster: ClusterRecord, settings: ControlSettings, now: int
) -> Holder:
    attempt_id = settings.new_id()
    why = Reason(
        ReasonCode.WAITING_FOR_SCHEDULER,
        f"The job was handed over to engine {cluster.engine}, which has not said yet when it starts.",
        {"engine": cluster.engine},
    )
    attempt = attempts.hand_over(
        tx, id=attempt_id, job_id=job.id, number=job.attempts + 1, cluster_uid=cluster.uid, waiting=why, now=now
    )
    jobs.hand_over(tx, job.id, now, attempt_id)
    actions.starts.append(start_of(tx, job, attempt, settings))
    return holder_of(job, attempt, now, waiting=True)
