"""One run: a stream of jobs while something is killed every few seconds; then all must be as if nothing had been."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.chaos import victims
from tests.chaos.grounds.ground import NODES, Deed, Ground
from tests.chaos.stream import FAILING_EXIT_CODE, Stream
from tests.support.live_service import LiveService
from trainshed.client import ClientError
from trainshed.client.models import Job

#: Seconds within which everything has calmed down after the last kill.
CALM = 60.0
#: Seconds within which the cluster is there, and within which a last job on all nodes runs.
SET_UP, LAST = 60.0, 45.0

Say = Callable[[str], None]


class Chaos:
    """The seed decides on jobs and kills; when exactly they meet is the machine's."""

    def __init__(self, ground: Ground, service: LiveService, folder: Path, seed: int, say: Say) -> None:
        self._ground = ground
        self._service = service
        self._folder = folder
        self._seed = seed
        self._say = say
        self._chance = random.Random(seed)
        self._began = time.monotonic()
        self._deeds = (
            Deed("service", 15, self._kill_service),
            Deed("rank", 25, self._kill_rank),
            *ground.deeds(service),
        )
        self.killed: Counter[str] = Counter()
        #: Jobs of which a rank was killed: that is a failure of their own.
        self.hit: set[str] = set()

    def run(self, seconds: float) -> Counter[str]:
        """All of it. Returns how many jobs ended how. Raises AssertionError with what is not as it must be."""
        self._tell(f"{self._ground.name}, seed {self._seed}, {seconds:g} s")
        cluster = self._service.make_cluster(NODES, SET_UP, **self._ground.cluster)
        stream = Stream(self._service, cluster, self._folder, self._seed)
        self._began = time.monotonic()
        stream.start()
        try:
            while time.monotonic() - self._began < seconds:
                self._wait(self._chance.uniform(*self._ground.pauses))
                self._act()
        finally:
            stream.stop(CALM)
        assert not stream.trouble, stream.trouble
        self._revive(all_of_it=True)
        self._ground.whole()
        last = time.monotonic()
        self._calm_down(last)
        self._tell(f"all is calm {time.monotonic() - last:.1f} s after the last kill; killed: {dict(self.killed)}")
        ends = self._check(stream)
        self._one_more(stream)
        self._ground.give_back(self._service)
        return ends

    def _tell(self, text: str) -> None:
        self._say(f"{time.monotonic() - self._began:7.2f}  {text}")

    def _wait(self, seconds: float) -> None:
        """The chaos itself, not a wait for anything; what was killed is started again meanwhile."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            time.sleep(max(0.0, min(until, self._ground.next_due()) - now))
            self._revive()

    def _revive(self, *, all_of_it: bool = False) -> None:
        for what in self._ground.revive(all_of_it=all_of_it):
            self._tell(f"start {what} again")

    def _act(self) -> None:
        deed = self._chance.choices(self._deeds, [deed.weight for deed in self._deeds])[0]
        # Its own dice: what is there to be killed does not change what comes later.
        chance = random.Random(self._chance.random())
        try:
            done = deed.do(chance)
        except (ClientError, httpx.HTTPError) as error:
            self._tell(f"no {deed.what}: {error}")
            return
        self._tell(done or f"no {deed.what} to kill")
        self.killed[deed.what] += bool(done)

    def _kill_service(self, chance: random.Random) -> str:
        pause = round(chance.uniform(0, 1.5), 2)
        self._service.kill()
        time.sleep(pause)
        self._service.start()
        return f"service, started again after {pause} s"

    def _kill_rank(self, chance: random.Random) -> str:
        draw, found = chance.random(), self._ground.ranks(self._service)
        if not found:
            return ""
        rank = found[int(draw * len(found))]
        job = victims.job_of(rank)
        # Before it dies: its job may have ended by the time that the next line runs.
        self.hit.add(job)
        return f"rank {rank.pid} of {job}" if victims.kill(rank) else ""

    def _calm_down(self, last: float) -> None:
        def left() -> float:
            return max(1.0, CALM - (time.monotonic() - last))

        client = self._service.client
        self._until(lambda: not self._open(), "the end of all jobs", left(), self._story)
        self._until(lambda: client.clusters.get("c").nodes_in("idle") == NODES, "idle nodes", left(), self._nodes)
        self._until(self._ground.ready, f"nodes that are idle to {self._ground.name}", left(), list)

    def _one_more(self, stream: Stream) -> None:
        """All nodes are of use, and after their last job there is nothing left of any."""
        name = stream.one_more(NODES)
        jobs = self._service.client.jobs
        self._until(lambda: jobs.get(name).final, "the end of the last job", LAST, self._story)
        assert jobs.get(name).execution_state.value == "succeeded", jobs.get(name).errors
        ground, service = self._ground, self._service
        self._until(lambda: not ground.left(service), "an end of all that was left", LAST, lambda: ground.left(service))

    def _until(self, holds: Callable[[], bool], what: str, seconds: float, why: Callable[[], object]) -> None:
        """Says why not when it does not come."""
        deadline = time.monotonic() + seconds
        while not holds():
            self._revive()
            assert time.monotonic() < deadline, f"{what} did not come within {seconds:.0f} s: {why()}"
            time.sleep(0.1)

    def _story(self) -> list[object]:
        """Of the jobs that are not over."""
        client = self._service.client
        return [
            (job.name, job.execution_state.value, job.why_waiting, [one.json for one in client.jobs.attempts(job.name)])
            for job in client.jobs.list()
            if not job.final
        ]

    def _open(self) -> list[str]:
        return [job.name for job in self._service.client.jobs.list() if not job.final]

    def _nodes(self) -> list[object]:
        return [dict(node.json) for node in self._service.client.clusters.nodes("c")]

    def _check(self, stream: Stream) -> Counter[str]:
        jobs = {job.name: job for job in self._service.client.jobs.list()}
        lost = stream.accepted - set(jobs)
        assert not lost, f"accepted and lost: {lost}"
        overlapping = {path.name: path.read_text() for path in self._folder.glob("*.overlap")}
        assert not overlapping, f"two attempts at once: {overlapping}"
        ends: Counter[str] = Counter()
        for name, job in jobs.items():
            attempts = self._folder / f"{name}.done"
            finished = attempts.read_text().split() if attempts.exists() else []
            if job.execution_state.value == "succeeded":
                assert finished, f"{name} succeeded and its first rank never came to its end"
                assert finished[-1] == str(job.attempt), f"attempt {job.attempt} of {name} succeeded, done: {finished}"
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
