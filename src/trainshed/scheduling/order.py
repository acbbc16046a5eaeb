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
        self._heap: list[tuple[Rank, int, Gang]] = []
        self._last = -1
        for number in range(len(self._lanes)):
            self._advance(number)

    def __iter__(self) -> Iterator[Gang]:
        return self

    def __next__(self) -> Gang:
        if self._last >= 0:
            self._advance(self._last)
            self._last = -1
        heap, order = self._heap, self._order
        while heap:
            rank, number, gang = heap[0]
            if order.moves:
                current = order.rank(gang)
                if current > rank:
                    # Its owner's gangs were started since it was looked at.
                    heapq.heapreplace(heap, (current, number, gang))
                    continue
            heapq.heappop(heap)
            self._last = number
            return gang
        raise StopIteration

    def skip_lane(self) -> None:
        """Leave out the rest of the lane of the gang that came last."""
        self._last = -1

    def _advance(self, number: int) -> None:
        gang = next(self._lanes[number], None)
        if gang is not None:
            heapq.heappush(self._heap, (self._order.rank(gang), number, gang))


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
