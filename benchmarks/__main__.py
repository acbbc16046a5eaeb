"""``make bench``: the house figures, all in one run, as ratios where a peer or a floor is there to compare with."""

from __future__ import annotations

from benchmarks import commands, jobs
from benchmarks.service import running_service


def main() -> None:
    """Print every figure."""
    with running_service() as bench:
        jobs.report(bench)
        commands.report(bench)


main()
