"""Who is next: priority, then who was pre-empted, then fair share, then age (behaviour 5.1 for the first and last)."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from trainshed.scheduling.ledger import Ledger
from trainshed.scheduling.limits import NO_LIMITS, Limits
from trainshed.scheduling.policy import FIRST_COME, FairShare
from trainshed.scheduling.snapshot import Gang, Owner, Scope

#: Spent a soft budget; priority; pre-empted; usage of the user and of the experiment; age.
Rank = tuple[bool, int, bool, float, float, int]


class Order:
    """Says where a gang stands; what was started meanwhile counts (the ledger is read anew each time)."""

    def __init__(self, fair_share: FairShare, ledger: Ledger, limits: Limits, now: int) -> None:
        self._fair = fair_share
        self._ledger = ledger
        self._limits = limits
        self._now = now
        self._budgets = limits.any_soft
        #: Whether starting one gang may change where others stand.
        self.moves = fair_share.active
        #: Whether gangs of one priority are told apart by their owners, so that a lane is one owner's.
        self.by_owner = self.moves or self._budgets

    @property
    def version(self) -> int:
        """Ranks hold as long as this stays the same."""
        return self._ledger.version if self.moves else 0

    def rank(self, gang: Gang) -> Rank:
        """Lower goes first."""
        behind = self._budgets and self._limits.behind(gang.owner)
        user, experiment = self._usage(gang.owner) if self.moves else (0.0, 0.0)
        return (behind, -gang.priority, not gang.returning, user, experiment, gang.job_id)

    def _usage(self, owner: Owner) -> tuple[float, float]:
        fair, ledger = self._fair, self._ledger
        user = experiment = 0.0
        if fair.users:
            weight = fair.weights.get(owner.user, 1.0)
            used = ledger.account(Scope.USER, owner).usage(self._now, ledger.half_life)
            user = used / weight if weight > 0 else float("inf")
        if fair.experiments:
            experiment = ledger.account(Scope.EXPERIMENT, owner).usage(self._now, ledger.half_life)
        return user, experiment


class Walk:
    """Goes through lanes as they are served, looking at no more gangs than are asked for."""

    def __init__(self, lanes: Sequence[Iterable[Gang]], order: Order) -> None:
        self._order = order
        self._lanes = [iter(lane) for lane in lanes]
        #: Of each lane its next gang. What came last stays at the top until another is asked for.
        self._heap: list[tuple[Rank, int, Gang]] = []
        #: By lane: the gang that was ranked last, and its rank without the age: mostly that of those behind it too.
        self._ranked: list[tuple[Gang, Rank] | None] = [None] * len(self._lanes)
        #: The state of the ledger for which they were ranked.
        self._as_of = [-1] * len(self._lanes)
        self._taken = False
        for number, lane in enumerate(self._lanes):
            gang = next(lane, None)
            if gang is not None:
                self._heap.append((self._rank(number, gang), number, gang))
        heapq.heapify(self._heap)

    def __iter__(self) -> Iterator[Gang]:
        return self

    def __next__(self) -> Gang:
        heap = self._heap
        if self._taken:
            number = heap[0][1]
            following = next(self._lanes[number], None)
            if following is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (self._rank(number, following), number, following))
            self._taken = False
        while heap:
            rank, number, gang = heap[0]
            if self._as_of[number] != self._order.version:
                current = self._rank(number, gang)
                if current > rank:
                    # Its owner's gangs were started since it was looked at.
                    heapq.heapreplace(heap, (current, number, gang))
                    continue
            self._taken = True
            return gang
        raise StopIteration

    def skip_lane(self) -> None:
        """Leave out the rest of the lane of the gang that came last."""
        if self._taken:
            heapq.heappop(self._heap)
            self._taken = False

    def _rank(self, number: int, gang: Gang) -> Rank:
        version, ranked = self._order.version, self._ranked[number]
        if ranked is not None and self._as_of[number] == version:
            last, rank = ranked
            if _alike(gang, last):
                return (*rank[:5], gang.job_id)
        rank = self._order.rank(gang)
        self._ranked[number], self._as_of[number] = (gang, rank), version
        return rank


def _alike(gang: Gang, other: Gang) -> bool:
    """Whether only age tells them apart."""
    if gang.priority != other.priority or gang.returning != other.returning:
        return False
    return gang.owner is other.owner or gang.owner == other.owner


def lane_by_lane(lanes: Sequence[Iterable[Gang]], order: Order) -> Iterator[Gang]:
    """As ``Walk``, much quicker: for lanes that were not made by owner, so that each is served before the next."""
    begun = [(first, lane) for lane in map(iter, lanes) if (first := next(lane, None)) is not None]
    begun.sort(key=lambda pair: order.rank(pair[0]))
    return chain.from_iterable(chain((first,), rest) for first, rest in begun)


def in_order(
    lanes: Sequence[Iterable[Gang]],
    fair_share: FairShare = FIRST_COME,
    ledger: Ledger | None = None,
    limits: Limits = NO_LIMITS,
    now: int = 0,
) -> list[Gang]:
    """The whole queue as it would be served if nothing was started meanwhile."""
    return list(Walk(lanes, Order(fair_share, ledger or Ledger(), limits, now)))
