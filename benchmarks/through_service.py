"""Many jobs that do nothing through a whole service, by its public client: as one job array, and one by one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping

from benchmarks.jobs import cluster_id, properties
from benchmarks.service import Bench

#: Seconds that all of them may take, and between two looks at whether they have ended.
PATIENCE, LOOK_AGAIN = 600.0, 0.2


def array_seconds(bench: Bench, jobs: int, tag: str) -> float:
    """From the submission of one job array until all of its jobs have succeeded, as a user sees it."""
    client = bench.client
    described = {**properties("true", cluster_id(client)), "array": {"count": jobs}}
    begin = time.monotonic()
    client.job_arrays.create(tag, described)
    _until(lambda: client.job_arrays.get(tag).unfinished == 0)
    took = time.monotonic() - begin
    _check(client.job_arrays.get(tag).counts, jobs)
    return took


def single_seconds(bench: Bench, jobs: int, tag: str) -> float:
    """From the first of so many submissions until all jobs have succeeded, as a user sees it."""
    client = bench.client
    described = properties("true", cluster_id(client))
    names = [f"{tag}-{number}" for number in range(jobs)]
    begin = time.monotonic()
    for name in names:
        client.jobs.create(name, described, wait=False)
    # Mostly the last one to end too, and a look at all costs more.
    _until(lambda: client.jobs.get(names[-1]).final)
    own = set(names)
    _until(lambda: all(job.final for job in client.jobs.list() if job.name in own))
    took = time.monotonic() - begin
    _check(Counter(job.execution_state.value for job in client.jobs.list() if job.name in own), jobs)
    return took


def _check(counts: Mapping[str, int], jobs: int) -> None:
    found = {state: count for state, count in counts.items() if count}
    assert found == {"succeeded": jobs}, f"of {jobs} jobs: {found}"


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"jobs that do nothing have not all ended within {PATIENCE:g} s")
        time.sleep(LOOK_AGAIN)
