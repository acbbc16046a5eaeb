"""What is submitted: the arguments of ``sbatch``, and the script. Pure.

Neither holds a secret: the script lies in Slurm's own files, and arguments can be seen by everybody on the machine.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from trainshed.engines.slurm.node.start import FLAGS
from trainshed.engines.slurm.settings import ClusterOptions, SlurmSettings
from trainshed.resources.preemption import StopWarning

#: Minutes that Slurm's limit is beyond the runner's own, which is exact: for mounts, preparation and the end.
_MARGIN_MINUTES = 10
#: Steps of schedulingPriority are this far apart.
_PRIORITY_STEP = 1000


def comment(mark: str, ticket: str) -> str:
    """By which a job is found again: whose it is, and its ticket."""
    return f"trainshed:{mark}:{ticket}"


def ticket_of(text: str, mark: str) -> str:
    """The ticket of a job with this comment; empty for those of others."""
    prefix = comment(mark, "")
    return text.removeprefix(prefix) if text.startswith(prefix) else ""


def job_name(text: str) -> str:
    """A name that Slurm and a shell take without quoting."""
    return (re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.") or "job")[:64]


def minutes(seconds: float | None, most: int | None) -> int | None:
    """Slurm's limit for a job of this wall clock, on a partition that allows ``most`` minutes; None for the default.

    A job whose wall clock is longer than the partition's gets what there is, instead of waiting forever.
    """
    if seconds is None:
        return most
    wanted = math.ceil(seconds / 60) + _MARGIN_MINUTES
    return wanted if most is None else max(1, min(wanted, most))


def arguments(
    settings: SlurmSettings,
    options: ClusterOptions,
    *,
    name: str,
    comment: str,
    nodes: int,
    cpus: int,
    memory_mib: int,
    gpus: int,
    minutes: int | None,
    priority: int,
    warning: StopWarning | None,
    output: Path,
) -> list[str]:
    """Of ``sbatch``, whose standard input is the script."""
    found = [
        "--parsable",
        f"--job-name={job_name(name)}",
        f"--comment={comment}",
        f"--nodes={nodes}",
        "--requeue",
        "--open-mode=append",
        f"--output={output}",
        "--chdir=/",
        *(f"--{option}={value}" for option, value in options.sbatch),
    ]
    if options.exclusive:
        found += ["--exclusive", "--mem=0"]
    else:
        found += ["--ntasks-per-node=1", f"--cpus-per-task={max(1, cpus)}", f"--mem={max(1, memory_mib)}M"]
    if gpus and not options.of("gres"):
        found.append(f"--gres=gpu:{gpus}")
    if minutes is not None:
        found.append(f"--time={minutes}")
    nice = round(-priority / _PRIORITY_STEP * settings.nice_step)
    if nice > 0 or (nice < 0 and settings.is_operator):
        found.append(f"--nice={nice}")
    if warning is not None and warning.seconds >= 1:
        # To the script alone ("B:"), which passes it on as the job wants it: a runner takes no such signal.
        found.append(f"--signal=B:USR2@{min(65535, round(warning.seconds))}")
    return [*found, *settings.sbatch_arguments]


def script(settings: SlurmSettings, start: Path, submission: Path) -> str:
    """What Slurm runs on the first node; the process becomes the one that starts all others."""
    setup = f"{settings.setup}\n" if settings.setup else ""
    command = shlex.join([settings.python, *FLAGS, str(start), "lead", str(submission)])
    return f"#!/bin/bash\n{setup}exec {command}\n"


#: What differs between jobs that are alike to Slurm, and is said anew for an array of them.
_OWN = ("--job-name=", "--comment=", "--output=")


def array_arguments(given: Sequence[Sequence[str]], comment: str, output: Path) -> list[str]:
    """Of ``sbatch`` for one job array in the place of jobs with these arguments, which are alike."""
    names = [next(a for a in one if a.startswith(_OWN[0])).removeprefix(_OWN[0]) for one in given]
    common = os.path.commonprefix(names).strip("-_.")  # noqa: RUF071 - of names, not of paths
    found = [argument for argument in given[0] if not argument.startswith(_OWN)]
    own = [f"{_OWN[0]}{common or names[0]}", f"--comment={comment}", f"--output={output}"]
    return [*found[:1], *own, f"--array=0-{len(given) - 1}", *found[1:]]


def likeness(given: Sequence[str], script: str, cluster_uid: str) -> str:
    """The same for jobs that want the same of Slurm: any of their jobs can carry out any of them."""
    same = [argument for argument in given if not argument.startswith(_OWN)]
    return hashlib.sha256("\0".join([cluster_uid, script, *same]).encode()).hexdigest()[:20]
