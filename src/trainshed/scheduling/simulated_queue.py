"""The queue of a simulated cluster: lanes as ``snapshot.lanes_of`` makes them, kept between decisions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from trainshed.scheduling.snapshot import Gang


class SimulatedQueue:
    """Waiting gangs. Adding at the end and taking any one out need no time that grows with the queue."""

    def __init__(self, *, by_owner: bool) -> None:
        self._by_owner = by_owner
        # An ordinary dict walks over what was taken from its front, which adds up.
        self._lanes: dict[object, OrderedDict[int, Gang]] = {}
        self._gangs: dict[int, Gang] = {}
        #: How many nodes they need together.
        self.nodes = 0

    def __len__(self) -> int:
        return len(self._gangs)

    def __contains__(self, job_id: int) -> bool:
        return job_id in self._gangs

    def lanes(self) -> list[Iterable[Gang]]:
        """All lanes, for one decision."""
        return [lane.values() for lane in self._lanes.values()]

    def add(self, gang: Gang) -> None:
        """Put a gang where its age belongs."""
        key = self._key(gang)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = OrderedDict()
        younger = bool(lane) and next(reversed(lane)) > gang.job_id
        lane[gang.job_id] = gang
        if younger:
            self._lanes[key] = OrderedDict(sorted(lane.items()))
        self._gangs[gang.job_id] = gang
        self.nodes += gang.node_count

    def take(self, job_id: int) -> Gang:
        """Take a gang out."""
        gang = self._gangs.pop(job_id)
        key = self._key(gang)
        lane = self._lanes[key]
        del lane[job_id]
        if not lane:
            del self._lanes[key]
        self.nodes -= gang.node_count
        return gang

    def level_with(self, priority: int) -> int:
        """How many gangs have this priority or a higher one."""
        return sum(len(lane) for lane in self._lanes.values() if next(iter(lane.values())).priority >= priority)

    def _key(self, gang: Gang) -> object:
        return (gang.priority, gang.returning, gang.owner) if self._by_owner else (gang.priority, gang.returning)
