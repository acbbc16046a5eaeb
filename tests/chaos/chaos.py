"""One run: a stream of jobs while something is killed every few seconds; then all must be as if nothing had been."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.chaos import victims
from tests.chaos.stream import FAILING_EXIT_CODE, Stream
from tests.support.live_service import LiveService
from trainshed.client import ClientError
from trainshed.client.models import Job

NODES = 4
#: Seconds within which everything has calmed down after the last kill.
CALM = 60.0
#: Between two kills.
SHORTEST, LONGEST = 1.5, 4.0

Say = Callable[[str], None]


class Chaos:
    """The seed decides on jobs and kills; when exactly they meet is the machine's."""

    def __init__(self, service: LiveService, folder: Path, seed: int, say: Say) -> None:
        self._service = service
        self._folder = folder
        self._seed = seed
        self._say = say
        self._chance = random.Random(seed)
        self._began = time.monotonic()
        self.killed: Counter[str] = Counter()
        #: Jobs of which a rank was killed: that is a failure of their own.
        self.hit: set[str] = set()

    def run(self, seconds: float) -> Counter[str]:
        """All of it. Returns how many jobs ended how. Raises AssertionError with what is not as it must be."""
        self._tell(f"seed {self._seed}, {seconds:g} s")
        cluster = self._service.make_cluster(NODES)
        stream = Stream(self._service, cluster, self._folder, self._seed)
        self._began = time.monotonic()
        stream.start()
        try:
            while time.monotonic() - self._began < seconds:
                time.sleep(self._chance.uniform(SHORTEST, LONGEST))  # The chaos itself, not a wait for anything.
                self._act()
        finally:
            stream.stop(CALM)
        assert not stream.trouble, stream.trouble
        last = time.monotonic()
        self._calm_down(last)
        self._tell(f"all is calm {time.monotonic() - last:.1f} s after the last kill; killed: {dict(self.killed)}")
        return self._check(stream)

    def _tell(self, text: str) -> None:
        self._say(f"{time.monotonic() - self._began:7.2f}  {text}")

    def _act(self) -> None:
        action = self._chance.choices(
            (self._kill_service, self._kill_daemon, self._kill_node, self._kill_runner, self._kill_rank, self._evict),
            (15, 15, 20, 15, 25, 10),
        )[0]
        action()

    def _kill_service(self) -> None:
        pause = round(self._chance.uniform(0, 1.5), 2)
        self._tell(f"kill the service, start it again after {pause} s")
        self._service.kill()
        self.killed["service"] += 1
        time.sleep(pause)
        self._service.start()

    def _kill_daemon(self) -> None:
        self._kill("daemon", victims.daemon(victims.look(self._service)))

    def _kill_node(self) -> None:
        self._kill("node", victims.nodes(victims.look(self._service)))

    def _kill_runner(self) -> None:
        self._kill("runner", victims.runners(victims.look(self._service)))

    def _kill_rank(self) -> None:
        rank = self._kill("rank", victims.ranks(victims.look(self._service)))
        if rank is not None:
            self.hit.add(victims.job_of(rank))

    def _kill(self, what: str, found: list[victims.Process]) -> victims.Process | None:
        draw = self._chance.random()
        if not found:
            self._tell(f"no {what} to kill")
            return None
        process = found[int(draw * len(found))]
        self._tell(f"kill {what} {process.pid}")
        # Before it dies: its job may have ended by the time that the next line runs.
        if what == "rank":
            self.hit.add(victims.job_of(process))
        if victims.kill(process):
            self.killed[what] += 1
            return process
        return None

    def _evict(self) -> None:
        draw = self._chance.random()
        try:
            nodes = [node.json["id"] for node in self._service.client.clusters.nodes("c")]
            if nodes:
                node = nodes[int(draw * len(nodes))]
                self._tell(f"evict {node}")
                self._service.client.clusters.evict_node("c", node)
                self.killed["eviction"] += 1
        except (ClientError, httpx.HTTPError) as error:
            self._tell(f"not evicted: {error}")

    def _calm_down(self, last: float) -> None:
        def left() -> float:
            return max(1.0, CALM - (time.monotonic() - last))

        client = self._service.client
        self._service.wait_for(
            lambda: all(job.final for job in client.jobs.list()), f"the end of all jobs ({self._open()})", left()
        )
        self._service.wait_for(
            lambda: client.clusters.get("c").nodes_in("idle") == NODES, f"idle nodes ({self._nodes()})", left()
        )

    def _open(self) -> list[str]:
        return [job.name for job in self._service.client.jobs.list() if not job.final]

    def _nodes(self) -> list[object]:
        return [dict(node.json) for node in self._service.client.clusters.nodes("c")]

    def _check(self, stream: Stream) -> Counter[str]:
        jobs = {job.name: job for job in self._service.client.jobs.list()}
        lost = stream.accepted - set(jobs)
        assert not lost, f"accepted and lost: {lost}"
        overlapping = sorted(path.name for path in self._folder.glob("*.overlap"))
        assert not overlapping, f"two attempts at once: {overlapping}"
        ends: Counter[str] = Counter()
        for name, job in jobs.items():
            attempts = self._folder / f"{name}.done"
            finished = attempts.read_text().split() if attempts.exists() else []
            if job.execution_state.value == "succeeded":
                assert finished, f"{name} succeeded and its first rank never came to its end"
                ends["succeeded"] += 1
            else:
                ends[self._own_failure(job, stream)] += 1
        self._tell(f"{len(jobs)} jobs, {dict(ends)}, {sum(job.attempt or 0 for job in jobs.values())} attempts")
        return ends

    def _own_failure(self, job: Job, stream: Stream) -> str:
        planned = stream.planned[job.name]
        if planned.status == FAILING_EXIT_CODE and job.exit_code == FAILING_EXIT_CODE:
            return "failed as planned"
        told = f"{job.name}: exit code {job.exit_code}, {[(error.code, error.message) for error in job.errors]}"
        assert job.name in self.hit and job.exit_code not in (None, 0), f"no failure of its own: {told}"
        assert not planned.retried, f"not tried again after its rank was killed: {told}"
        return "failed when a rank was killed"
