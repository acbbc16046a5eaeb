"""Attempts that were lost to infrastructure: whose fault it was, and what follows for nodes and jobs."""

from __future__ import annotations

from sqlalchemy import Connection

from trainshed.resources.lifecycle import NODE, AttemptState, NodeEvent, NodeState
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.scheduling.health import (
    LossLimits,
    LostAttempt,
    blamed_nodes,
    first_telling,
    job_kills_nodes,
    node_is_bad,
)
from trainshed.store import attempts, nodes
from trainshed.store.errors import or_none
from trainshed.store.records import AttemptRecord, JobRecord, NodeLoss, NodeRecord


def why_lost(tx: Connection, attempt: AttemptRecord, told: Reason | None) -> Reason:
    """Why the attempt was lost: that one of its nodes was taken away, which the record knows best, or what was told."""
    for node_id in attempt.node_ids:
        node = or_none(nodes.get, tx, node_id)
        if node is not None and node.reason is not None and node.reason.code is ReasonCode.NODE_EVICTED:
            text = f"Attempt {attempt.number} was lost with node {node_id}. {node.reason.text} The job is queued again."
            return Reason(ReasonCode.NODE_EVICTED, text, {"node": node_id})
    if told is not None:
        return told
    if not attempt.node_ids:
        return Reason(ReasonCode.NODE_LOST, f"Attempt {attempt.number} was lost before it had nodes.")
    lost = ", ".join(attempt.node_ids)
    return Reason(
        ReasonCode.NODE_LOST,
        f"Attempt {attempt.number} was lost with its nodes ({lost}).",
        {"nodes": ",".join(attempt.node_ids)},
    )


def judge(
    tx: Connection, job: JobRecord, attempt: AttemptRecord, reason: Reason, now: int, limits: LossLimits
) -> Reason | None:
    """Find out whose fault the loss was. Takes bad nodes out; returns why the job is to be given up, or None."""
    own = [
        _lost(other, disproved=other.id != attempt.id and _disproved(tx, other))
        for other in attempts.of_job(tx, job.id)
        if other.state is AttemptState.LOST
    ]
    verdict = _against_job(tx, job, own, reason, limits)
    blamed = blamed_nodes(reason, attempt.node_ids)
    if verdict is not None and verdict.code is ReasonCode.JOB_KILLS_NODES:
        for node_id in {node for loss in own for node in loss.node_ids}:
            nodes.forgive_losses(tx, node_id, job.id)
        return verdict
    for node_id in () if attempt.handed_over else blamed:
        # Nodes of an engine that places by itself are not ours to take out.
        node = or_none(nodes.get, tx, node_id)
        if node is not None and node.state is not NodeState.GONE:
            elsewhere = any(set(loss.node_ids) - {node_id} for loss in own)
            _against_node(tx, node, NodeLoss(attempt.id, job.id, job.name, attempt.number), elsewhere, now, limits)
    return verdict


def _against_job(
    tx: Connection, job: JobRecord, own: list[LostAttempt], reason: Reason, limits: LossLimits
) -> Reason | None:
    since = first_telling(own)
    if since is not None and len(own) >= limits.alone:
        others = [
            _lost(other) for other in attempts.lost_of_cluster(tx, job.cluster_uid, since) if other.job_id != job.id
        ]
        if job_kills_nodes(own, others, limits):
            killed = sorted({node for loss in own for node in loss.node_ids})
            number = sum(bool(loss.node_ids) for loss in own)
            text = (
                f"The job lost {number} attempts on {len(killed)} nodes ({', '.join(killed)}) while no other job of "
                "the cluster lost any, and others ended well on these nodes: nodes or runners die of it, and it is not "
                f"tried again. Look at its logs and at its use of memory, or try it on a larger vmSize. Last "
                f"loss: {reason.text}"
            )
            return Reason(ReasonCode.JOB_KILLS_NODES, text, {"attempts": str(number), "nodes": ",".join(killed)})
    # Of what was taken away as a rule nothing is the job's: low-priority nodes may go any number of times.
    counted = job.lost_attempts + (reason.code is not ReasonCode.NODE_EVICTED)
    if counted >= limits.attempts:
        text = f"The job lost {counted} attempts to failing nodes and is not tried again. Last loss: {reason.text}"
        return Reason(ReasonCode.TOO_MANY_LOST_ATTEMPTS, text)
    return None


def _against_node(
    tx: Connection, node: NodeRecord, loss: NodeLoss, elsewhere: bool, now: int, limits: LossLimits
) -> None:
    losses = nodes.add_loss(tx, node.id, loss)
    if not NODE.allows(node.state, NodeEvent.TAKEN_OUT):
        return
    if not node_is_bad([one.job_id for one in losses], elsewhere, limits):
        return
    named = ", ".join(f"attempt {one.number} of {one.job}" for one in losses)
    reason = Reason(
        ReasonCode.ATTEMPTS_DIE_ON_NODE,
        f"Attempts die on node {node.id} one after another ({named}), so it takes no more jobs.",
        {"node": node.id, "attempts": ",".join(one.attempt_id for one in losses)},
    )
    nodes.apply(tx, node.id, NodeEvent.TAKEN_OUT, now, reason)


def _lost(attempt: AttemptRecord, *, disproved: bool = False) -> LostAttempt:
    blamed = _blamed(attempt)
    return LostAttempt(attempt.job_id, attempt.number, blamed, attempt.ended_at or attempt.state_at, disproved)


def _blamed(attempt: AttemptRecord) -> tuple[str, ...]:
    return attempt.node_ids if attempt.reason is None else blamed_nodes(attempt.reason, attempt.node_ids)


def _disproved(tx: Connection, attempt: AttemptRecord) -> bool:
    """Whether no node that it was lost on still has it among its losses: an attempt came to its own end there since."""
    found = (or_none(nodes.get, tx, node_id) for node_id in _blamed(attempt))
    return not any(loss.attempt_id == attempt.id for node in found if node is not None for loss in node.losses)
