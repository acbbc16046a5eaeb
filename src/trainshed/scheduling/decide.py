"""Which gangs start now, and where; which running ones make room; and why those that were looked at wait."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from trainshed.scheduling.backfill import earliest, releases
from trainshed.scheduling.ledger import Ledger
from trainshed.scheduling.limits import NO_LIMITS, Excess, Limits
from trainshed.scheduling.order import Order, Walk, lane_by_lane
from trainshed.scheduling.preemption import Candidates
from trainshed.scheduling.snapshot import (
    Arrival,
    ClusterSnapshot,
    Gang,
    Placement,
    Preemption,
    Reservation,
)


class Hold(StrEnum):
    """Why a gang that was looked at does not start."""

    #: It is wider than the cluster can become.
    TOO_WIDE = "too-wide"
    #: A limit or budget of its owner.
    LIMITED = "limited"
    #: It is the first that must wait, and has the reservation (which is reckoned only where nodes are free).
    RESERVED = "reserved"
    #: Others make room for it: they were told to stop.
    MAKING_ROOM = "making-room"
    #: There are not enough free nodes.
    NODES = "nodes"
    #: There are, but it would delay the gang with the reservation.
    WOULD_DELAY = "would-delay"


@dataclass(frozen=True, slots=True)
class Held:
    """Why one gang waits."""

    hold: Hold
    excess: Excess | None = None


_TOO_WIDE, _NODES, _WOULD_DELAY = Held(Hold.TOO_WIDE), Held(Hold.NODES), Held(Hold.WOULD_DELAY)


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done on one cluster."""

    placements: tuple[Placement, ...] = ()
    preemptions: tuple[Preemption, ...] = ()
    reservation: Reservation | None = None
    #: By job id, for gangs that were looked at and do not start. Those behind them were not looked at.
    held: Mapping[int, Held] = field(default_factory=dict)


def decide(cluster: ClusterSnapshot, ledger: Ledger | None = None, limits: Limits = NO_LIMITS) -> Decision:
    """Decide for one cluster. The ledger is as it was when this returns; starting a gang is the caller's.

    In order (``order.py``), a gang starts if its nodes are free. One that a limit holds back, or that is wider than the
    cluster can become, is passed over: it would hold back everyone for as long. The first one that must wait for nodes
    may take those of running gangs with a lower priority (if the policy allows it, and only if that is enough), and has
    a reservation; those behind it start only if they cannot delay it.
    """
    if cluster.draining:
        return Decision()
    round_ = _Round(cluster, ledger or Ledger(), limits)
    try:
        return round_.run()
    finally:
        round_.take_back()


