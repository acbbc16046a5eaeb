"""Starts the ranks of a job as a step of Slurm's, in the place of ``mpirun``: ``launcher.py FILE COUNTS RANK...``.

``COUNTS`` are how many ranks each node gets, in the order of the nodes (``2,2,1``), ``RANK...`` what each is. The file
says the rest (``describe``). It runs on the first node as a process of the job and becomes ``srun``; what that starts
on each node joins the job there (``join``). Runs by itself, isolated from the job's Python settings.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

FLAGS = ("-I", "-S", "-E")
FAILED = 255
#: Seconds for which a controller that is away is waited for, between two looks, and for one.
_CONTROLLER_SECONDS, _PAUSE, _ASK_SECONDS = 600.0, 1.0, 30.0
#: Seconds for which a controller is new.
_NEW_SECONDS = 60.0
#: Of the Slurm job that the runner belongs to: what makes ``srun`` a part of it, and no more.
_OF_THE_JOB = ("SLURM_CONF", "SLURM_JOB_ID", "SLURM_JOBID", "SLURM_WORKING_CLUSTER", "SLURM_CLUSTER_NAME")
_OF_THE_NODE = ("PATH", "LD_LIBRARY_PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ")
#: What a job's own variables may tell ``srun`` and PMIx; and what ranks prove themselves with.
_OF_THE_USER = ("SLURM_", "PMIX_MCA_")
_OURS = ("TRAINSHED_AGENT_TOKEN", "TRAINSHED_AGENT_HOSTS")


def describe(kind: str, nodes: Iterable[str], arguments: Iterable[str], slurm: Mapping[str, str]) -> dict[str, Any]:
    """What the file holds, as JSON: which of Slurm's MPI plugins, the nodes' names, further arguments, variables."""
    kept = {name: os.environ[name] for name in _OF_THE_NODE if name in os.environ}
    kept |= {name: slurm[name] for name in _OF_THE_JOB if name in slurm}
    return {"mpi": kind, "nodes": list(nodes), "srun": list(arguments), "environment": kept}


def arguments_of(told: Mapping[str, Any], counts: Sequence[int], rank: Iterable[str], join: str) -> list[str]:
    """Of ``srun``: so many ranks on each node, consecutive ones together, beside the runners' own step."""
    used = [(name, count) for name, count in zip(told["nodes"], counts, strict=True) if count]
    if len({count for _, count in used}) == 1:
        placed = [f"--ntasks-per-node={used[0][1]}", "--distribution=block"]
        names = [name for name, _ in used]
    else:
        placed = ["--distribution=arbitrary"]
        names = [name for name, count in used for _ in range(count)]
    return [
        "srun",
        f"--mpi={told['mpi']}",
        f"--nodes={len(used)}",
        f"--ntasks={sum(counts)}",
        *placed,
        f"--nodelist={','.join(names)}",
        "--overlap",
        "--overcommit",
        "--kill-on-bad-exit=0",
        "--wait=0",
        "--chdir=/",
        "--job-name=ranks",
        "--quiet",
        *told["srun"],
        sys.executable,
        *FLAGS,
        "-c",
        join,
        *rank,
    ]


def environment_of(told: Mapping[str, Any], job: Mapping[str, str]) -> dict[str, str]:
    """Of ``srun``, which passes it on: nothing of the job's but what is meant for it. Ranks get the job's otherwise."""
    own = {name: value for name, value in job.items() if name.startswith(_OF_THE_USER) or name in _OURS}
    return {**own, **told["environment"]}


def configuration(environment: Mapping[str, str]) -> str:
    """What the controller says of the site, once it answers; empty when it has not for long: ``srun`` says why."""
    asked = _insist(("scontrol", "show", "config"), environment)
    return asked.stdout if asked is not None else ""


def binds(config: str) -> bool:
    """Whether the site binds tasks to cores; srun complains of being told about it where it does not."""
    return any("affinity" in line for line in config.splitlines() if line.startswith("TaskPlugin "))


def is_new(config: str, now: float) -> bool:
    """Whether the controller has begun a moment ago. It refuses steps then for want of memory, until it knows nodes."""
    for line in config.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "BOOT_TIME":
            with suppress(ValueError):
                return abs(now - time.mktime(time.strptime(value.strip(), "%Y-%m-%dT%H:%M:%S"))) < _NEW_SECONDS
    return False


def _insist(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str] | None:
    """Until it succeeds; None when it does not for long, or is not there."""
    until = time.monotonic() + _CONTROLLER_SECONDS
    while time.monotonic() < until:
        try:
            asked = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_ASK_SECONDS)
        except FileNotFoundError:
            return None
        except subprocess.TimeoutExpired:
            continue
        if asked.returncode == 0:
            return asked
        time.sleep(_PAUSE)
    return None


def main(arguments: Sequence[str]) -> int:
    """Becomes ``srun``; the exit code where it cannot."""
    file, counts, *rank = arguments
    with open(file) as text:
        told = json.load(text)
    with open(os.path.join(os.path.dirname(__file__), "join.py")) as text:  # noqa: PTH118, PTH120
        join = text.read()
    environment = environment_of(told, os.environ)
    config = configuration(environment)
    if binds(config):
        # As mpirun is told; the job's own variable goes before.
        environment.setdefault("SLURM_CPU_BIND", "none")
    if is_new(config, time.time()):
        _insist(("srun", "--overlap", "--overcommit", "--mpi=none", "--chdir=/", "true"), environment)
    command = arguments_of(told, list(map(int, counts.split(","))), rank, join)
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        sys.stderr.write(f"trainshed: srun cannot be started on the job's first node: {error}\n")
    return FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
