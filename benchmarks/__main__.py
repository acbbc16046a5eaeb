"""``make bench``: the house figures, all in one run, as ratios where a peer or a floor is there to compare with."""

from __future__ import annotations

import os

from benchmarks import code, commands, jobs, kueue, launchers, ray_jobs, scheduling, slurm, streams, volumes
from benchmarks.service import running_service

#: Set to anything for smaller runs of what takes minutes.
QUICK = "TRAINSHED_BENCH_QUICK"


def main() -> None:
    """Print every figure."""
    quick = bool(os.environ.get(QUICK))
    scheduling.report(quick)
    kueue.report(quick)
    with running_service() as bench:
        jobs.report(bench)
        commands.report(bench)
        code.report(bench)
        plain = jobs.quick(bench)
        streams.report(bench)
    # Nodes of as many cores as what runs by hand may use.
    with running_service(vm_size="STANDARD_D2") as bench:
        launchers.report(bench)
    volumes.report()
    slurm.report(quick)
    ray_jobs.report(quick)
    if os.geteuid() == 0:
        with running_service(2, "--isolate-jobs", "always") as bench:
            jobs.compare_isolated(plain, jobs.quick(bench))


main()
