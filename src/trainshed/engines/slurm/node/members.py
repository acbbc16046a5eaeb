"""The start of a job's part on each of its nodes, from the first one."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from trainshed.engines.slurm.node.watch import warning


def run_members(
    order: dict[str, Any],
    slurm: Mapping[str, str],
    program: Sequence[str],
    told: str,
    hear: Callable[[dict[str, Any]], None],
) -> int:
    """Run the program once on each node, and wait for all of them; srun's exit code. Raises OSError.

    ``told``: srun passes its standard input on to each task, so secrets are on no command line and in no file.
    ``hear``: gets what Slurm's warning means, which comes to the script alone.
    """
    count = slurm["SLURM_JOB_NUM_NODES"]
    started = subprocess.Popen(
        [
            "srun",
            f"--nodes={count}",
            f"--ntasks={count}",
            "--ntasks-per-node=1",
            "--kill-on-bad-exit=0",
            "--wait=0",
            "--mpi=none",
            "--cpu-bind=none",
            "--unbuffered",
            *order["srun"],
            *program,
        ],
        stdin=subprocess.PIPE,
        env={**os.environ, **slurm},
    )
    begun = time.monotonic()
    signal.signal(signal.SIGUSR2, lambda _number, _frame: hear(warning(order, time.monotonic() - begun)))
    # Slurm sends it to srun and to the tasks too, which end as they should.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert started.stdin is not None
    with suppress(BrokenPipeError), started.stdin:
        started.stdin.write(told.encode())
    code = started.wait()
    return code if code >= 0 else 128 - code
