"""What must be true after every transaction. Each check yields what is wrong; its name is the invariant's.

``CHECKS`` look at the database after one transaction, beside the one before it, and at the truth of the machines. The
machines themselves check what must hold whenever processes start (``machines.Machines._check_start``); that everything
ends is checked by the world (``world``), the reasons of waiting jobs in ``reasons``. ``mutants`` has for each of them a
planted bug that it catches.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.simulation.machines import Truth
from tests.simulation.queueing import Past, dependencies_hold, limits_hold, turns_are_taken
from tests.simulation.snapshot import Snapshot
from tests.simulation.user import Accepted
from tests.support.factories import SUBSCRIPTION
from trainshed.control.settings import ControlSettings
from trainshed.engines.protocol import GangResult
from trainshed.resources.lifecycle import ALLOCATION, ATTEMPT, JOB, NODE, PROVISIONING, Lifecycle
from trainshed.resources.quotas import counters
from trainshed.resources.reasons import ReasonCode
from trainshed.resources.vmsizes import find_size


@dataclass
class Context:
    """What a check may know beside the database."""

    settings: ControlSettings
    accepted: Mapping[str, Accepted]
    truth: Mapping[str, Truth]
    past: Past = field(default_factory=Past)


Check = Callable[[Snapshot, Snapshot, Context], Iterator[str]]


def no_job_lost(before: Snapshot, now: Snapshot, context: Context) -> Iterator[str]:
    """An accepted job is there until somebody wants it deleted, and one that runs has an attempt."""
    there = {job.uid for job in now.jobs.values()}
    for job in context.accepted.values():
        if job.uid not in there and not job.deleted:
            yield f"job {job.name} is not there any more, and nobody deleted it"
    live = {attempt.job_id for attempt in now.attempts.values() if attempt.live}
    for record in now.jobs.values():
        if (record.execution == "running" or record.handed_over) and record.id not in live:
            yield f"job {record.name} is {record.execution} and has no live attempt: nobody would ever end it"


def one_live_attempt(before: Snapshot, now: Snapshot, context: Context) -> Iterator[str]:
    """A job has at most one live attempt, and none while it waits or after its end."""
    live = Counter(attempt.job_id for attempt in now.attempts.values() if attempt.live)
    for id, number in live.items():
        job = now.jobs[id]
        if number > 1:
            yield f"job {job.name} has {number} live attempts"
        if job.execution not in ("running", "terminating") and not job.handed_over:
            yield f"job {job.name} is {job.execution} and has a live attempt"


def node_in_one_gang(before: Snapshot, now: Snapshot, context: Context) -> Iterator[str]:
    """No two live attempts have a node in common; an engine that queues may put several on one of its own."""
    taken: dict[str, str] = {}
    for attempt in now.attempts.values():
        if attempt.live and attempt.began_at is None:
            for node in attempt.nodes:
                if node in taken:
                    yield f"node {node} is in the live attempts {taken[node]} and {attempt.id}"
                taken[node] = attempt.id


def all_or_nothing(before: Snapshot, now: Snapshot, context: Context) -> Iterator[str]:
    """A live attempt holds all its nodes, as many of its cluster as the job needs; one that is over holds none."""
    held: dict[str, set[str]] = {}
    for node, attempt_id in now.holdings.items():
        held.setdefault(attempt_id, set()).add(node)
    for attempt in now.attempts.values():
        holds = held.pop(attempt.id, set())
        if not attempt.live:
            if holds:
                yield f"attempt {attempt.id} is {attempt.state} and holds {sorted(holds)}"
            continue
        job = now.jobs[attempt.job_id]
        if attempt.waiting is not None:
            if holds or attempt.nodes or job.execution == "running":
                yield f"attempt {attempt.id} of {job.name} waits in its engine, and holds {sorted(holds)}"
            continue
        if attempt.began_at is not None:
            # A node that the engine shows no more is not held any more.
            if not holds <= set(attempt.nodes) or len(attempt.nodes) != job.node_count:
                yield f"attempt {attempt.id} of {job.name} ({job.node_count} nodes) began on {attempt.nodes}"
            continue
        if holds != set(attempt.nodes) or len(holds) != job.node_count:
            yield f"attempt {attempt.id} of {job.name} ({job.node_count} nodes) holds {sorted(holds)}"
        if attempt.id not in before.attempts:
            for id in holds:
                row = before.nodes.get(id)
                if row is None or row.cluster_uid != job.cluster_uid:
                    yield f"attempt {attempt.id} of {job.name} holds {id}, which is not a node of its cluster"
    for attempt_id in held:
        yield f"nodes {sorted(held[attempt_id])} are held by attempt {attempt_id}, which is not there"


def scale_limits(before: Snapshot, now: Snapshot, context: Context) -> Iterator[str]:
    """No node is added beyond the scale settings; an auto-scaled cluster takes no node that has work.

    The nodes of an engine that queues are its own.
    """
    if context.settings.engines["local"].queues:
        return
    staying = Counter(node.cluster_uid for node in now.nodes.values() if node.state != "leaving")
    for uid in {node.cluster_uid for id, node in now.nodes.items() if id not in before.nodes}:
        cluster = now.clusters[uid]
        if staying[uid] > cluster.largest:
            yield f"cluster {cluster.name} got nodes and has {staying[uid]} of {cluster.largest}"
    for id, node in now.nodes.items():
        was = before.nodes.get(id)
        if node.state == "leaving" and was is not None and was.state != "leaving" and id in before.holdings:
            cluster = now.clusters[node.cluster_uid]
            # One that the engine took away is gone, whatever it did.
            evicted = node.reason is not None and ReasonCode.NODE_EVICTED in node.reason
            if cluster.state != "deleting" and "autoScale" in cluster.settings and id in now.holdings and not evicted:
                yield f"auto-scaled cluster {cluster.name} takes node {id} although an attempt holds it"


def core_quotas(before: Snapshot, now: Snapshot, context: Context) -> Iterator[str]:
    """No node is added beyond the quota of cores, which those of an engine that queues do not use."""
    if context.settings.engines["local"].queues:
        return
    if now.nodes.keys() <= before.nodes.keys():
        return
    limits = context.settings.quotas.limits(SUBSCRIPTION)
    used: Counter[str] = Counter()
    for node in now.nodes.values():
        size = find_size(now.clusters[node.cluster_uid].vm_size, {})
        assert size is not None
        for name in counters(size, "dedicated"):
            used[name] += size.cores
    for name, cores in used.items():
        if cores > limits.of(name):
            yield f"nodes were added and use {cores} cores of '{name}', of which {limits.of(name)} may be used"


def lifecycles(before: Snapshot, now: Snapshot, context: Context) -> Iterator[str]:
    """Every event is a step of its table, begins where the last one ended, and the rows are where the last one led."""
    at: dict[tuple[str, str], str] = {}
    for event in now.events:
        tables = _TABLES.get(event.kind)
        if tables is None or event.before is None or event.after is None or event.before == event.after:
            continue
        if not any((event.before, event.after) in table.pairs for table in tables):
            yield f"{event.kind} {event.key}: {event.event} led from {event.before} to {event.after}"
        details = json.loads(event.details) if event.details else {}
        thing = details.get("node") or details.get("attemptId")
        if event.kind in ("node", "attempt") and thing is not None:
            known = _state(before, event.kind, thing) if (event.kind, thing) not in at else at[event.kind, thing]
            if known is not None and known != event.before:
                yield f"{event.kind} {thing}: {event.event} began at {event.before}, but it was {known}"
            at[event.kind, thing] = event.after
    for (kind, thing), state in at.items():
        known = _state(now, kind, thing)
        if known is not None and known != state:
            yield f"{kind} {thing} is {known}, but its last event led to {state}"
    told = {event.key for event in now.events if event.kind == "job"}
    for job in now.jobs.values():
        was = before.jobs.get(job.id)
        if was is not None and was.execution != job.execution and job.key not in told:
            yield f"job {job.name} went from {was.execution} to {job.execution} without an event"


def success_is_final(before: Snapshot, now: Snapshot, context: Context) -> Iterator[str]:
    """A job with an attempt that succeeded has succeeded, and no attempt comes after it."""
    for attempt in now.attempts.values():
        if attempt.state == "succeeded":
            job = now.jobs[attempt.job_id]
            if job.execution != "succeeded":
                yield f"attempt {attempt.number} of {job.name} succeeded and the job is {job.execution}"
            if job.attempts != attempt.number:
                yield f"attempt {attempt.number} of {job.name} succeeded and it has {job.attempts} attempts"


def truth_is_told(before: Snapshot, now: Snapshot, context: Context) -> Iterator[str]:
    """What is recorded of an attempt that had processes is what became of them."""
    for attempt in now.attempts.values():
        was = before.attempts.get(attempt.id)
        if attempt.live or (was is not None and not was.live):
            continue
        job = now.jobs[attempt.job_id]
        truth = context.truth.get(job.uid, _UNKNOWN)
        result = truth.results.get(attempt.id, GangResult.LOST)
        # A job that ends badly while it makes room for others has made room, also if nobody wants it any more since.
        asked = was is not None and was.state == "stopping"
        made_room = asked and ReasonCode.PREEMPTED in (attempt.stop_reason or "")
        as_told = result.value == attempt.state or (
            made_room and (result, attempt.state) == (GangResult.FAILED, "stopped")
        )
        if not as_told or truth.exit_codes.get(attempt.id) != attempt.exit_code:
            yield (
                f"attempt {attempt.number} of {job.name} is recorded as {attempt.state} ({attempt.exit_code}), "
                f"but its processes {result.value} ({truth.exit_codes.get(attempt.id)})"
            )
        cluster = now.clusters.get(job.cluster_uid)
        # A job that was to be tried again ends without an exit code when its cluster is deleted.
        retried = cluster is None or cluster.state == "deleting"
        if (
            job.execution == "failed"
            and attempt.state == "failed"
            and job.exit_code != attempt.exit_code
            and not (retried and job.exit_code is None)
        ):
            yield f"job {job.name} failed with {job.exit_code}, its attempt with {attempt.exit_code}"


def tries_are_counted(before: Snapshot, now: Snapshot, context: Context) -> Iterator[str]:
    """Attempts are numbered without a gap, retries keep to the policy and its delay, losses to their limit."""
    numbers: dict[int, list[int]] = {}
    for attempt in now.attempts.values():
        numbers.setdefault(attempt.job_id, []).append(attempt.number)
    for job in now.jobs.values():
        if numbers.get(job.id, []) != list(range(1, job.attempts + 1)):
            yield f"job {job.name} says that it has {job.attempts} attempts: {numbers.get(job.id)}"
        was = before.jobs.get(job.id)
        if was is None or (was.retries, was.lost_attempts, was.attempts) == (
            job.retries,
            job.lost_attempts,
            job.attempts,
        ):
            continue
        policy = json.loads(job.definition).get("retryPolicy") or {"maxRetries": 0}
        if job.retries > policy["maxRetries"]:
            yield f"job {job.name} was tried again {job.retries} times, its policy allows {policy['maxRetries']}"
        if job.lost_attempts >= context.settings.lost_attempts_limit:
            yield f"job {job.name} lost {job.lost_attempts} attempts and goes on"
        if job.attempts > was.attempts and job.not_before is not None and job.not_before > context.settings.clock():
            yield f"job {job.name} was placed at {context.settings.clock()}, it should wait until {job.not_before}"


_UNKNOWN = Truth()

_TABLES: Mapping[str, tuple[Lifecycle[object, object], ...]] = {  # type: ignore[type-var]
    "job": (JOB, PROVISIONING),  # type: ignore[dict-item]
    "attempt": (ATTEMPT,),  # type: ignore[dict-item]
    "node": (NODE,),  # type: ignore[dict-item]
    "cluster": (PROVISIONING, ALLOCATION),  # type: ignore[dict-item]
    "experiment": (PROVISIONING,),  # type: ignore[dict-item]
}


def _state(snapshot: Snapshot, kind: str, thing: str) -> str | None:
    row = (snapshot.nodes if kind == "node" else snapshot.attempts).get(thing)
    return None if row is None else row.state


CHECKS: Mapping[str, Check] = {
    "no-job-lost": no_job_lost,
    "one-live-attempt": one_live_attempt,
    "node-in-one-gang": node_in_one_gang,
    "all-or-nothing": all_or_nothing,
    "scale-limits": scale_limits,
    "core-quotas": core_quotas,
    "lifecycles": lifecycles,
    "success-is-final": success_is_final,
    "truth-is-told": truth_is_told,
    "tries-are-counted": tries_are_counted,
    "dependencies-hold": dependencies_hold,
    "turns-are-taken": turns_are_taken,
    "limits-hold": limits_hold,
}
