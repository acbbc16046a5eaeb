"""What a job costs on Slurm: 200 that do nothing, by ``sbatch`` alone, through the engine and the whole service.

The site is a real Slurm on this machine with two slots, once with the settings that docs/slurm.md recommends and once
as Slurm is configured by default (with fewer jobs: it starts less than one a second; and without the service).

Through the service: ``trainshed serve`` in a home of its own, to which the engine was added as a user does, gets a job
array of 200, and 200 jobs one by one, by its public client. Bare jobs and these take turns, in an order that is turned
round each time; medians are compared.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from tests.engines.lab import Lab
from tests.engines.slurm.laboratory import engine, settings
from tests.engines.slurm.slurm_site import Site, why_not

from benchmarks.service import AddedEngine, running_service
from benchmarks.through_service import array_seconds, single_seconds
from trainshed.engines.slurm.commands import Commands

#: One slot's share of the site's node.
_REQUEST = ("--ntasks-per-node=1", "--cpus-per-task=1", "--mem=64M")
_BARE = ("--parsable", "--job-name=bare", "--output=/dev/null")
JOBS, JOBS_BY_DEFAULT = 200, 20
#: Runs of each kind where the service is measured.
ROUNDS, QUICK_ROUNDS = 3, 1
#: Times what sbatch alone takes, that all jobs may take through Trainshed.
WANTED = 1.3
#: Seconds between two looks at what has ended, as often as the engine looks at Slurm.
LOOK_AGAIN = 0.2


def report(quick: bool = False) -> None:
    """Print the figures, or why there are none. ``quick``: of a tuned site alone, with fewer jobs."""
    if why := why_not():
        print(f"Slurm: {why}")
        return
    for tuned, jobs in ((True, JOBS // 10 if quick else JOBS), *([] if quick else [(False, JOBS_BY_DEFAULT)])):
        site = Site(nodes=1, cpus=2, tuned=tuned)
        try:
            site.start()
            bare = _bare(site, jobs)
            ours, commands = asyncio.run(_ours(site, jobs))
            through = _through_service(site, jobs, QUICK_ROUNDS if quick else ROUNDS) if tuned else {}
        finally:
            site.close()
        how = "tuned" if tuned else "by default"
        print(
            f"Slurm {how}: {jobs} jobs of /bin/true, two slots: sbatch alone {bare:.1f} s, "
            f"through the engine {ours:.1f} s ({ours / bare:.2f} x, wanted: {WANTED} x at most; "
            f"{commands.total()} of Slurm's commands)"
        )
        for what in list(through)[1:]:
            alone, seconds = median(through[BARE]), median(through[what])
            print(
                f"Slurm {how}: {jobs} jobs of true through the whole service, {what}: {seconds:.1f} s, sbatch alone "
                f"{alone:.1f} s ({seconds / alone:.2f} x, wanted: {WANTED} x at most; medians of {len(through[what])})"
            )


#: What is run by turns.
BARE, ARRAY, SINGLE = "sbatch alone", "as one job array", "one by one"


def _through_service(site: Site, jobs: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each run, by what was run."""
    found: dict[str, list[float]] = {BARE: [], ARRAY: [], SINGLE: []}
    with tempfile.TemporaryDirectory() as folder:
        given = settings(Path(folder))
        added = AddedEngine(
            "slurm",
            "hpc",
            (
                *("--directory", given.directory, "--node_directory", given.node_directory, "--python", given.python),
                # The node has less memory than any VM size.
                "--sbatch=--mem=64M",
            ),
            {"exclusive": "no"},
            {"SLURM_CONF": str(site.conf)},
        )
        with running_service(1, engine=added) as bench:
            for number in range(rounds):
                for what in list(found)[:: -1 if number % 2 else 1]:
                    tag = f"{'array' if what is ARRAY else 'single'}-{number}"
                    if what is BARE:
                        found[what].append(_bare(site, jobs))
                    else:
                        run = array_seconds if what is ARRAY else single_seconds
                        found[what].append(run(bench, jobs, tag))
                    while site.states():
                        time.sleep(LOOK_AGAIN)
    return found


def _bare(site: Site, jobs: int) -> float:
    begin = time.monotonic()
    for _ in range(jobs):
        site.run(
            "sbatch",
            "--parsable",
            "--job-name=bare",
            *_REQUEST,
            "--output=/dev/null",
            stdin="#!/bin/bash\nexec /bin/true\n",
        )
    while site.states():
        time.sleep(LOOK_AGAIN)
    took = time.monotonic() - begin
    ended = Counter(site.run("squeue", "--noheader", "--states=all", "--name=bare", "--format=%T").split())
    assert set(ended) == {"COMPLETED"} and ended.total() >= jobs, ended
    return took


async def _ours(site: Site, jobs: int) -> tuple[float, Counter[str]]:
    """Seconds, and the commands of Slurm that were run."""
    counted: Counter[str] = Counter()
    run = Commands.run

    async def counting(commands: Commands, name: str, *arguments: str, **more: Any) -> str:
        counted[name] += 1
        return await run(commands, name, *arguments, **more)

    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(lambda: engine(site, Path(folder)), cluster={"options": {"exclusive": "no"}, "memory_mib": 64})
        await lab.start()
        Commands.run = counting  # type: ignore[method-assign]
        try:
            cluster = lab.cluster()
            nodes = await lab.add_nodes(1, cluster)
            gangs = [lab.gang("true", nodes, cluster) for _ in range(jobs)]
            counted.clear()
            begin = time.monotonic()
            await asyncio.gather(*map(lab.engine.start_gang, gangs))
            ended: set[str] = set()
            while len(ended) < jobs:
                # As control does: what has ended is recorded and forgotten.
                done = tuple({status.attempt_id for status in lab.told} - ended)
                ended |= set(done)
                await lab.engine.forget_gang(done)
                await asyncio.sleep(0.05)
            return time.monotonic() - begin, counted
        finally:
            Commands.run = run  # type: ignore[method-assign]
            await lab.engine.close()


if __name__ == "__main__":
    report()
