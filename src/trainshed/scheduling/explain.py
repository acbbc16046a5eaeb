"""Why a queued job waits, and what would change it: one code and one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.resources.times import format_duration, format_time, spoken_duration
from trainshed.scheduling.decide import Held, Hold
from trainshed.scheduling.limits import Excess, Measure
from trainshed.scheduling.snapshot import Scope


class Ahead(StrEnum):
    """Why one job is before another in the queue, in the order of ``order.Rank``."""

    BUDGET = "its budget is not spent"
    PRIORITY = "it has a higher priority"
    MADE_ROOM = "it made room for another job before"
    USER = "its user has used less lately"
    EXPERIMENT = "its experiment has used less lately"
    AGE = "it was submitted earlier"


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
    why_ahead: Ahead = Ahead.AGE
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
    #: When nodes that failed are replaced, or asked for again (Unix ms); None when nothing is tried.
    next_try: int | None = None


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"


def _have(facts: WaitingFacts) -> str:
    counts = (
        (facts.idle, "idle"),
        (facts.running, "busy"),
        (facts.preparing, "preparing"),
        (facts.leaving, "leaving"),
        (facts.unusable, "unusable"),
    )
    parts = [f"{count} {word}" for count, word in counts if count]
    if not parts:
        return "no nodes"
    last = next(count for count, _ in reversed(counts) if count)
    return f"{' and '.join([', '.join(parts[:-1]), parts[-1]]) if parts[1:] else parts[0]} node{'s' * (last > 1)}"


def _moment(facts: WaitingFacts, at: int) -> str:
    """``in 5 min, at 2026-11-21T12:05:00Z``."""
    return f"in {spoken_duration(max(1.0, (at - facts.now) / 1000))}, at {format_time(at)}"


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
        text = (
            f"The engine that runs the nodes of cluster {facts.cluster} cannot be reached now; jobs start when it "
            "answers again. On the service's machine, trainshed doctor says more."
        )
        return Reason(ReasonCode.ENGINE_UNAVAILABLE, text, details)
    if facts.retry_at is not None:
        text = (
            f"The job failed and is tried again {_moment(facts, facts.retry_at)}, as its retryPolicy says. "
            "A shorter retryPolicy.backoff would let it start earlier."
        )
        return Reason(ReasonCode.WAITING_FOR_RETRY, text, {**details, "retryAt": format_time(facts.retry_at)})
    if facts.largest == 0:
        text = f"Cluster {facts.cluster} is scaled to 0 nodes and the job needs {need}. Scale it up: {resize}"
        return Reason(ReasonCode.CLUSTER_EMPTY, text, details)
    if facts.node_count > facts.largest:
        text = (
            f"The job needs {need} and cluster {facts.cluster} is limited to {facts.largest} by its scale settings, so "
            f"it never starts there as things stand. Scale it up: {resize}"
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
        why = f": {facts.node_problem.text.rstrip('.')}" if facts.node_problem else ""
        at_once = f"trainshed cluster resize -n {facts.cluster} -t {facts.target} replaces them at once"
        when = "They are not replaced any more" if facts.next_try is None else f"{_replaced(facts, facts.next_try)}"
        text = f"The job needs {need}; cluster {facts.cluster} has {_have(facts)}{why}. {when}; {at_once}."
        return Reason(ReasonCode.NODES_UNUSABLE, text, details)
    if facts.held is not None and (found := _by_scheduler(facts, facts.held, details)) is not None:
        return found
    if facts.ahead:
        others = "1 job is" if facts.ahead == 1 else f"{facts.ahead} jobs are"
        first = f"{'' if facts.ahead == 1 else 'first '}{facts.first_ahead} ({facts.why_ahead.value})"
        text = (
            f"{others} ahead of it in the queue of cluster {facts.cluster}{f', {first}' if facts.first_ahead else ''}; "
            f"the cluster has {_have(facts)}. A higher schedulingPriority or more nodes would let it start earlier."
        )
        return Reason(ReasonCode.WAITING_BEHIND_JOBS, text, details)
    if facts.node_count <= facts.idle:
        text = f"The job is next and cluster {facts.cluster} has {_have(facts)}: it starts in a moment."
        return Reason(ReasonCode.WAITING_FOR_SCHEDULER, text, details)
    if facts.node_problem is not None and facts.running + facts.preparing == 0:
        again = "" if facts.next_try is None else f" More are asked for {_moment(facts, facts.next_try)}."
        problem = facts.node_problem.text.rstrip(".")
        text = f"The job needs {need}; cluster {facts.cluster} has {_have(facts)} and gets no more: {problem}.{again}"
        return Reason(ReasonCode.ALLOCATION_FAILED, text, details)
    if facts.idle + facts.preparing >= facts.node_count or facts.running == 0:
        text = (
            f"The job is next; it needs {need} and cluster {facts.cluster} has {_have(facts)}. It starts when enough "
            "are ready."
        )
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
        by = "" if facts.reserved_at is None else f": {_moment(facts, facts.reserved_at)}, at the latest"
        text = (
            f"Jobs of a lower priority on cluster {facts.cluster} were told to make room for it; "
            f"it starts when they have stopped{by}."
        )
        return Reason(ReasonCode.WAITING_FOR_PREEMPTION, text, details)
    if held.hold is Hold.WOULD_DELAY and facts.reserved_for is not None:
        return _would_delay(facts, details)
    return None


def _replaced(facts: WaitingFacts, at: int) -> str:
    return f"They are replaced {_moment(facts, at)}" if at > facts.now else "They are being replaced"


def _limited(facts: WaitingFacts, excess: Excess, details: dict[str, str]) -> Reason:
    limit = excess.limit
    whose = f"{limit.scope.value} {facts.limited}".strip() if facts.limited else f"the {limit.scope.value}"
    more = {**details, "limit": limit.measure.value, "amount": f"{limit.amount:g}", "used": f"{excess.used:g}"}
    if limit.measure in (Measure.NODE_HOURS, Measure.COST):
        return _spent(facts, excess, whose, more)
    need, whose = _nodes(facts.node_count), whose[0].upper() + whose[1:]
    most = int(limit.amount)
    if limit.measure is Measure.JOBS:
        may, uses = f"run {'1 job' if most == 1 else f'{most} jobs'} at once", f"runs {excess.used:g}"
    else:
        may, uses = f"use {_nodes(most)} at once", f"uses {excess.used:g}; the job needs {need}"
    if excess.never:
        text = (
            f"{whose} may {may} and the job needs {need}, so it never starts as things stand. Ask for fewer nodes, or "
            f"have the limit raised: {_RULES}."
        )
    else:
        text = f"{whose} may {may} and {uses}. It starts when enough of {_OTHERS[limit.scope]} have ended, or "
        text += f"when the limit is raised: {_RULES}."
    return Reason(ReasonCode.LIMIT_REACHED, text, more)


def _spent(facts: WaitingFacts, excess: Excess, whose: str, details: dict[str, str]) -> Reason:
    limit = excess.limit
    what = "node-hours" if limit.measure is Measure.NODE_HOURS else "in money"
    renewed = ""
    if limit.renewed_at is not None:
        renewed = f"when the next period begins, {_moment(facts, limit.renewed_at)}, or "
        details = {**details, "renewedAt": format_time(limit.renewed_at)}
    text = (
        f"The budget of {whose} is spent: {excess.used:.4g} of {limit.amount:g} {what}. The job starts {renewed}"
        f"when the budget is raised: {_RULES}."
    )
    return Reason(ReasonCode.BUDGET_SPENT, text, details)


def _would_delay(facts: WaitingFacts, details: dict[str, str]) -> Reason:
    more = {**details, "reservedFor": facts.reserved_for or ""}
    them = "it is" if facts.idle == 1 else "they are"
    if facts.reserved_at is None:
        text = (
            f"Cluster {facts.cluster} has {_nodes(facts.idle)} idle, but {them} kept for job {facts.reserved_for}, "
            "which waits for more. A limit on this job's time (constraints.maxWallClockTime) may let it pass."
        )
        return Reason(ReasonCode.WAITING_FOR_RESERVATION, text, more)
    seconds = max(0, (facts.reserved_at - facts.now) // 1000)
    own = "no limit" if facts.wall_clock_seconds is None else format_duration(facts.wall_clock_seconds)
    text = (
        f"Cluster {facts.cluster} has {_nodes(facts.idle)} idle, but {them} kept for job {facts.reserved_for}, which "
        f"needs more and starts {_moment(facts, facts.reserved_at)}, at the latest. With a maxWallClockTime of "
        f"{format_duration(seconds)} or less (it has {own}) this one could run before."
    )
    return Reason(ReasonCode.WAITING_FOR_RESERVATION, text, {**more, "reservedAt": format_time(facts.reserved_at)})


_RULES = "trainshed workspace rules"
_OTHERS = {
    Scope.WORKSPACE: "its running jobs",
    Scope.USER: "their running jobs",
    Scope.EXPERIMENT: "its running jobs",
}
