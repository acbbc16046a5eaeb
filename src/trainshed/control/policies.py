"""A workspace's scheduling rules and what its users used, as the scheduler has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from trainshed.resources.cluster import vm_priority
from trainshed.resources.prices import Prices
from trainshed.resources.scheduling_rules import BUDGETS, DEFAULT_HALF_LIFE
from trainshed.resources.times import duration_seconds
from trainshed.scheduling.ledger import Ledger
from trainshed.scheduling.limits import NO_LIMITS, Limit, Limits, Measure
from trainshed.scheduling.policy import FIRST_COME, HOUR_MS, FairShare
from trainshed.scheduling.snapshot import NEVER, Owner, Scope
from trainshed.store import clusters, principals, usage, workspaces
from trainshed.store.errors import or_none
from trainshed.store.records import AttemptRecord, JobRecord, WorkspaceRecord
from trainshed.store.usage import Holder, Used

#: Half-lives after which usage is nothing.
_FORGOTTEN = 12


@dataclass(frozen=True, slots=True)
class WorkspacePolicy:
    """The rules of one workspace, with what was used so far."""

    fair_share: FairShare
    limits: Limits
    ledger: Ledger

    @property
    def by_owner(self) -> bool:
        """Whether it matters whose a job is."""
        return self.fair_share.active or bool(self.limits)


class Policies:
    """The policies of one moment; each workspace's is read once."""

    def __init__(self, tx: Connection, now: int, prices: Prices) -> None:
        self._tx = tx
        self._prices = prices
        self._now = now
        self._of: dict[str, WorkspacePolicy] = {}
        self._holders: list[Holder] | None = None

    def of(self, workspace_key: str) -> WorkspacePolicy:
        """A workspace's policy."""
        found = self._of.get(workspace_key)
        if found is None:
            record = or_none(workspaces.get, self._tx, workspace_key)
            rules = record.scheduling if record is not None else {}
            found = self._of[workspace_key] = self._read(workspace_key, rules, record.created_at if record else 0)
        return found

    def holders(self, cluster_uid: str) -> list[Holder]:
        """The jobs that hold nodes of a cluster, those included that were placed since (``placed``)."""
        return [holder for holder in self._all_holders() if holder.cluster_uid == cluster_uid]

    def placed(self, holder: Holder) -> None:
        """A job got nodes in this pass."""
        if self._holders is not None:
            self._holders.append(holder)
        policy = self._of.get(holder.workspace_key)
        if policy is not None:
            policy.ledger.begin(owner_of(holder), holder.node_count, limit_ms(holder), holder.placed_at)

    def spent(self, workspace: WorkspaceRecord, scope: Scope, subject: str) -> dict[str, float]:
        """What one subject used altogether: node-hours and cost."""
        hours = self._spent(workspace.key, scope, Measure.NODE_HOURS, 0).get(subject, 0.0)
        cost = self._spent(workspace.key, scope, Measure.COST, 0).get(subject, 0.0)
        return {"nodeHours": round(hours, 3), "cost": round(cost, 2)}

    def _all_holders(self) -> list[Holder]:
        if self._holders is None:
            # What waits in an engine's own queue has used nothing so far.
            self._holders = [
                replace(holder, placed_at=self._now) if holder.waiting else holder for holder in usage.holders(self._tx)
            ]
        return self._holders

    def _read(self, workspace_key: str, rules: Mapping[str, Any], created_at: int) -> WorkspacePolicy:
        fair_share = self._fair_share(rules.get("fairShare"))
        written = rules.get("limits") or ()
        if not rules:
            return WorkspacePolicy(FIRST_COME, NO_LIMITS, Ledger())
        running = [holder for holder in self._all_holders() if holder.workspace_key == workspace_key]
        ledger = Ledger(fair_share.half_life)
        for used in usage.since(self._tx, workspace_key, self._now - _FORGOTTEN * fair_share.half_life):
            owner = Owner(workspace_key, used.user, used.experiment_key)
            ledger.add(owner, used.node_ms, min(self._now, (used.hour + 1) * HOUR_MS))
        for holder in running:
            ledger.begin(owner_of(holder), holder.node_count, limit_ms(holder), holder.placed_at)
        limits = [self._limit(workspace_key, rule, created_at) for rule in written]
        return WorkspacePolicy(fair_share, Limits(limit for limit in limits if limit is not None), ledger)

    def _fair_share(self, rules: Mapping[str, Any] | None) -> FairShare:
        if rules is None:
            return FIRST_COME
        weights = {self._user(name): float(weight) for name, weight in (rules.get("weights") or {}).items()}
        half_life = round(1000 * duration_seconds(rules.get("halfLife", DEFAULT_HALF_LIFE)))
        return FairShare(
            half_life=half_life,
            users=rules.get("users", True),
            experiments=rules.get("experiments", True),
            weights={user: weight for user, weight in weights.items() if user is not None},
        )

    def _limit(self, workspace_key: str, rule: Mapping[str, Any], created_at: int) -> Limit | None:
        scope, measure = Scope(rule["scope"]), Measure(rule["measure"])
        subject: str | None = None
        if (name := rule.get("name")) is not None:
            subject = self._user(name) if scope is Scope.USER else f"{workspace_key}/{name.lower()}"
            if subject is None:
                return None  # Nobody of that name: nothing to limit.
        spent: Mapping[str, float] = {}
        renewed_at: int | None = None
        if measure.value in BUDGETS:
            start, renewed_at = _period(rule.get("period"), created_at, self._now)
            spent = self._spent(workspace_key, scope, measure, start)
        return Limit(workspace_key, scope, measure, rule["amount"], subject, rule.get("hard", True), spent, renewed_at)

    def _user(self, name: str) -> str | None:
        record = or_none(principals.get_by_name, self._tx, name)
        return None if record is None else record.id

    def _spent(self, workspace_key: str, scope: Scope, measure: Measure, start: int) -> dict[str, float]:
        spent: dict[str, float] = {}
        for used in usage.since(self._tx, workspace_key, start):
            subject = _subject(workspace_key, scope, used)
            rate = self._rate(measure, used.vm_size, used.vm_priority)
            spent[subject] = spent.get(subject, 0.0) + rate * used.node_ms / HOUR_MS
        for holder in self._all_holders():
            if holder.workspace_key == workspace_key:
                subject = owner_of(holder).subject(scope)
                rate = self._rate(measure, *self._size(holder.cluster_uid)) if measure is Measure.COST else 1.0
                running = max(0, self._now - max(start, holder.placed_at))
                spent[subject] = spent.get(subject, 0.0) + rate * holder.node_count * running / HOUR_MS
        return spent

    def _rate(self, measure: Measure, vm_size: str, vm_priority: str) -> float:
        """What an hour of a node counts."""
        return self._prices.of(vm_size, vm_priority) if measure is Measure.COST else 1.0

    def _size(self, cluster_uid: str) -> tuple[str, str]:
        cluster = or_none(clusters.get_by_uid, self._tx, cluster_uid)
        return ("", "") if cluster is None else (cluster.vm_size, vm_priority(cluster.definition))


