"""How many nodes a cluster should have, and which ones go when there are too many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from trainshed.resources.cluster import DEFAULT_IDLE_TIME
from trainshed.resources.times import duration_seconds
from trainshed.scheduling.ledger import Ledger
from trainshed.scheduling.limits import Limits
from trainshed.scheduling.snapshot import Gang


class Deallocation(StrEnum):
    """nodeDeallocationOption: what happens to jobs on nodes that are taken away (behaviour 3.4)."""

    REQUEUE = "requeue"
    TERMINATE = "terminate"
    WAIT = "waitforjobcompletion"


@dataclass(frozen=True, slots=True)
class ScalingNode:
    """A node that is not leaving yet."""

    node_id: str
    ordinal: int
    usable: bool
    ready: bool
    #: The attempt that holds the node, if any.
    attempt_id: str | None
    #: Unix ms since when it has had no work.
    idle_since: int


@dataclass(frozen=True, slots=True)
class Resize:
    """What to do about the number of nodes."""

    add: int = 0
    #: Nodes to take away now; those with work are stopped as ``deallocation`` says.
    remove: tuple[ScalingNode, ...] = ()
    deallocation: Deallocation = Deallocation.REQUEUE
    #: Nothing new may start until running jobs have ended and the nodes have gone.
    draining: bool = False


def target_of(
    scale: Mapping[str, Any], nodes: Sequence[ScalingNode], queued_nodes: int, now: int, *, created: bool
) -> int:
    """The number of nodes that the cluster should have now.

    ``queued_nodes`` is the sum of nodeCount over the jobs that wait and could start; ``created`` is False until the
    cluster has had its initial nodes (``initialNodeCount`` counts at creation only).
    """
    auto = scale.get("autoScale")
    idle_time = 0 if auto is None else idle_time_ms(auto)
    working = sum(1 for node in nodes if node.attempt_id is not None)
    resting = sum(1 for node in nodes if node.usable and node.attempt_id is None and now - node.idle_since < idle_time)
    return target_for(scale, working, resting, queued_nodes, created=created)


def target_for(scale: Mapping[str, Any], working: int, resting: int, queued_nodes: int, *, created: bool) -> int:
    """As ``target_of``, for so many nodes with work and so many that have had none for less than the idle time."""
    auto = scale.get("autoScale")
    if auto is None:
        return int((scale.get("manual") or {}).get("targetNodeCount", 0))
    low, high = int(auto["minimumNodeCount"]), int(auto["maximumNodeCount"])
    wanted = 0 if created else int(auto.get("initialNodeCount") or 0)
    needed = max(working + queued_nodes, working + resting, wanted)
    return max(low, min(high, needed))


def largest_size(scale: Mapping[str, Mapping[str, int]]) -> int:
    """The most nodes that the scale settings allow."""
    if "autoScale" in scale:
        return int(scale["autoScale"]["maximumNodeCount"])
    return int(scale.get("manual", {}).get("targetNodeCount", 0))


def startable_nodes(queue: Iterable[Gang], ledger: Ledger, limits: Limits, most: int) -> int:
    """How many nodes the waiting gangs could use at once: without those that are too wide or beyond a limit.

    ``most`` is the most that the cluster may have: what is beyond it need not be counted.
    """
    wanted = 0
    counted: list[Gang] = []
    for gang in queue:
        if gang.node_count <= most and limits.excess(gang.owner, gang.node_count, ledger) is None:
            ledger.begin(gang.owner, gang.node_count, gang.limit, 0)
            counted.append(gang)
            wanted += gang.node_count
            if wanted >= most:
                break
    for gang in counted:
        ledger.take_back(gang.owner, gang.node_count, gang.limit, 0)
    return wanted


def idle_time_ms(auto: Mapping[str, Any]) -> int:
    """Milliseconds for which a node of these autoScale settings stays without work."""
    return round(1000 * duration_seconds(auto.get("idleTimeBeforeScaleDown", DEFAULT_IDLE_TIME)))


def resize(scale: Mapping[str, Any], nodes: Sequence[ScalingNode], target: int) -> Resize:
    """Compare the nodes that are there with the target.

    Nodes go in this order: unusable, preparing, idle, working; the youngest first. An auto-scaled cluster never takes a
    node that has work. ``waitforjobcompletion`` takes idle nodes at once and the rest when their jobs have ended.
    """
    if len(nodes) < target:
        return Resize(add=target - len(nodes))
    excess = len(nodes) - target
    if excess == 0:
        return Resize()
    automatic = scale.get("autoScale") is not None
    option = Deallocation((scale.get("manual") or {}).get("nodeDeallocationOption", Deallocation.REQUEUE))
    going = sorted(nodes, key=lambda node: (node.attempt_id is not None, node.ready, node.usable, -node.ordinal))[
        :excess
    ]
    if automatic or option is Deallocation.WAIT:
        free = tuple(node for node in going if node.attempt_id is None)
        return Resize(remove=free, deallocation=option, draining=not automatic and len(free) < excess)
    return Resize(remove=tuple(going), deallocation=option)
