"""Why a queued job waits, and what would change it: one code and one sentence."""

from __future__ import annotations

from dataclasses import dataclass

from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.resources.times import format_duration, format_time
from trainshed.scheduling.decide import Held, Hold
from trainshed.scheduling.limits import Excess, Measure


@dataclass(frozen=True, slots=True)
class WaitingFacts:
    """All that the explanation of one queued job rests on."""

    job: str
    node_count: int
    #: None when the job's cluster is gone.
    cluster: str | None
    cluster_deleting: bool = False
    engine_available: bool = True
    draining: bool = False
    #: When it is tried again after a failure of its own, if that is still to come; and the time now. Unix ms.
    retry_at: int | None = None
    now: int = 0
    #: Jobs before it in the cluster's queue, and the first of them.
    ahead: int = 0
    first_ahead: str | None = None
    idle: int = 0
    running: int = 0
    preparing: int = 0
    unusable: int = 0
    leaving: int = 0
    #: The largest number of nodes that the scale settings allow.
    largest: int = 0
    #: The number of nodes that the scale settings ask for now.
    target: int = 0
    #: What the scheduler said of it, if it looked at it.
    held: Held | None = None
    #: The name of the user or experiment whose limit holds it back, for people.
    limited: str = ""
    #: The first job that waits, and by when it starts at the latest (Unix ms); None where nobody can say.
    reserved_for: str | None = None
    reserved_at: int | None = None
    #: Its own wall-clock limit in seconds, None without one.
    wall_clock_seconds: float | None = None
    #: Why the first unusable node is unusable, or why nodes cannot be had.
    node_problem: Reason | None = None


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"


def _have(facts: WaitingFacts) -> str:
    parts = [
        f"{count} {word}"
        for count, word in (
            (facts.idle, "idle"),
            (facts.running, "running"),
            (facts.preparing, "preparing"),
            (facts.leaving, "leaving"),
            (facts.unusable, "unusable"),
        )
        if count
    ]
    return ", ".join(parts) or "no nodes"


def explain(facts: WaitingFacts) -> Reason:
    """The reason that weighs most, with what would change it."""
    need = _nodes(facts.node_count)
    if facts.cluster is None:
        return Reason(
            ReasonCode.CLUSTER_NOT_FOUND,
            "The job's cluster no longer exists. Create the job again on another cluster.",
        )
    details = {
        "cluster": facts.cluster,
        "nodesNeeded": str(facts.node_count),
        "nodesIdle": str(facts.idle),
        "nodesRunning": str(facts.running),
        "nodesPreparing": str(facts.preparing),
        "nodesUnusable": str(facts.unusable),
        "jobsAhead": str(facts.ahead),
    }
    resize = f"trainshed cluster resize -n {facts.cluster} -t {facts.node_count}"
    if facts.cluster_deleting:
        text = (
            f"Cluster {facts.cluster} is being deleted; the job cannot run there. Create it again on another cluster."
        )
        return Reason(ReasonCode.CLUSTER_BEING_DELETED, text, details)
    if not facts.engine_available:
        text = f"The engine of cluster {facts.cluster} cannot be reached now; jobs start when it answers again."
        return Reason(ReasonCode.ENGINE_UNAVAILABLE, text, details)
    if facts.retry_at is not None:
        seconds = max(1, round((facts.retry_at - facts.now) / 1000))
        text = (
            f"The job failed and is tried again as its retryPolicy says, at {format_time(facts.retry_at)} "
            f"(in {seconds} s). A shorter retryPolicy.backoff would let it start earlier."
        )
        return Reason(ReasonCode.WAITING_FOR_RETRY, text, {**details, "retryAt": format_time(facts.retry_at)})
    if facts.largest == 0:
        text = f"Cluster {facts.cluster} is scaled to 0 nodes and the job needs {need}. Scale it up: {resize}"
        return Reason(ReasonCode.CLUSTER_EMPTY, text, details)
    if facts.node_count > facts.largest:
        text = (
            f"The job needs {need} and cluster {facts.cluster} is limited to {facts.largest} by its scale settings. "
            f"Scale it up: {resize}"
        )
        return Reason(ReasonCode.CLUSTER_TOO_SMALL, text, details)
    if facts.draining:
        text = (
            f"Cluster {facts.cluster} is scaling down and waits for running jobs to end; "
            f"no job starts there until {facts.target} of its nodes remain."
        )
        return Reason(ReasonCode.CLUSTER_DRAINING, text, details)
    usable_soon = (
        facts.idle
        + facts.running
        + facts.preparing
        + max(0, facts.target - facts.unusable - facts.idle - facts.running - facts.preparing)
    )
    if facts.unusable and facts.node_count > usable_soon:
        why = f" ({facts.node_problem.text})" if facts.node_problem else ""
        text = (
            f"The job needs {need}; cluster {facts.cluster} has {_have(facts)}{why}. "
            "Mend the cause; nodes are replaced after a while, and at once by a resize (to the size that it has, too)."
        )
        return Reason(ReasonCode.NODES_UNUSABLE, text, details)
    if facts.held is not None and (found := _by_scheduler(facts, facts.held, details)) is not None:
        return found
    if facts.ahead:
        others = "1 job is" if facts.ahead == 1 else f"{facts.ahead} jobs are"
        first = f", first {facts.first_ahead}" if facts.first_ahead else ""
        text = (
            f"{others} ahead of it in the queue of cluster {facts.cluster}{first}; the cluster has {_have(facts)}. "
            "A higher schedulingPriority or more nodes would let it start earlier."
        )
        return Reason(ReasonCode.WAITING_BEHIND_JOBS, text, details)
    if facts.node_count <= facts.idle:
        text = f"The job is next and cluster {facts.cluster} has {_have(facts)}: it starts in a moment."
        return Reason(ReasonCode.WAITING_FOR_SCHEDULER, text, details)
    if facts.node_problem is not None and facts.running + facts.preparing == 0:
        text = f"The job needs {need}; cluster {facts.cluster} has {_have(facts)}: {facts.node_problem.text}"
        return Reason(ReasonCode.ALLOCATION_FAILED, text, details)
    if facts.idle + facts.preparing >= facts.node_count or facts.running == 0:
        text = f"The job is next; it needs {need} and nodes are being prepared: {facts.cluster} has {_have(facts)}."
        return Reason(ReasonCode.NODES_PREPARING, text, details)
    text = (
        f"The job is next; it needs {need} at once and cluster {facts.cluster} has {_have(facts)}. "
        "It starts when running jobs release their nodes."
    )
    return Reason(ReasonCode.WAITING_FOR_NODES, text, details)


