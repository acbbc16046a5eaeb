"""Which running gangs give their nodes to one of a higher priority."""

from __future__ import annotations

from collections.abc import Iterable

from trainshed.scheduling.snapshot import RunningGang

#: Gangs of one priority and size, the one that is to go first at the end.
_Stack = list[RunningGang]


class Candidates:
    """The running gangs that may be told to stop. Each is chosen once.

    A choice costs the number of distinct priorities and sizes for each gang chosen, however many gangs there are: one
    decision may make hundreds of choices.
    """

    def __init__(self, running: Iterable[RunningGang]) -> None:
        self._stacks: dict[int, dict[int, _Stack]] = {}
        for gang in running:
            if gang.preemptible and not gang.stopping:
                self._stacks.setdefault(gang.priority, {}).setdefault(gang.node_count, []).append(gang)
        for sizes in self._stacks.values():
            for stack in sizes.values():
                stack.sort(key=_youth)

    def choose(self, nodes: int, priority: int) -> tuple[RunningGang, ...]:
        """The gangs to stop so that ``nodes`` more nodes are free for a gang of this priority; none if that cannot be.

        As few gangs as can be; among as many, those of the lowest priority, then the youngest, which lose the least.
        The last one is the smallest that is enough, so that no wide gang is stopped for one node.
        """
        counts: dict[int, int] = {}
        for level in self._below(priority):
            for size, stack in self._stacks[level].items():
                counts[size] = counts.get(size, 0) + len(stack)
        if nodes <= 0 or sum(size * count for size, count in counts.items()) < nodes:
            return ()
        picks = _fewest(counts, nodes)
        chosen: list[RunningGang] = []
        while picks:
            least = nodes if picks == 1 else _least(counts, nodes, picks)
            found = self._smallest(least, priority) if picks == 1 else self._first(least, priority)
            chosen.append(found)
            counts[found.node_count] -= 1
            nodes -= found.node_count
            picks -= 1
        return tuple(chosen)

    def _below(self, priority: int) -> list[int]:
        return sorted(level for level in self._stacks if level < priority)

    def _first(self, least: int, priority: int) -> RunningGang:
        """The first in order of preference that has ``least`` nodes or more."""
        for level in self._below(priority):
            stacks = [stack for size, stack in self._stacks[level].items() if size >= least and stack]
            if stacks:
                return max(stacks, key=lambda stack: _youth(stack[-1])).pop()
        raise AssertionError("the largest gangs are enough together")

    def _smallest(self, least: int, priority: int) -> RunningGang:
        """Of the lowest priority that has one of ``least`` nodes or more, the smallest such."""
        for level in self._below(priority):
            sizes = [size for size, stack in self._stacks[level].items() if size >= least and stack]
            if sizes:
                return self._stacks[level][min(sizes)].pop()
        raise AssertionError("the largest gangs are enough together")


def victims(running: Iterable[RunningGang], nodes: int, priority: int) -> tuple[RunningGang, ...]:
    """One choice, see ``Candidates.choose``."""
    return Candidates(running).choose(nodes, priority)


def _youth(gang: RunningGang) -> tuple[int, int]:
    return gang.started_at, gang.job_id


def _fewest(counts: dict[int, int], nodes: int) -> int:
    """How many of the largest gangs are enough; ``counts`` has how many there are of each size."""
    picks = 0
    for size in sorted(counts, reverse=True):
        wanted = -(-nodes // size)
        if wanted <= counts[size]:
            return picks + wanted
        picks += counts[size]
        nodes -= size * counts[size]
    return picks


def _least(counts: dict[int, int], nodes: int, picks: int) -> int:
    """The size from which on a gang can be one of ``picks`` gangs that are enough together."""
    most, left, tail = 0, picks, 0
    for size in sorted(counts, reverse=True):
        taken = min(left, counts[size])
        if taken:
            most, left, tail = most + taken * size, left - taken, size
        if not left:
            break
    # The others are the largest; one that is smaller than the last of them stands in for that one.
    return min(tail, nodes - most + tail)
