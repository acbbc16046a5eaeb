"""What ranks that the engine starts are told of their numbers."""

from __future__ import annotations

import pytest

from trainshed.runner.joining import numbers
from trainshed.toolkits.launch import LaunchPlan, MpiFlavor

PLAN = LaunchPlan((), slots=(2, 1), mpi_ranks=3, launched_by_engine=True)
TODAY = {"RANK": "{rank}", "WORLD_SIZE": "3", "LOCAL_RANK": "{local}", "LOCAL_WORLD_SIZE": "2"}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "{rank}",
    "OMPI_COMM_WORLD_SIZE": "3",
    "OMPI_COMM_WORLD_LOCAL_RANK": "{local}",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_COMM_WORLD_NODE_RANK": "{local}",
}


@pytest.mark.parametrize(
    ("flavor", "more"),
    [
        (None, {}),
        (MpiFlavor.OPEN_MPI_4, OPEN_MPI),
        (MpiFlavor.OPEN_MPI_5, OPEN_MPI),
        (MpiFlavor.MPICH, {"MPI_LOCALRANKID": "{local}", "MPI_LOCALNRANKS": "2"}),
        (MpiFlavor.INTEL, {"MPI_LOCALRANKID": "{local}", "MPI_LOCALNRANKS": "2"}),
    ],
)
def test_numbers_by_the_names_of_this_mpi(flavor: MpiFlavor | None, more: dict[str, str]) -> None:
    assert numbers(PLAN, 0, flavor) == TODAY | more
    assert numbers(PLAN, 1, flavor)["LOCAL_WORLD_SIZE"] == "1"
