"""Job arrays (2026-11-01): one description, a job for each index."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from trainshed.resources import names
from trainshed.resources.common import Model
from trainshed.resources.errors import INVALID_RESOURCE_NAME, InvalidResource
from trainshed.resources.findings import Findings
from trainshed.resources.indices import MAX_INDEX, MAX_JOBS, parse_indices
from trainshed.resources.job import JobProperties

#: What tells the jobs apart: the index of each, how many there are, and the array's name.
INDEX, COUNT, ARRAY = "TRAINSHED_ARRAY_INDEX", "TRAINSHED_ARRAY_COUNT", "TRAINSHED_ARRAY_JOB"


class ArrayIndices(Model):
    """Which jobs there are: ``count`` or ``indices``, one of them."""

    count: Annotated[int, Field(ge=1, le=MAX_JOBS)] | None = Field(
        default=None, description="So many jobs, with the indices from 0 on", examples=[10]
    )
    indices: Annotated[str, Field(max_length=4096)] | None = Field(
        default=None, description="The indices", examples=["0-9,20-30:2"]
    )
    max_running: Annotated[int, Field(ge=1, le=MAX_JOBS)] | None = Field(
        default=None, description="How many of the jobs run at once at most; all when absent", examples=[2]
    )


class JobArrayProperties(JobProperties):
    """Properties of each of the jobs, and which there are."""

    read_only: ClassVar[frozenset[str]] = JobProperties.read_only | {"jobCount", "jobCounts"}

    array: ArrayIndices = Field(description="Which jobs there are", examples=[{"count": 10}])


class JobArrayCreate(Model):
    """Body of PUT job array."""

    read_only: ClassVar[frozenset[str]] = frozenset({"id", "name", "type"})

    properties: JobArrayProperties = Field(description="What each job is to do, and which there are")


def check_array(findings: Findings, properties: JobArrayProperties) -> None:
    """Rules of the array's own members, and variables that are the service's here."""
    array = properties.array
    if (array.count is None) == (array.indices is None):
        findings.rule("properties.array", 'needs count or indices, one of them, for example {"count": 10}.')
    if array.indices is not None:
        try:
            parse_indices(array.indices)
        except ValueError as error:
            findings.value("properties.array.indices", array.indices, f"is not right: {error}.")
    for member in ("environment_variables", "secrets"):
        for index, variable in enumerate(getattr(properties, member) or ()):
            if variable.name in (INDEX, COUNT, ARRAY):
                place = f"properties.{'secrets' if member == 'secrets' else 'environmentVariables'}[{index}].name"
                findings.value(place, variable.name, "is set by the service for jobs of an array. Use another name.")


def indices_of(definition: dict[str, Any]) -> tuple[int, ...]:
    """The indices of an array's stored properties."""
    array = definition["array"]
    return parse_indices(array["indices"]) if "indices" in array else tuple(range(array["count"]))


def member_name(array: str, index: int) -> str:
    """The name of one of its jobs."""
    return f"{array}-{index}"


def check_array_name(name: str, indices: tuple[int, ...]) -> None:
    """Raise InvalidResource when one of the jobs would have a name that is too long."""
    longest = member_name(name, max(indices, default=MAX_INDEX))
    if not names.is_name(longest):
        message = f"The array name '{name}' is too long: its last job would be '{longest}', and {names.NAME_RULE}."
        raise InvalidResource.of(INVALID_RESOURCE_NAME, message, "arrayName")


def member_definition(definition: dict[str, Any], array: str, index: int, count: int) -> dict[str, Any]:
    """The properties of one of the jobs: the array's, and the variables that tell it which one it is."""
    own = ((INDEX, str(index)), (COUNT, str(count)), (ARRAY, array))
    variables = [*(definition.get("environmentVariables") or []), *({"name": n, "value": v} for n, v in own)]
    return {**{name: value for name, value in definition.items() if name != "array"}, "environmentVariables": variables}
