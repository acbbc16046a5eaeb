"""Who uses how much: nodes and jobs that run now, and node-hours that fade with time.

The fading follows Slurm's multifactor plug-in: usage counts half after each half-life. A gang that runs is counted from
its start, with a pledge for the next hour of it, so that somebody who has just begun does not look idle.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from trainshed.scheduling.policy import HOUR_MS
from trainshed.scheduling.snapshot import Owner, Scope

#: How much of a gang's future its owner is charged with when it starts.
PLEDGE = HOUR_MS

Subject = tuple[Scope, str, str]


@dataclass(slots=True)
class Account:
    """What one workspace, user or experiment has running, and what it used before."""

    nodes: int = 0
    jobs: int = 0
    #: Milliseconds times nodes: the sums that make the usage of what runs a matter of one multiplication.
    _started: int = 0
    _pledged: int = 0
    _used: float = 0.0
    _used_at: int = 0

    def begin(self, nodes: int, limit: int, started_at: int) -> None:
        """A gang starts."""
        self.nodes += nodes
        self.jobs += 1
        self._started += nodes * started_at
        self._pledged += nodes * min(limit, PLEDGE)

    def take_back(self, nodes: int, limit: int, started_at: int) -> None:
        """The gang did not start after all."""
        self.nodes -= nodes
        self.jobs -= 1
        self._started -= nodes * started_at
        self._pledged -= nodes * min(limit, PLEDGE)

    def end(self, nodes: int, limit: int, started_at: int, now: int, half_life: int) -> None:
        """A gang is over."""
        self.take_back(nodes, limit, started_at)
        self.add(nodes * max(0, now - started_at), now, half_life)

    def add(self, node_ms: float, at: int, half_life: int) -> None:
        """Usage of the past, as of ``at``."""
        if at >= self._used_at:
            self._used = self._faded(at, half_life) + node_ms
            self._used_at = at
        else:
            self._used += node_ms * _fade(self._used_at - at, half_life)

    def usage(self, now: int, half_life: int) -> float:
        """Node-hours: what is left of the past, what runs, and what that is charged ahead."""
        running = self.nodes * now - self._started + self._pledged
        return (self._faded(now, half_life) + running) / HOUR_MS

    def _faded(self, now: int, half_life: int) -> float:
        return self._used * _fade(now - self._used_at, half_life) if self._used else 0.0


def _fade(age: int, half_life: int) -> float:
    return 0.0 if half_life <= 0 else 2.0 ** (-age / half_life) if age > 0 else 1.0


class Ledger:
    """The accounts of everybody; those of users and experiments lie inside their workspace."""

    def __init__(self, half_life: int = 7 * 24 * HOUR_MS) -> None:
        self.half_life = half_life
        #: Another number after each change.
        self.version = 0
        self._accounts: dict[Subject, Account] = {}

    def account(self, scope: Scope, owner: Owner) -> Account:
        """The account of the owner's workspace, user or experiment."""
        key = (scope, owner.workspace, owner.subject(scope))
        found = self._accounts.get(key)
        if found is None:
            found = self._accounts[key] = Account()
        return found

    def copy(self) -> Ledger:
        """One that goes its own way from here."""
        other = Ledger(self.half_life)
        other._accounts = {key: replace(account) for key, account in self._accounts.items()}
        return other

    def begin(self, owner: Owner, nodes: int, limit: int, started_at: int) -> None:
        """A gang of the owner starts."""
        self.version += 1
        for scope in Scope:
            self.account(scope, owner).begin(nodes, limit, started_at)

    def take_back(self, owner: Owner, nodes: int, limit: int, started_at: int) -> None:
        """Undo ``begin``."""
        self.version += 1
        for scope in Scope:
            self.account(scope, owner).take_back(nodes, limit, started_at)

    def end(self, owner: Owner, nodes: int, limit: int, started_at: int, now: int) -> None:
        """A gang of the owner is over."""
        self.version += 1
        for scope in Scope:
            self.account(scope, owner).end(nodes, limit, started_at, now, self.half_life)

    def add(self, owner: Owner, node_ms: float, at: int) -> None:
        """The owner used so much until ``at``."""
        self.version += 1
        for scope in Scope:
            self.account(scope, owner).add(node_ms, at, self.half_life)
