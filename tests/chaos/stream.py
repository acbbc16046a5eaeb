"""A stream of jobs of 1 to 4 nodes, kept up by a thread whatever happens to the service."""

from __future__ import annotations

import random
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.live_service import LiveService
from trainshed.client import ClientError

#: Seconds between two submissions that found the queue full or the service away.
PAUSE = 0.2
#: Jobs that are not over at any time, at most.
MOST_OPEN = 6
FAILING_EXIT_CODE = 3
_QUICK = {"initialDelay": "PT0.1S", "multiplier": 1, "maxDelay": "PT1S"}


@dataclass(frozen=True, slots=True)
class Planned:
    """A job as it was drawn."""

    name: str
    nodes: int
    seconds: float
    status: int
    #: Whether a rank that is killed is its own failure for good.
    retried: bool


class Stream:
    """Submits until it is told to stop. What the service has answered is ``accepted``."""

    def __init__(self, service: LiveService, cluster: str, folder: Path, seed: int) -> None:
        self._service = service
        self._cluster = cluster
        self._folder = folder
        self._chance = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stream")
        self.planned: dict[str, Planned] = {}
        self.accepted: set[str] = set()
        self.trouble: list[str] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self, patience: float) -> None:
        """Raises AssertionError when a request does not come back."""
        self._stop.set()
        self._thread.join(patience)
        assert not self._thread.is_alive(), "a request to the service never came back"

    def one_more(self, nodes: int) -> str:
        """Submit a job on so many nodes that does no more than end; its name."""
        job = Planned("last", nodes, 0.1, 0, True)
        self._service.client.jobs.create(job.name, self._properties(job), wait=False)
        return job.name

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if self._open() >= MOST_OPEN:
                    self._stop.wait(PAUSE)
                    continue
                job = self._draw()
                self.planned[job.name] = job
                self._service.client.jobs.create(job.name, self._properties(job), wait=False)
                self.accepted.add(job.name)
            except (ClientError, httpx.HTTPError, OSError, ValueError, KeyError):
                # The service is away, or was killed while it wrote where it listens.
                self._stop.wait(PAUSE)
            except Exception as error:
                self.trouble.append(repr(error))
                return

    def _open(self) -> int:
        return sum(not job.final for job in self._service.client.jobs.list())

    def _draw(self) -> Planned:
        chance = self._chance
        return Planned(
            f"job-{len(self.planned)}",
            chance.choice((1, 1, 2, 3, 4)),
            round(chance.uniform(0.1, 2.5), 2),
            FAILING_EXIT_CODE if chance.random() < 0.15 else 0,
            chance.random() < 0.7,
        )

    def _properties(self, job: Planned) -> dict[str, Any]:
        program = Path(__file__).with_name("rank.py")
        more: dict[str, Any] = {}
        if job.retried:
            more["retryPolicy"] = {"maxRetries": 10, "exitCodes": [137], "backoff": _QUICK}
        return {
            "nodeCount": job.nodes,
            "cluster": {"id": self._cluster},
            "pyTorchSettings": {
                "pythonScriptFilePath": str(program),
                "pythonInterpreterPath": sys.executable,
                "communicationBackend": "gloo",
                "commandLineArgs": f"{self._folder} {job.name} {job.seconds} {job.status}",
            },
            "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
            **more,
        }
