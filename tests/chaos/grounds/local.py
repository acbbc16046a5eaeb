"""The service's own nodes: daemon, nodes and runners are killed, nodes are taken away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.chaos import victims
from tests.chaos.grounds.ground import Deed, Ground, evicting, killing
from tests.chaos.victims import Process, look
from tests.support import services
from tests.support.live_service import LiveService


class LocalGround(Ground):
    """The engine ``local``."""

    name = "local"

    @classmethod
    def why_not(cls) -> str:
        return ""

    @contextmanager
    def running(self) -> Iterator[LiveService]:
        with services.running(self.place / "home", arguments=("--node-retry-seconds", "2"), warm=True) as service:
            yield service

    def deeds(self, service: LiveService) -> Sequence[Deed]:
        return (
            killing("daemon", 15, lambda: victims.daemon(look(service))),
            killing("node", 20, lambda: victims.nodes(look(service))),
            killing("runner", 15, lambda: victims.runners(look(service))),
            evicting(10)(service),
        )

    def ranks(self, service: LiveService) -> list[Process]:
        return victims.ranks(look(service))

    def left(self, service: LiveService) -> list[str]:
        return [f"rank {rank.pid} of {victims.job_of(rank)}" for rank in self.ranks(service)]

    def logs(self) -> list[Path]:
        return [self.place / "home" / "logs" / "daemon.log"]