class _Round:
    """One decision while it is being made."""

    def __init__(self, cluster: ClusterSnapshot, ledger: Ledger, limits: Limits) -> None:
        self._cluster = cluster
        self._policy = cluster.policy
        self._ledger = ledger
        self._limits = limits
        self._now = cluster.now
        self._free = len(cluster.idle_nodes)
        self._next_node = 0
        self._started: list[Gang] = []
        self._placements: list[Placement] = []
        self._preemptions: list[Preemption] = []
        self._held: dict[int, Held] = {}
        #: Gangs that wait for nodes that are being vacated, and how many nodes they need together.
        self._promised = 0
        self._victims: set[int] = set()
        #: Nodes that victims leave, and those that are free within the grace without that.
        self._vacated = 0
        self._leaving = 0
        self._candidates: Candidates | None = None
        self._reservation: Reservation | None = None
        #: Nodes that may be used beyond the reserved moment.
        self._spare = 0

    def run(self) -> Decision:
        policy = self._policy
        order = Order(policy.fair_share, self._ledger, self._limits, self._now)
        by_owner = self._cluster.by_owner or order.by_owner
        walk = Walk(self._cluster.lanes, order) if by_owner else lane_by_lane(self._cluster.lanes, order)
        limited = bool(self._limits)
        # Whether further gangs may still take nodes from running ones: every one before them has got what it needs.
        taking = policy.preemption
        looked_at = 0
        for gang in walk:
            if gang.node_count > self._cluster.attainable_nodes:
                self._held[gang.job_id] = _TOO_WIDE
                continue
            if limited and self._is_limited(gang, walk):
                continue
            if self._reservation is None and gang.node_count <= self._free:
                self._place(gang, backfilled=False)
                continue
            if self._reservation is not None and policy.backfill and self._fits_before(gang):
                continue
            if taking and self._take(gang):
                continue
            taking = False
            if self._reservation is None:
                self._held[gang.job_id] = Held(Hold.RESERVED)
                if self._free:
                    self._reserve(gang.job_id, gang.node_count)
            else:
                self._held[gang.job_id] = _NODES if gang.node_count > self._free else _WOULD_DELAY
            looked_at += 1
            if not policy.backfill or self._free == 0 or looked_at > policy.backfill_depth:
                break
            if not taking and not limited and self._reservation is not None:
                self._backfill(walk, self._reservation.at, policy.backfill_depth + 1 - looked_at)
                break
        return Decision(tuple(self._placements), tuple(self._preemptions), self._reservation, self._held)

    def take_back(self) -> None:
        """Leave the ledger as it was."""
        for gang in self._started:
            self._ledger.take_back(gang.owner, gang.node_count, gang.limit, self._now)

    def _backfill(self, gangs: Iterator[Gang], reserved: int, depth: int) -> None:
        """What ``run`` does once nothing but backfill is left to do; most of a long queue is gone through here."""
        attainable, ends_before = self._cluster.attainable_nodes, reserved - self._now
        held = self._held
        for gang in gangs:
            need = gang.node_count
            if need <= self._free:
                if gang.limit <= ends_before or need <= self._spare:
                    self._fits_before(gang)
                    continue
                held[gang.job_id] = _WOULD_DELAY
            elif need > attainable:
                held[gang.job_id] = _TOO_WIDE
                continue
            else:
                held[gang.job_id] = _NODES
            depth -= 1
            if depth <= 0 or self._free == 0:
                break

    def _is_limited(self, gang: Gang, walk: Iterator[Gang]) -> bool:
        excess = self._limits.excess(gang.owner, gang.node_count, self._ledger)
        if excess is None:
            return False
        self._held[gang.job_id] = Held(Hold.LIMITED, excess)
        if (
            self._cluster.by_owner
            and isinstance(walk, Walk)
            and self._limits.excess(gang.owner, 1, self._ledger) is not None
        ):
            walk.skip_lane()
        return True

    def _place(self, gang: Gang, *, backfilled: bool) -> None:
        first, self._next_node = self._next_node, self._next_node + gang.node_count
        nodes = tuple(self._cluster.idle_nodes[first : self._next_node])
        self._placements.append(Placement(gang.job_id, nodes, backfilled))
        self._free -= gang.node_count
        self._ledger.begin(gang.owner, gang.node_count, gang.limit, self._now)
        self._started.append(gang)

    def _fits_before(self, gang: Gang) -> bool:
        """Start a gang behind the reservation if it cannot delay that."""
        assert self._reservation is not None
        if gang.node_count > self._free:
            return False
        if self._now + gang.limit > self._reservation.at:
            if gang.node_count > self._spare:
                return False
            self._spare -= gang.node_count
        self._place(gang, backfilled=True)
        return True

    def _take(self, gang: Gang) -> bool:
        """Have running gangs of a lower priority make room, unless enough are leaving already."""
        if self._candidates is None:
            self._candidates = Candidates(self._cluster.running)
            self._leaving = self._leaves_by_itself()
        missing = self._promised + gang.node_count - self._free - self._leaving - self._vacated
        if missing > 0:
            chosen = self._candidates.choose(missing, gang.priority)
            if not chosen:
                return False
            self._victims.update(victim.job_id for victim in chosen)
            self._vacated += sum(victim.node_count for victim in chosen)
            self._preemptions += [Preemption(victim.job_id, gang.job_id) for victim in chosen]
        self._promised += gang.node_count
        first = gang.job_id if self._reservation is None else self._reservation.job_id
        self._reserve(first, self._promised)
        self._held[gang.job_id] = Held(Hold.MAKING_ROOM)
        return True

    def _leaves_by_itself(self) -> int:
        """Nodes that nobody needs to be stopped for: they are free within the grace anyway."""
        soon = self._now + self._policy.grace
        stopping = sum(running.node_count for running in self._cluster.running if running.stopping)
        return stopping + sum(arrival.count for arrival in self._cluster.arrivals if arrival.at <= soon)

    def _reserve(self, first: int, need: int) -> None:
        """Keep ``need`` nodes for the first gang that waits, and for those that are promised nodes with it."""
        cluster = self._cluster
        others = [Arrival(self._now + gang.limit, gang.node_count) for gang in self._started]
        if self._vacated:
            others.append(Arrival(self._now + self._policy.grace, self._vacated))
        coming = releases(cluster.running, (*cluster.arrivals, *others), self._now, self._victims)
        at, self._spare = earliest(need, self._free, coming, self._now)
        self._reservation = Reservation(first, at, self._spare)
