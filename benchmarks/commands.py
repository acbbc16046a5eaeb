"""How long the command line takes to answer, beside the bare interpreter."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.service import Bench, environment

RUNS = 9
PROGRAM = str(Path(sys.executable).parent / "trainshed")


def milliseconds(command: list[str], extra: dict[str, str]) -> float:
    """Median wall clock of RUNS warm runs."""
    taken = []
    for index in range(RUNS + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, env={**environment(), **extra}, stdout=subprocess.DEVNULL)
        if index:  # The first one fills the caches.
            taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(taken)


def report(bench: Bench) -> None:
    """Print the figures of this module."""
    home = {"TRAINSHED_HOME": str(bench.home)}
    floor = milliseconds([sys.executable, "-c", "pass"], {})
    print(f"command line (median of {RUNS} warm runs)")
    print(f"  python3 -c pass          {floor:6.0f} ms")
    for aim, arguments in ((200, ["--help"]), (350, ["job", "list", "-w", "bench", "-e", "bench"])):
        taken = milliseconds([PROGRAM, *arguments], home)
        print(f"  trainshed {' '.join(arguments[:2]):14s} {taken:6.0f} ms   ratio {taken / floor:4.1f}   (aim {aim})")
