"""What a launch preview is asked with (2026-11-01): a job, and what to take for granted of nodes that are not there."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from trainshed.resources.common import Model, ResourceRef, choice
from trainshed.resources.job import JobProperties
from trainshed.resources.versions import KNOWN_VERSIONS, ApiVersion

_MPI = ("openmpi", "openmpi4", "openmpi5", "mpich", "intel", "none")

Mpi = Annotated[
    Literal["openmpi", "openmpi4", "openmpi5", "mpich", "intel", "none"], BeforeValidator(choice(*_MPI))
]  # fmt: skip
PerNode = Annotated[int, Field(ge=0, le=1024)]


class PlannedJobProperties(JobProperties):
    """A job's properties; the cluster may be absent."""

    cluster: ResourceRef | None = None  # type: ignore[assignment]


class PlanAssumptions(Model):
    """What the nodes are like. What is absent here follows from the cluster's VM size."""

    gpus: PerNode | None = Field(default=None, description="GPUs of each node", examples=[4])
    cpus: Annotated[int, Field(ge=1, le=65_536)] | None = Field(
        default=None, description="CPUs of each node", examples=[8]
    )
    mpi: Mpi = Field(default="openmpi", description="The MPI that the nodes hold; openmpi is Open MPI 5")


class JobPlanCreate(Model):
    """Body of POST planJob."""

    read_only: ClassVar[frozenset[str]] = frozenset({"id", "name", "type"})

    properties: PlannedJobProperties = Field(description="What the job is to do")
    assume: PlanAssumptions = Field(default_factory=PlanAssumptions)
    #: In which version the job would be submitted: it decides about members that are not known.
    api_version: Annotated[Literal["2018-05-01", "2026-11-01"], Field(examples=[KNOWN_VERSIONS[-1]])] = (
        ApiVersion.V2026_11_01.value
    )
