"""dependsOn (2026-11-01): which other jobs must have started or ended before a job may join its queue."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from trainshed.resources import names
from trainshed.resources.common import Model, choice
from trainshed.resources.conditions import Condition
from trainshed.resources.findings import Findings

#: Most jobs that one job waits for.
MAX_DEPENDENCIES = 1_000


class Dependency(Model):
    """A condition on another job of the workspace."""

    job: Annotated[str, Field(max_length=129)] = Field(
        description="The other job or array: its name, or experiment/name if that is another",
        examples=["prepare"],
    )
    condition: Annotated[Literal["after", "afterOk", "afterAny"], BeforeValidator(choice(*Condition))] = Field(
        default="afterOk", description="after: it has started. afterOk: it has succeeded. afterAny: it has ended"
    )


Dependencies = Annotated[list[Dependency], Field(max_length=MAX_DEPENDENCIES)]


def check_dependencies(findings: Findings, dependencies: list[Dependency] | None) -> None:
    """Names must be such that a job could have them."""
    for index, dependency in enumerate(dependencies or ()):
        parts = dependency.job.split("/")
        if len(parts) > 2 or not all(map(names.is_name, parts)):
            way_out = "is not a job of this workspace. Write its name, or experiment/name if that is another."
            findings.value(f"properties.dependsOn[{index}].job", dependency.job, way_out)


def place_of(job: str, experiment: str) -> tuple[str, str]:
    """The experiment and the name that ``job`` of a dependency means, for a job of ``experiment``."""
    before, _, name = job.rpartition("/")
    return before or experiment, name
