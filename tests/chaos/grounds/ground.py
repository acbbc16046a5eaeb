"""What a run of chaos must know of the engine that its jobs are on."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tests.chaos.victims import Process, kill
from tests.support.live_service import LiveService

#: Nodes of the cluster.
NODES = 4


@dataclass(frozen=True, slots=True)
class Deed:
    """Something bad, how often it is done, and what does it: answers what was done, or nothing when it could not be."""

    what: str
    weight: int
    do: Callable[[random.Random], str]


class Ground(ABC):
    """An engine of this machine, a service on it, and whoever starts again what was killed, as an init system does."""

    name: ClassVar[str]
    #: Seconds between two kills: the fewest and the most.
    pauses: ClassVar[tuple[float, float]] = (1.5, 4.0)
    #: Of the cluster, beside what every engine is told.
    cluster: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, place: Path) -> None:
        self.place = place
        self._due: list[tuple[float, str, Callable[[], object]]] = []

    @classmethod
    @abstractmethod
    def why_not(cls) -> str:
        """Why it cannot be had here; empty when it can."""

    @abstractmethod
    def running(self) -> AbstractContextManager[LiveService]:
        """The engine and a service with it; both end without leaving anything."""

    @abstractmethod
    def deeds(self, service: LiveService) -> Sequence[Deed]:
        """What can be done to the engine and to what it started. Service and ranks are everybody's."""

    @abstractmethod
    def ranks(self, service: LiveService) -> list[Process]:
        """The users' own processes."""

    @abstractmethod
    def left(self, service: LiveService) -> list[str]:
        """What there is of jobs although all have ended."""

    def whole(self) -> None:  # noqa: B027 - most need not wait
        """Wait until what was started again is up: that is the machine's time, not the service's."""

    def ready(self) -> bool:
        """Whether the engine itself says that all of its nodes are free."""
        return True

    def logs(self) -> list[Path]:
        """What tells of a failure, beside the service's own log."""
        return []

    def give_back(self, service: LiveService) -> None:
        """At the end of a run that went well: whatever the engine holds for the cluster has to be given back."""
        assert not (found := self.left(service)), found

    def later(self, seconds: float, what: str, start: Callable[[], object]) -> None:
        """Start something again after so many seconds, or at the end of the chaos."""
        self._due.append((time.monotonic() + seconds, what, start))

    def revive(self, *, all_of_it: bool = False) -> list[str]:
        """Start again what is due; says what that was."""
        now = time.monotonic()
        due = [one for one in self._due if all_of_it or one[0] <= now]
        self._due = [one for one in self._due if one not in due]
        for _, _, start in due:
            start()
        return [what for _, what, _ in due]

    def next_due(self) -> float:
        """Monotonic seconds of the next start."""
        return min((when for when, _, _ in self._due), default=float("inf"))


def killing(what: str, weight: int, find: Callable[[], Sequence[Process]]) -> Deed:
    """kill -9 of any one of the processes that are found."""

    def do(chance: random.Random) -> str:
        draw, found = chance.random(), find()
        if not found:
            return ""
        victim = found[int(draw * len(found))]
        return f"{what} {victim.pid}" if kill(victim) else ""

    return Deed(what, weight, do)


def evicting(weight: int) -> Callable[[LiveService], Deed]:
    """Taking a node away by the API."""

    def deed(service: LiveService) -> Deed:
        def do(chance: random.Random) -> str:
            draw = chance.random()
            nodes = [node.json["id"] for node in service.client.clusters.nodes("c")]
            if not nodes:
                return ""
            node = nodes[int(draw * len(nodes))]
            service.client.clusters.evict_node("c", node)
            return f"eviction of {node}"

        return Deed("eviction", weight, do)

    return deed
