"""Queued jobs onto idle nodes: snapshot, decision, record."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from trainshed.control.actions import Actions
from trainshed.control.dependencies import follow
from trainshed.control.endings import stop_attempt
from trainshed.control.fleet import queues
from trainshed.control.gangs import start_of
from trainshed.control.handing import hand_over_jobs
from trainshed.control.policies import Policies, holder_of
from trainshed.control.settings import ControlSettings
from trainshed.control.snapshots import attainable_nodes, is_idle, snapshot_of
from trainshed.resources.lifecycle import ProvisioningState
from trainshed.resources.preemption import may_preempt, warning_of
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.scheduling.decide import decide
from trainshed.scheduling.snapshot import Preemption
from trainshed.store import attempts, clusters, jobs, nodes
from trainshed.store.errors import or_none
from trainshed.store.records import ClusterRecord
from trainshed.store.usage import Holder


@dataclass(frozen=True, slots=True)
class Held:
    """Clusters (by uid) that the last full pass found in a special way."""

    #: Nothing new may start there until they have shrunk.
    draining: frozenset[str] = frozenset()
    #: The engine could not provide the nodes that they ask for.
    refused: frozenset[str] = frozenset()
    #: Whether any cluster scales by itself: a longer queue then means more nodes.
    automatic: bool = False
    #: Their engine cannot be reached: they stay as they are.
    away: frozenset[str] = frozenset()
    #: Whether any cluster's engine queues by itself: a longer queue then means more to hand over.
    queueing: bool = False
    #: Whether on any cluster jobs take nodes from others: a full cluster is looked at too.
    preempting: bool = False


def place_jobs(
    tx: Connection, actions: Actions, held: Held, settings: ControlSettings, now: int, away: str = ""
) -> None:
    """Record an attempt for every job that may start now; the engine is asked after the commit.

    ``away``: an engine that has been found to be away since the last full pass.
    """
    policies = Policies(tx, now, settings.prices)
    for cluster_uid in jobs.clusters_with_queue(tx):
        if cluster_uid in held.draining or cluster_uid in held.away:
            continue
        cluster = or_none(clusters.get_by_uid, tx, cluster_uid)
        if cluster is None or cluster.state is not ProvisioningState.SUCCEEDED or cluster.engine == away:
            continue
        if queues(settings.engines, cluster.engine):
            hand_over_jobs(tx, actions, cluster, policies, settings, now)
            continue
        members = nodes.of_cluster(tx, cluster_uid)
        refused = cluster_uid in held.refused
        if "autoScale" in cluster.scale and attainable_nodes(cluster, members, refused=refused) > len(members):
            actions.grow = True
        if not any(map(is_idle, members)) and not may_preempt(cluster.definition):
            continue
        snapshot = snapshot_of(tx, cluster, members, policies, settings, now, refused=refused)
        rules = policies.of(cluster.workspace_key)
        decision = decide(snapshot, rules.ledger, rules.limits)
        for preemption in decision.preemptions:
            _preempt(tx, actions, preemption, cluster, now)
        for placement in decision.placements:
            policies.placed(_record(tx, actions, placement.job_id, placement.node_ids, cluster_uid, settings, now))


def _preempt(tx: Connection, actions: Actions, preemption: Preemption, cluster: ClusterRecord, now: int) -> None:
    """Have a running job make room: it is warned, and queued again before the others of its priority."""
    attempt = attempts.live_of_job(tx, preemption.victim)
    if attempt is None:
        return
    victim, other = jobs.get_by_id(tx, preemption.victim), jobs.get_by_id(tx, preemption.beneficiary)
    reason = Reason(
        ReasonCode.PREEMPTED,
        f"Job {other.name}, which has a higher priority, needed the nodes; the job is queued again before the others "
        "of its own priority.",
        {"preemptedBy": other.name},
    )
    warning = warning_of(victim.definition, cluster.definition)
    stop_attempt(tx, attempt, reason, attempts.REQUEUE, actions, now, warning)


def _record(
    tx: Connection,
    actions: Actions,
    job_id: int,
    node_ids: tuple[str, ...],
    cluster_uid: str,
    settings: ControlSettings,
    now: int,
) -> Holder:
    job = jobs.get_by_id(tx, job_id)
    attempt_id = settings.new_id()
    attempt = attempts.insert(
        tx, id=attempt_id, job_id=job_id, number=job.attempts + 1, cluster_uid=cluster_uid, node_ids=node_ids, now=now
    )
    jobs.place(tx, job_id, now, attempt_id)
    if job.attempts == 0 and follow(tx, [job_id], now).released:
        actions.released = True
    actions.starts.append(start_of(tx, job, attempt, settings))
    return holder_of(job, attempt, now)
