"""Whose fault lost attempts are: a node's, which is then taken out, or a job's, which is then stopped.

Two questions are asked of what was lost lately. *Do attempts of several jobs die on this node, one after another?* Then
the node is bad, whatever ran there. *Does one job lose its attempts wherever it runs, while others come to their end
on the same nodes, and lose none?* Then the job kills its nodes, and is stopped before it takes the cluster with it.

Without that contrast a job is not blamed: a wide job that fills a cluster is hit by whatever hits the cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainshed.resources.reasons import Reason, ReasonCode

#: Losses that say nothing of the nodes: the daemon of all nodes died, or somebody took the nodes away.
_NOBODYS = frozenset(
    {
        ReasonCode.NODE_DAEMON_LOST,
        ReasonCode.ENGINE_STOPPED,
        ReasonCode.ENGINE_UNAVAILABLE,
        ReasonCode.NODE_EVICTED,
        ReasonCode.NODE_NOT_READY,
        ReasonCode.REQUEUED_BY_SCALE_DOWN,
    }
)


@dataclass(frozen=True)
class LossLimits:
    """How much loss is borne."""

    #: Attempts that a job may lose, whatever the cause.
    attempts: int = 20
    #: Attempts that may be lost on a node one after another.
    on_node: int = 3
    #: Attempts that a job may lose while no other job of its cluster loses any, and on how many of these occasions the
    #: node must have carried another attempt to its end afterwards.
    alone: int = 5
    proofs: int = 3


@dataclass(frozen=True, slots=True)
class LostAttempt:
    """An attempt that was lost to infrastructure, and the nodes that were at fault (``blamed_nodes``).

    ``disproved``: since then these nodes carried another attempt to an end of its own.
    """

    job_id: int
    number: int
    node_ids: tuple[str, ...]
    #: Unix ms.
    ended_at: int
    disproved: bool = False


def blamed_nodes(reason: Reason, node_ids: Sequence[str]) -> tuple[str, ...]:
    """Of the nodes of a lost attempt, those that lost it: the ones that the reason names; all, if it names none."""
    if reason.code in _NOBODYS:
        return ()
    named = reason.details.get("node") or reason.details.get("nodes") or ""
    found = {name.strip() for name in named.split(",") if name.strip()}
    return tuple(node for node in node_ids if node in found) or tuple(node_ids)


def node_is_bad(jobs: Sequence[int], lost_elsewhere: bool, limits: LossLimits) -> bool:
    """Whether a node is to be taken out.

    ``jobs`` are those whose attempts were lost there one after another, without an attempt between them that came to
    an end of its own; ``lost_elsewhere``: the last of them lost attempts on other nodes too. When they are all of one
    job that dies elsewhere as well, the job is under suspicion and not the node.
    """
    if len(jobs) < limits.on_node:
        return False
    return len(set(jobs)) > 1 or not lost_elsewhere


def job_kills_nodes(own: Sequence[LostAttempt], others_since: Sequence[LostAttempt], limits: LossLimits) -> bool:
    """Whether a job is to be stopped because its nodes die of it.

    ``own`` are all its lost attempts; ``others_since`` what other jobs of the cluster lost since the first of them. It
    is to blame when it lost many, on several nodes that were seen to be well afterwards, and nobody else lost any.
    """
    telling = [attempt for attempt in own if attempt.node_ids]
    nodes = {node for attempt in telling for node in attempt.node_ids}
    if len(telling) < limits.alone or len(nodes) < 2 or sum(one.disproved for one in telling) < limits.proofs:
        return False
    return not any(attempt.node_ids for attempt in others_since)


def first_telling(own: Sequence[LostAttempt]) -> int | None:
    """When (Unix ms) the first attempt was lost that says something of its nodes."""
    return min((attempt.ended_at for attempt in own if attempt.node_ids), default=None)
