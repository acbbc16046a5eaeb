"""A Ray cluster of a head and four nodes: raylets are killed, and their machines join again after a while; so is the
head, which forgets everything, so that all nodes end themselves and join the new one. Agents, wardens, nodes, runners
and the service's bridge to Ray are killed too.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from tests.chaos import victims
from tests.chaos.grounds.ground import NODES, Deed, Ground, evicting, killing
from tests.chaos.victims import Process
from tests.engines.ray.cluster import Leader, RayNodes, why_not
from tests.support import services
from tests.support.live_service import LiveService
from trainshed.cli.main import run

#: On the command lines of wardens and what they start; on that of the service's bridge.
_WARDEN, _BRIDGE = "warden.start", "trainshed.engines.ray.bridge"
#: Seconds for which the machine of a killed raylet is away, or that of the head.
_AWAY = (0.5, 6.0)
#: Seconds for a process that asks Ray what it holds.
_ASK_SECONDS = 60.0
#: What is held although it should not be, as a list of JSON.
_HELD = """
import json, sys, ray
from ray.util import list_named_actors, placement_group_table
ray.init(address=sys.argv[1], log_to_driver=False, logging_level=40)
groups = [group for group in placement_group_table().values() if group["state"] != "REMOVED"]
whole, free = ray.cluster_resources(), ray.available_resources()
taken = [f"{name}: {free.get(name, 0)} of {whole[name]} free" for name in ("CPU",) if free.get(name) != whole.get(name)]
print(json.dumps([*map(str, list_named_actors(all_namespaces=True)), *map(str, groups), *taken]))
"""


class RayGround(Ground):
    """A cluster takes all of Ray's nodes."""

    name = "ray"
    #: A machine needs half a minute to join again on two busy cores: with more kills than these there are none.
    pauses = (3.0, 7.0)
    cluster: ClassVar[Mapping[str, Any]] = {"engine": {"name": "boxes"}}

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self._nodes = RayNodes()
        self._directory = place / "shared-by-nodes"
        #: Nodes without a raylet.
        self._away: set[str] = set()
        #: Nodes of a head that is no more.
        self._strangers: list[Leader] = []

    @classmethod
    def why_not(cls) -> str:
        return why_not()

    @contextmanager
    def running(self) -> Iterator[LiveService]:
        home = self.place / "home"
        given = {
            "address": self._nodes.address,
            "directory": str(self._directory),
            "token_file": str(self._nodes.token_file),
            "fence_seconds": "60",
        }
        options = [word for name, value in given.items() for word in (f"--{name}", value)]
        home.mkdir(mode=0o700)
        assert run(["engine", "add", "--home", str(home), "ray", "boxes", *options]) == 0
        try:
            self._nodes.start_head()
            for _ in range(NODES):
                self._nodes.add_node()
            self._nodes.wait_for(NODES)
            with services.running(home, arguments=("--node-retry-seconds", "2"), warm=True) as service:
                yield service
        finally:
            self._nodes.close()

    def deeds(self, service: LiveService) -> Sequence[Deed]:
        return (
            Deed("raylet", 10, self._kill_raylet),
            Deed("head", 3, self._kill_head),
            killing("agent", 8, lambda: [one for pid in self._nodes.agents() if (one := victims.read(pid))]),
            killing("warden", 8, self._wardens),
            killing("node", 8, lambda: victims.children(self._ours(), self._wardens())),
            killing("runner", 15, self._runners),
            killing("bridge", 8, lambda: self._bridges(service)),
            evicting(6)(service),
        )

    def ranks(self, service: LiveService) -> list[Process]:
        return victims.ranks_on(self.place)

    def revive(self, *, all_of_it: bool = False) -> list[str]:
        started = super().revive(all_of_it=all_of_it)
        if self._nodes.head is not None:
            self._nodes.rejoin(self._away)
        return started

    def whole(self) -> None:
        assert self._nodes.head is not None
        self._nodes.wait(self._nodes.head.is_up, "the head")
        self._nodes.wait(lambda: all(one.has_ended() for one in self._strangers), "the end of the former head's nodes")
        self._nodes.wait_for(NODES)

    def left(self, service: LiveService) -> list[str]:
        folders = list(self._directory.glob("attempts/*"))
        return [*map(str, folders), *(f"{rank.pid}: {rank.command}" for rank in self.ranks(service))]

    def give_back(self, service: LiveService) -> None:
        """The cluster is deleted: Ray must have all of its nodes back."""
        service.client.clusters.delete("c")
        service.wait_for(lambda: not self._nodes.agents() and not self._ours(), "nodes that are given back", 60.0)
        held = self._held()
        assert not held, f"still held of Ray: {held}"

    def logs(self) -> list[Path]:
        return [self.place / "home" / "logs" / "ray-boxes.log", *sorted(self._directory.glob("nodes/*.log"))]

    def _held(self) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", _HELD, self._nodes.address],
            env=self._nodes.environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=_ASK_SECONDS,
        )
        return list(json.loads(done.stdout.splitlines()[-1]))

    def _ours(self) -> dict[int, Process]:
        return {one.pid: one for one in victims.mentioning(str(self._directory)) if _WARDEN in one.command}

    def _wardens(self) -> list[Process]:
        ours = self._ours()
        return [one for one in ours.values() if one.parent not in ours]

    def _runners(self) -> list[Process]:
        ours = self._ours()
        return victims.children(ours, victims.children(ours, self._wardens()))

    def _bridges(self, service: LiveService) -> list[Process]:
        return [one for one in victims.mentioning(_BRIDGE) if one.parent == service.pid]

    def _kill_head(self, chance: random.Random) -> str:
        away = round(chance.uniform(*_AWAY), 1)
        if self._nodes.head is None or not self._nodes.head.is_up():
            return ""
        self._nodes.kill_head()
        self._strangers = list(self._nodes.nodes.values())
        self.later(away, "Ray's head", lambda: self._nodes.start_head(wait=False))
        return f"Ray's head, for {away} s"

    def _kill_raylet(self, chance: random.Random) -> str:
        draw, away = chance.random(), round(chance.uniform(*_AWAY), 1)
        addresses = [address for address in self._nodes.joined() if address not in self._away]
        if not addresses:
            return ""
        address = addresses[int(draw * len(addresses))]
        self._nodes.kill_raylet(address)
        self._away.add(address)

        def join() -> None:
            self._nodes.kill_node(address)
            self._nodes.add_node()

        self.later(away, f"a machine for {address}", join)
        return f"raylet of {address}, for {away} s"