def holder_of(job: JobRecord, attempt: AttemptRecord, now: int, *, waiting: bool = False) -> Holder:
    """A job that was given an attempt just now; ``waiting``: in the queue of an engine that has one."""
    return Holder(
        job_id=job.id,
        workspace_key=job.workspace_key,
        user=job.submitted_by or "",
        experiment_key=job.experiment_key,
        cluster_uid=attempt.cluster_uid,
        priority=job.priority,
        node_count=job.node_count,
        wall_clock_seconds=job.wall_clock_seconds,
        placed_at=now,
        state=attempt.state.value,
        state_at=now,
        attempt_id=attempt.id,
        waiting=waiting,
    )


def owner_of(holder: Holder) -> Owner:
    """Whose it is."""
    return Owner(holder.workspace_key, holder.user, holder.experiment_key)


def limit_ms(holder: Holder) -> int:
    """Its wall-clock limit in milliseconds, NEVER without one."""
    return wall_clock_ms(holder.wall_clock_seconds)


def wall_clock_ms(seconds: float | None) -> int:
    """A wall-clock limit in milliseconds, NEVER without one."""
    return NEVER if seconds is None else min(NEVER, round(seconds * 1000))


def _subject(workspace_key: str, scope: Scope, used: Used) -> str:
    return Owner(workspace_key, used.user, used.experiment_key).subject(scope)


def _period(period: str | None, created_at: int, now: int) -> tuple[int, int | None]:
    """When the present period began, and when the next one does.

    Periods follow one another from the workspace's creation on. Without them all time is one.
    """
    if period is None:
        return 0, None
    length = max(1, round(1000 * duration_seconds(period)))
    start = created_at + max(0, now - created_at) // length * length
    return start, start + length
