"""Which file of ``stdouterr`` is a job's log, by its toolkit (behaviour 6.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainshed.client.models import File, Job

_FIRST_PROCESS = {
    **dict.fromkeys(("pytorch", "caffe2", "torchrun", "jax", "deepspeed", "accelerate", "lightning"), "-0"),
    "tensorflow": "-wk-0",
}


def log_name(job: Job, *, stderr: bool = False) -> str:
    """The log of the job's first process: ``stdout.txt``, or ``stdout-0.txt`` where each process has its own."""
    return f"{'stderr' if stderr else 'stdout'}{_FIRST_PROCESS.get(job.tool_type, '')}.txt"


def first_log(files: list[File], *, stderr: bool = False) -> str | None:
    """The first log among files that are there; preparation logs only if there is nothing else."""
    stem = "stderr" if stderr else "stdout"
    names = [file.name for file in files if file.name.startswith(stem) and file.name.endswith(".txt")]
    return min(names, key=lambda name: ("job_prep" in name, name), default=None)
