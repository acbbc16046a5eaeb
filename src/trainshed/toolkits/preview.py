"""What a job would start where, worked out without nodes: the toolkit's plan on a gang of examples.

Names, addresses and directories of the answer are examples; counts, commands, variables and file names are what the
runner would be told by the same functions. Secrets' values are ``***``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Any

from trainshed.resources import directories
from trainshed.resources.directories import JobPlace
from trainshed.toolkits.gpus import PER_RANK, visible
from trainshed.toolkits.launch import Gang, Host, LaunchPlan, MpiFlavor
from trainshed.toolkits.placing import places
from trainshed.toolkits.registry import needs_mpi, plan
from trainshed.toolkits.today import process_variables

MASKED = "***"
#: The first address of the original's clusters.
_FIRST_ADDRESS = IPv4Address("10.0.0.4")
#: Where the original's nodes had these directories (behaviour 6.1).
_ROOT = "/mnt/batch/tasks/shared/LS_root"
_UID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Rank:
    """One process that MPI or torchrun starts: what the rank wrapper gives it follows from its place."""

    rank: int
    host: int
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Preview:
    """The plan, the nodes that it was made for, and what the processes of each find in their environment."""

    hosts: tuple[Host, ...]
    plan: LaunchPlan
    #: One a node: what all its processes have, the plan's common variables included.
    environments: tuple[Mapping[str, str], ...]
    ranks: tuple[Rank, ...]
    #: The command that runs on every node first, and the files that its output is in on each.
    preparation: str | None
    preparation_logs: tuple[tuple[str, str], ...]
    mpi: MpiFlavor | None


def example_hosts(count: int, name: str, cpus: int, gpus: int) -> tuple[Host, ...]:
    """So many nodes of one size."""
    return tuple(
        Host(f"{name}-{number + 1}", str(_FIRST_ADDRESS + number), gpus=gpus, cpus=cpus) for number in range(count)
    )


def example_place(subscription: str, group: str, workspace: str, experiment: str, job: str = "job") -> JobPlace:
    """Directories of a job of this experiment; its nodes and secrets are for ``preview`` to add."""
    temp_root = f"{_ROOT}/jobs"
    return JobPlace(
        workspace=workspace,
        experiment=experiment,
        job=job,
        segment=directories.segment(subscription, group, workspace, experiment, job, _UID),
        mount_root=f"{_ROOT}/mounts",
        job_temp_root=temp_root,
        shared_job_temp=f"{directories.job_temp(temp_root, workspace, experiment, job)}/shared",
        addresses=(),
    )


def preview(
    properties: Mapping[str, Any], hosts: Sequence[Host], place: JobPlace, mpi: MpiFlavor | None = None
) -> Preview:
    """What the job (in the contract's JSON form) would start on these hosts.

    Raises PlanError, in the words with which the job itself would fail.
    """
    tools = directories.join(place.shared_job_temp, ".trainshed")
    gang = Gang(
        hosts=tuple(hosts),
        shared_job_temp=place.shared_job_temp,
        attempt_id=_UID,
        mpi=mpi if needs_mpi(properties) else None,
        launch_agent=f"{tools}/agent",
        rank_wrapper=f"{tools}/rank.sh",
    )
    made = plan(properties, gang)
    masked = {secret["name"]: MASKED for secret in properties.get("secrets") or []}
    several = len(hosts) > 1
    return Preview(
        hosts=gang.hosts,
        plan=made,
        environments=tuple(
            _environment(properties, replace(place, secrets=masked), gang, made, index) for index in range(len(hosts))
        ),
        ranks=_ranks(made, gang),
        preparation=(properties.get("jobPreparation") or {}).get("commandLine"),
        preparation_logs=tuple(directories.preparation_logs(host.name if several else None) for host in hosts),
        mpi=gang.mpi if made.mpi_ranks else None,
    )


def _environment(
    properties: Mapping[str, Any], place: JobPlace, gang: Gang, made: LaunchPlan, index: int
) -> dict[str, str]:
    host = gang.hosts[index]
    given = visible(host, 0, host.gpus) if host.gpus else {}
    here = replace(place, addresses=[each.address for each in gang.hosts], gpus=host.gpus, node_environment={**given})
    environment = {**directories.job_environment(properties, here), **made.environment}
    if made.mpi_ranks:
        environment.setdefault("NODE_RANK", str(index))
    return environment


def _ranks(made: LaunchPlan, gang: Gang) -> tuple[Rank, ...]:
    """The ranks that MPI or torchrun starts, as ``rank.sh`` or torchrun tells them who they are."""
    if not made.wrapped_ranks:
        return ()
    each = made.environment.get(PER_RANK)
    ranks = []
    for place in places(made.slots):
        own = {**process_variables(place), "WORLD_SIZE": str(made.wrapped_ranks)}
        if each is not None:
            own |= visible(gang.hosts[place.host], place.local_rank, int(each))
        ranks.append(Rank(place.rank, place.host, own))
    return tuple(ranks)
