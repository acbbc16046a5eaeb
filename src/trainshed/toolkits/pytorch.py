"""PyTorch: a process per rank started by the service, or under MPI when that is the backend (behaviour 7 and 8).

Scripts of the original read AZ_BATCHAI_PYTORCH_INIT_METHOD, AZ_BATCHAI_PYTORCH_BACKEND and AZ_BATCHAI_TASK_INDEX;
today's read the ``env://`` variables. Both sets are there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trainshed.resources.directories import rank_logs
from trainshed.toolkits.launch import Gang, LaunchPlan, PlanError, Process
from trainshed.toolkits.mpi import RANK, mpi_plan
from trainshed.toolkits.placing import Place, places, process_count, spread
from trainshed.toolkits.python import python_command
from trainshed.toolkits.today import gang_variables, process_variables, rendezvous_port

_MPI = "mpi"
_BACKENDS = frozenset({"tcp", "gloo", "nccl", _MPI})


def plan(settings: Mapping[str, Any], gang: Gang) -> LaunchPlan:
    """processCount ranks over the hosts. Raises PlanError for an unknown backend, or MPI where there is none."""
    backend = (settings.get("communicationBackend") or "").lower()
    if backend and backend not in _BACKENDS:
        raise PlanError(
            f"pyTorchSettings.communicationBackend {settings['communicationBackend']!r} is unknown: "
            "use TCP, Gloo, MPI or NCCL"
        )
    command_line = python_command(settings)
    common = _common_environment(settings, gang, backend)
    if backend == _MPI:
        made = mpi_plan("pyTorchSettings", _under_mpi(command_line), settings, gang, common)
        return replace(made, rank_stderr="stderr-{}.txt")
    slots = spread(process_count(settings, len(gang.hosts)), len(gang.hosts))
    common |= gang_variables(gang, sum(slots))
    processes = tuple(_process(place, command_line) for place in places(slots))
    return LaunchPlan(processes=processes, environment=common, slots=slots)


def uses_mpi(settings: Mapping[str, Any]) -> bool:
    """Whether the ranks are started by ``mpirun``."""
    return (settings.get("communicationBackend") or "").lower() == _MPI


def _common_environment(settings: Mapping[str, Any], gang: Gang, backend: str) -> dict[str, str]:
    port = rendezvous_port(gang.attempt_id)
    master = gang.hosts[0].address
    if backend == "tcp":
        init_method = f"tcp://{master}:{port}"
    else:
        init_method = f"file://{gang.shared_job_temp.rstrip('/')}/pytorch-{gang.attempt_id}"
    environment = {"AZ_BATCHAI_PYTORCH_INIT_METHOD": init_method}
    if backend:
        environment["AZ_BATCHAI_PYTORCH_BACKEND"] = settings["communicationBackend"]
    return environment


def _process(place: Place, command_line: str) -> Process:
    stdout, stderr = rank_logs(place.rank)
    return Process(
        host=place.host,
        role="rank",
        index=place.rank,
        command_line=command_line,
        environment={"AZ_BATCHAI_TASK_INDEX": str(place.rank), **process_variables(place)},
        stdout=stdout,
        stderr=stderr,
    )


def _under_mpi(command_line: str) -> str:
    """Each rank learns its index and writes the log files that PyTorch jobs have (behaviour 6.3)."""
    log = '"$AZ_BATCHAI_STDOUTERR_DIR/{}-$AZ_BATCHAI_TASK_INDEX.txt"'
    return (
        f'export AZ_BATCHAI_TASK_INDEX={RANK}; mkdir -p "$AZ_BATCHAI_STDOUTERR_DIR" '
        f"&& exec >>{log.format('stdout')} 2>>{log.format('stderr')} || exit 1; {command_line}"
    )