def _by_scheduler(facts: WaitingFacts, held: Held, details: dict[str, str]) -> Reason | None:
    """What only the scheduler knows; None when the plain counts say more."""
    if held.hold is Hold.LIMITED and held.excess is not None:
        return _limited(facts, held.excess, details)
    if held.hold is Hold.MAKING_ROOM:
        text = (
            f"Jobs of a lower priority on cluster {facts.cluster} were told to make room for it; "
            "it starts when they have stopped."
        )
        return Reason(ReasonCode.WAITING_FOR_PREEMPTION, text, details)
    if held.hold is Hold.WOULD_DELAY and facts.reserved_for is not None:
        return _would_delay(facts, details)
    return None


def _limited(facts: WaitingFacts, excess: Excess, details: dict[str, str]) -> Reason:
    limit = excess.limit
    whose = f"{limit.scope.value} {facts.limited}".strip() if facts.limited else f"the {limit.scope.value}"
    more = {**details, "limit": limit.measure.value, "amount": f"{limit.amount:g}", "used": f"{excess.used:g}"}
    if limit.measure in (Measure.NODE_HOURS, Measure.COST):
        what = "node-hours" if limit.measure is Measure.NODE_HOURS else "cost"
        text = (
            f"The budget of {whose} is spent: {excess.used:.1f} of {limit.amount:g} {what}. It starts when the next "
            "period begins or the budget is raised (trainshed workspace rules)."
        )
        return Reason(ReasonCode.BUDGET_SPENT, text, more)
    what = "nodes" if limit.measure is Measure.NODES else "running jobs"
    if excess.never:
        text = (
            f"The job needs {_nodes(facts.node_count)} and {whose} may have {limit.amount:g} {what} at once, so it "
            "never starts. Ask for fewer nodes, or have the limit raised (trainshed workspace rules)."
        )
    else:
        text = (
            f"{whose[0].upper()}{whose[1:]} has {excess.used:g} of {limit.amount:g} {what}; the job needs "
            f"{_nodes(facts.node_count)}. It starts when others of the same {limit.scope.value} end, or when the "
            "limit is raised (trainshed workspace rules)."
        )
    return Reason(ReasonCode.LIMIT_REACHED, text, more)


def _would_delay(facts: WaitingFacts, details: dict[str, str]) -> Reason:
    more = {**details, "reservedFor": facts.reserved_for or ""}
    if facts.reserved_at is None:
        text = (
            f"Cluster {facts.cluster} has {_have(facts)}, but job {facts.reserved_for} waits for more of them, and "
            "this one could hold its nodes for longer. A limit on its time (constraints.maxWallClockTime) would help."
        )
        return Reason(ReasonCode.WAITING_FOR_RESERVATION, text, more)
    at = format_time(facts.reserved_at)
    seconds = max(0, (facts.reserved_at - facts.now) // 1000)
    own = "no limit" if facts.wall_clock_seconds is None else format_duration(facts.wall_clock_seconds)
    text = (
        f"Cluster {facts.cluster} has {_have(facts)}, but they are kept for job {facts.reserved_for}, which starts at "
        f"{at} at the latest. A maxWallClockTime of at most {format_duration(seconds)} instead of {own} would let "
        "this one pass."
    )
    return Reason(ReasonCode.WAITING_FOR_RESERVATION, text, {**more, "reservedAt": at})
