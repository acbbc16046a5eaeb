"""Telling MPIs apart by what ``mpirun --version`` prints."""

from __future__ import annotations

import pytest

from trainshed.runner.mpi import flavor_of
from trainshed.toolkits.launch import MpiFlavor


@pytest.mark.parametrize(
    ("text", "flavor"),
    [
        ("mpirun (Open MPI) 4.1.4\n\nReport bugs to ...", MpiFlavor.OPEN_MPI_4),
        ("mpirun (Open MPI) 5.0.11\n", MpiFlavor.OPEN_MPI_5),
        ("HYDRA build details:\n    Version:    5.0.2\n", MpiFlavor.MPICH),
        ("Intel(R) MPI Library for Linux* OS, Version 2021.18 Build", MpiFlavor.INTEL),
        ("bash: line 1: mpirun: command not found", None),
    ],
)
def test_flavor(text: str, flavor: MpiFlavor | None) -> None:
    assert flavor_of(text) is flavor
