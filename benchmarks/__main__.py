"""``make bench``: the house figures, all in one run, as ratios where a peer or a floor is there to compare with."""

from __future__ import annotations

import os

from benchmarks import code, commands, jobs, launchers, ray_jobs, slurm, streams, volumes
from benchmarks.service import running_service


def main() -> None:
    """Print every figure."""
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
    slurm.report()
    ray_jobs.report()
    if os.geteuid() == 0:
        with running_service(2, "--isolate-jobs", "always") as bench:
            jobs.compare_isolated(plain, jobs.quick(bench))


main()
