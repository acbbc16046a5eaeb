"""``make bench``: the house figures, all in one run, as ratios where a peer or a floor is there to compare with."""

from __future__ import annotations

import os

from benchmarks import commands, jobs, launchers
from benchmarks.service import running_service


def main() -> None:
    """Print every figure."""
    with running_service() as bench:
        jobs.report(bench)
        commands.report(bench)
        launchers.report(bench)
        plain = jobs.quick(bench)
    if os.geteuid() == 0:
        with running_service(2, "--isolate-jobs", "always") as bench:
            jobs.compare_isolated(plain, jobs.quick(bench))


main()
