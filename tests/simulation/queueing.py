"""What must be true of dependencies, arrays and limits after every transaction: a part of ``invariants``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.simulation import rules
from tests.simulation.snapshot import Job, Snapshot
from trainshed.resources.conditions import Condition

if TYPE_CHECKING:
    from tests.simulation.invariants import Context

FINAL = ("succeeded", "failed")


@dataclass
class Used:
    """What one attempt used."""

    user: str | None
    experiment_key: str
    nodes: int
    placed_at: int
    ended_at: int | None


@dataclass
class Past:
    """What has been seen of jobs, also of those that are gone. By uid; attempts by id."""

    started: set[str] = field(default_factory=set)
    ended: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    used: dict[str, Used] = field(default_factory=dict)

    def note(self, before: Snapshot, now: Snapshot) -> None:
        """A transaction was committed."""
        for attempt in now.attempts.values():
            if attempt.waiting is None:
                self.started.add(now.jobs[attempt.job_id].uid)
        for job in now.jobs.values():
            if job.execution in FINAL:
                self.ended[job.uid] = job.execution
        # One that began or ended and was deleted in one transaction has left its story only.
        begun = {event.key for event in now.events if event.kind == "job" and event.after == "running"}
        last = {event.key: event.after for event in now.events if event.kind == "job" and event.after in FINAL}
        for id, job in before.jobs.items():
            if id not in now.jobs and job.key in begun:
                self.started.add(job.uid)
            if id not in now.jobs and job.key in last:
                self.ended.setdefault(job.uid, str(last[job.key]))
        self.gone.update(job.uid for id, job in before.jobs.items() if id not in now.jobs)
        for id, attempt in now.attempts.items():
            if attempt.waiting is not None:
                continue  # Its engine has it in a queue.
            known = self.used.get(id)
            if known is None:
                job = now.jobs[attempt.job_id]
                nodes, at = len(attempt.nodes), attempt.began_at or attempt.placed_at
                self.used[id] = Used(job.submitted_by, job.experiment_key, nodes, at, attempt.ended_at)
            elif known.ended_at is None:
                known.ended_at = attempt.ended_at
        for id in before.attempts.keys() - now.attempts.keys():
            # It ended and its job was deleted in one transaction: what it used since is not known here.
            if id in self.used and self.used[id].ended_at is None:
                self.used[id].ended_at = self.used[id].placed_at

    def met(self, on: str, condition: Condition) -> bool:
        """Whether a condition on another job holds."""
        if condition is Condition.AFTER:
            return on in self.started
        if condition is Condition.AFTER_OK:
            return self.ended.get(on) == "succeeded"
        return on in self.ended or on in self.gone

    def impossible(self, on: str, condition: Condition) -> bool:
        """Whether it can never hold any more."""
        return (on in self.ended or on in self.gone) and not self.met(on, condition)


def just_placed(before: Snapshot, now: Snapshot) -> list[Job]:
    """Jobs that this transaction gave nodes."""
    return [
        job
        for job in now.jobs.values()
        if job.attempts and (job.id not in before.jobs or job.attempts > before.jobs[job.id].attempts)
    ]


def dependencies_hold(before: Snapshot, now: Snapshot, context: Context) -> Iterator[str]:
    """No job starts before what it waits for is so, and none fails for it unless that can never be."""
    for job in just_placed(before, now):
        for on, condition in context.accepted[job.uid].waits_for:
            if not context.past.met(on, condition):
                other = context.accepted[on].name
                yield f"job {job.name} starts, and {other}, on which it depends ({condition}), has not come to that"
    for job in now.jobs.values():
        was = before.jobs.get(job.id)
        if job.execution == "failed" and (was is None or was.execution != "failed"):
            waits_for = context.accepted[job.uid].waits_for
            if "DependencyFailed" in job.errors and not any(context.past.impossible(*each) for each in waits_for):
                yield f"job {job.name} failed for jobs on which it depends, and they may still come to that"


def turns_are_taken(before: Snapshot, now: Snapshot, context: Context) -> Iterator[str]:
    """Never do more jobs of an array hold nodes than it lets run."""
    live: dict[str, int] = {}
    for attempt in now.attempts.values():
        array = context.accepted[now.jobs[attempt.job_id].uid].array
        if attempt.live and array is not None and array.limit is not None:
            live[array.name] = live.get(array.name, 0) + 1
            if live[array.name] > array.limit:
                yield f"{live[array.name]} jobs of array {array.name} run, it lets {array.limit} run at once"


def limits_hold(before: Snapshot, now: Snapshot, context: Context) -> Iterator[str]:
    """No job starts beyond a limit of nodes or running jobs, or when a budget is spent."""
    limits = now.rules.get("limits")
    if not limits or now.attempts.keys() <= before.attempts.keys():
        return
    placed = just_placed(before, now)
    holders = [now.jobs[attempt.job_id] for attempt in now.attempts.values() if attempt.live]
    for limit in rules.of_measure(now.rules, "nodes", "runningJobs"):
        for whose in {rules.subject_of(limit, job) for job in placed} - {None}:
            used = rules.in_use(limit, whose, holders)
            if used > limit["amount"]:
                yield f"{', '.join(job.name for job in placed)} started, and {used} are in use of {limit} by {whose!r}"
    # What the service took for now in that transaction.
    clock = max(attempt.placed_at for id, attempt in now.attempts.items() if id not in before.attempts)
    for limit in rules.of_measure(now.rules, rules.BUDGET):
        start = rules.period_start(limit, clock)
        for whose in {rules.subject_of(limit, job) for job in placed} - {None}:
            spent = 0.0
            for used in context.past.used.values():
                if rules.subject(limit, used.user, used.experiment_key) == whose:
                    until = clock if used.ended_at is None else min(clock, used.ended_at)
                    spent += used.nodes * max(0, until - max(start, used.placed_at)) / 3_600_000
            if spent > limit["amount"] + 1e-9:
                yield f"{', '.join(job.name for job in placed)} started, and {spent} is spent of {limit} by {whose!r}"


def fits(job: Job, now: Snapshot, context: Context) -> bool:
    """Whether the job comes to run or to fail when everything else that can end has ended."""
    cluster = now.clusters.get(job.cluster_uid)
    if cluster is None or job.node_count > cluster.largest or next(rules.never(now.rules, job), None) is not None:
        return False
    by_uid = {other.uid: other for other in now.jobs.values()}
    for on, condition in context.accepted[job.uid].waits_for:
        other = by_uid.get(on)
        if context.past.met(on, condition) or other is None or other.execution in FINAL:
            continue
        if not fits(other, now, context):
            return False
    return True
