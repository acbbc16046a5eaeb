"""What a workspace, a user or an experiment may have at once, and what it may use altogether."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from trainshed.scheduling.ledger import Ledger
from trainshed.scheduling.snapshot import Owner, Scope


class Measure(StrEnum):
    """What is limited."""

    NODES = "nodes"
    JOBS = "runningJobs"
    NODE_HOURS = "nodeHours"
    COST = "cost"


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so much of a measure for one subject, or for each one of its kind in the workspace."""

    workspace: str
    scope: Scope
    measure: Measure
    amount: float
    #: The user's or experiment's key; None for each.
    subject: str | None = None
    #: Whether what is beyond it does not start; otherwise it only goes behind everyone else (budgets).
    hard: bool = True
    #: Of a budget: what was spent of it so far, by subject.
    spent: Mapping[str, float] = field(default_factory=dict)
    #: Of a budget with a period: when the next one begins (Unix ms).
    renewed_at: int | None = None

    def holds_for(self, owner: Owner) -> bool:
        """Whether the owner's gangs count against it."""
        if self.workspace != owner.workspace:
            return False
        return self.subject is None or self.subject == owner.subject(self.scope)


@dataclass(frozen=True, slots=True)
class Excess:
    """A limit that a gang would exceed."""

    limit: Limit
    #: What is in use, or spent.
    used: float
    #: Waiting cannot help: the gang alone is more than the limit.
    never: bool = False


class Limits:
    """All limits, looked up by workspace; ``started`` counts what one decision has placed beside the ledger."""

    def __init__(self, limits: Iterable[Limit] = ()) -> None:
        self._of: dict[str, list[Limit]] = {}
        for limit in limits:
            self._of.setdefault(limit.workspace, []).append(limit)

    def __bool__(self) -> bool:
        return bool(self._of)

    def of(self, owner: Owner) -> Sequence[Limit]:
        """Those that hold for the owner."""
        return [limit for limit in self._of.get(owner.workspace, ()) if limit.holds_for(owner)]

    @property
    def any_soft(self) -> bool:
        """Whether a budget may move somebody behind the others."""
        return any(not limit.hard for limits in self._of.values() for limit in limits)

    def excess(self, owner: Owner, nodes: int, ledger: Ledger) -> Excess | None:
        """The first hard limit that keeps a gang of so many nodes from starting, None if it may start."""
        for limit in self.of(owner):
            if not limit.hard:
                continue
            account = ledger.account(limit.scope, owner)
            if limit.measure is Measure.NODES:
                if account.nodes + nodes > limit.amount:
                    return Excess(limit, account.nodes, never=nodes > limit.amount)
            elif limit.measure is Measure.JOBS:
                if account.jobs + 1 > limit.amount:
                    return Excess(limit, account.jobs, never=limit.amount < 1)
            else:
                spent = limit.spent.get(owner.subject(limit.scope), 0.0)
                if spent >= limit.amount:
                    return Excess(limit, spent, never=True)
        return None

    def behind(self, owner: Owner) -> bool:
        """Whether the owner has spent a soft budget: its gangs go behind all others."""
        return any(
            limit.spent.get(owner.subject(limit.scope), 0.0) >= limit.amount
            for limit in self.of(owner)
            if not limit.hard
        )


NO_LIMITS = Limits()
