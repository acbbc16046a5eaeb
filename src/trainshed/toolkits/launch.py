"""What a toolkit answers: which process runs on which node, with which command, environment and log files.

A toolkit is a pure function ``plan(job, gang) -> LaunchPlan``. The runner gathers the facts of the gang (addresses,
GPUs, the MPI that the nodes hold), asks for the plan *after* preparation (which may install things), and carries out
the part of its own node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class PlanError(ValueError):
    """The job cannot be launched on this gang; the message names the setting and the way out."""


class MpiFlavor(StrEnum):
    """The MPI that a node holds, told apart by ``mpirun --version``."""

    OPEN_MPI_4 = "openmpi4"
    OPEN_MPI_5 = "openmpi5"
    MPICH = "mpich"
    INTEL = "intelmpi"


@dataclass(frozen=True, slots=True)
class Host:
    """One node of a gang as its processes see it."""

    name: str
    address: str
    gpus: int = 0
    cpus: int = 1
    #: Its GPUs as CUDA_VISIBLE_DEVICES takes them (UUIDs), where the engine hands them out.
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gang:
    """The nodes that one attempt holds, first the master, and what is common to them."""

    hosts: tuple[Host, ...]
    #: Directory that every node of the gang sees (AZ_BATCHAI_SHARED_JOB_TEMP).
    shared_job_temp: str
    #: Unique for each attempt: rendezvous files and ids carry it, so that attempts never meet.
    attempt_id: str
    #: What ``mpirun`` is on these nodes; None when none was found.
    mpi: MpiFlavor | None = None
    #: Program that MPI launchers call like ssh (``agent [opts] HOST CMD...``), and the wrapper each rank is started by,
    #: which records the rank's own exit code. Both are paths that exist on every node.
    launch_agent: str = ""
    rank_wrapper: str = ""
    #: Words of a command that starts ranks in the place of ``mpirun``, where the engine has one: it is given how many
    #: each host gets, in the order of the hosts (``2,2,1``), and the rank's own words. Ranks have their node's
    #: environment then, and each its own RANK and LOCAL_RANK.
    rank_launcher: str = ""
    #: How many GPUs each process is to see of its own (gpusPerProcess); None when all of a node see all of its GPUs.
    gpus_per_process: int | None = None
    #: Network interface of the nodes' addresses (GLOO_SOCKET_IFNAME); empty when host names resolve to the addresses.
    interface: str = ""
    #: Whether the launcher runs as root (Open MPI refuses unless told).
    root: bool = False


@dataclass(frozen=True, slots=True)
class Process:
    """One process that the runner starts: a bash command line, in the job's environment plus ``environment``."""

    host: int
    #: ``master``, ``worker``, ``ps``, ``rank`` ...: what the process is, for people and logs.
    role: str
    index: int
    command_line: str
    environment: Mapping[str, str] = field(default_factory=dict)
    stdout: str = "stdout.txt"
    stderr: str = "stderr.txt"
    #: The job is over when all essential processes have ended; the others are then stopped (parameter servers).
    essential: bool = True


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """All processes of an attempt, over all nodes."""

    processes: tuple[Process, ...]
    #: Environment common to all processes of the job (AZ_BATCHAI_* that the toolkit owns).
    environment: Mapping[str, str] = field(default_factory=dict)
    #: How many processes run on each host, in host order: what the host file says.
    slots: tuple[int, ...] = ()
    #: Number of MPI ranks whose own word about their end is awaited; 0 when no MPI launcher is involved.
    mpi_ranks: int = 0
    #: They are started by ``Gang.rank_launcher``.
    launched_by_engine: bool = False
    #: Number of ranks that the processes start themselves, and perhaps again when one fails (torchrun).
    agent_ranks: int = 0
    #: Of the ranks that a launcher or an agent starts: each one's own standard error, ``{}`` being the rank; empty when
    #: they share the launcher's.
    rank_stderr: str = ""

    @property
    def wrapped_ranks(self) -> int:
        """Number of ranks that the service does not start itself, and that the rank wrapper therefore starts."""
        return self.mpi_ranks or self.agent_ranks

    def on(self, host: int) -> tuple[Process, ...]:
        """The processes that the runner of this host starts."""
        return tuple(process for process in self.processes if process.host == host)
