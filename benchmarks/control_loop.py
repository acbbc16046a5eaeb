"""The real control loop on a real database, with an engine that is a double: jobs come, wait, run and end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, func, select
from tests.support.factories import make_cluster, make_job, make_parents

from benchmarks.timed_engine import TimedEngine
from trainshed.control.controller import Controller
from trainshed.control.settings import ControlSettings, now_ms
from trainshed.resources.lifecycle import JobState, NodeState
from trainshed.store import jobs, nodes, tables
from trainshed.store.database import Database
from trainshed.store.records import ClusterRecord

#: Seconds that one run may take, and that its clusters may.
PATIENCE, CLUSTERS_PATIENCE = 300.0, 60.0
#: Callers that submit at the same time, where jobs come as fast as they are taken.
CALLERS = 64
#: The default of a job's maxWallClockTime.
_WEEK = 604_800.0


class TooSlow(Exception):
    """The time was up; the message says how far it was."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A job that is to come: when (seconds from the start), to which cluster, and what it takes."""

    at: float
    queue: int
    kind: str
    priority: int
    nodes: int
    #: Seconds.
    runtime: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a run, in seconds: until the last end was recorded, and by kind the mean wait of first starts."""

    seconds: float
    #: Of this process, the database's own not counted.
    processor: float
    waits: dict[str, float]
    preemptions: int


def run(
    url: str, home: Path, submissions: Sequence[Submission], *, queues: int, nodes_each: int, paced: bool
) -> Outcome:
    """Have the controller bring all jobs to their ends; each is submitted in a transaction of its own.

    ``paced``: jobs come at their times and take theirs; otherwise they come as fast as they are taken, and end at once.
    Raises TooSlow, and RuntimeError if a job did not succeed or a gang was started on a node that was not free.
    """
    return asyncio.run(_run(Database.open(url), home, submissions, queues, nodes_each, paced))


async def _run(
    db: Database, home: Path, submissions: Sequence[Submission], queues: int, nodes_each: int, paced: bool
) -> Outcome:
    settings = ControlSettings(home=home, grace_seconds=0.0)
    engine = TimedEngine(settings.clock)
    controller = Controller(db, engine, lambda sealed, owner: sealed.decode(), settings)
    try:
        clusters = await db.write(lambda tx: _prepare(tx, queues, nodes_each))
        await controller.start()
        await _ready(db, queues * nodes_each)
        begun, used = time.perf_counter(), time.process_time()
        try:
            async with asyncio.timeout(PATIENCE):
                await _submit_all(db, controller, clusters, submissions, paced)
                await _all_done(engine, len(submissions))
        except TimeoutError:
            raise TooSlow(f"{engine.done} of {len(submissions)} jobs were over after {PATIENCE:.0f} s") from None
        seconds, processor = time.perf_counter() - begun, time.process_time() - used
        counts = await db.read(jobs.counts_by_state)
        if counts[JobState.SUCCEEDED] != len(submissions) or engine.wrongs:
            raise RuntimeError(f"not every job succeeded: {counts}; {engine.wrongs[:3]}")
        return await db.read(lambda tx: _outcome(tx, seconds, processor))
    finally:
        await controller.stop()
        await db.close()


def _prepare(tx: Connection, queues: int, nodes_each: int) -> list[ClusterRecord]:
    make_parents(tx)
    # Victims are stopped without a warning, as Kueue evicts.
    preemption = {"enabled": True, "maxGracePeriod": "PT0S"}
    return [make_cluster(tx, f"queue{number}", nodes=nodes_each, preemption=preemption) for number in range(queues)]


async def _ready(db: Database, count: int) -> None:
    """Until the clusters have all their nodes."""
    until = time.monotonic() + CLUSTERS_PATIENCE
    while (ready := (await db.read(nodes.counts_by_state))[NodeState.READY]) < count:
        if time.monotonic() > until:
            raise TimeoutError(f"{ready} of {count} nodes were ready within {CLUSTERS_PATIENCE:g} s")
        await asyncio.sleep(0.05)


async def _submit_all(
    db: Database, controller: Controller, clusters: list[ClusterRecord], submissions: Sequence[Submission], paced: bool
) -> None:
    numbered = list(enumerate(submissions))

    async def submit(number: int, job: Submission) -> None:
        await db.write(_insertion(clusters[job.queue], number, job, f"sleep {job.runtime}" if paced else "true"))
        controller.wake_queue()

    if paced:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        async with asyncio.TaskGroup() as group:
            for number, job in sorted(numbered, key=lambda pair: pair[1].at):
                if (delay := begun + job.at - loop.time()) > 0:
                    await asyncio.sleep(delay)
                group.create_task(submit(number, job))
        return
    coming = iter(numbered)

    async def caller() -> None:
        for number, job in coming:
            await submit(number, job)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


def _insertion(cluster: ClusterRecord, number: int, job: Submission, command: str) -> Callable[[Connection], object]:
    def insert(tx: Connection) -> object:
        return make_job(
            tx,
            cluster,
            f"{job.kind}-{number}",
            nodes=job.nodes,
            priority=job.priority,
            command=command,
            wall_clock_seconds=_WEEK,
            now=now_ms(),
        )

    return insert


async def _all_done(engine: TimedEngine, total: int) -> None:
    done = asyncio.Event()

    def look() -> None:
        if engine.done >= total:
            done.set()

    engine.told = look
    look()
    await done.wait()


def _outcome(tx: Connection, seconds: float, processor: float) -> Outcome:
    job, attempt = tables.jobs.c, tables.attempts.c
    waited = (
        select(job.name, attempt.placed_at - job.created_at)
        .join(tables.attempts, attempt.job_id == job.id)
        .where(attempt.number == 1)
    )
    by_kind: dict[str, list[int]] = {}
    for name, milliseconds in tx.execute(waited):
        by_kind.setdefault(name.partition("-")[0], []).append(milliseconds)
    waits = {kind: sum(found) / len(found) / 1000 for kind, found in by_kind.items()}
    return Outcome(seconds, processor, waits, int(tx.execute(select(func.sum(job.preemptions))).scalar_one()))
