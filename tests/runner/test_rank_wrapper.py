"""The wrapper that starts each rank of MPI and torchrun: what it tells the rank, from what the launcher says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

WRAPPER = Path(__file__).parents[2] / "src" / "trainshed" / "runner" / "rank.sh"
DEVICES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
#: How each MPI, and torchrun, tells a rank that it is the second of its node.
SECOND = (
    {"OMPI_COMM_WORLD_RANK": "5", "OMPI_COMM_WORLD_LOCAL_RANK": "1"},
    {"PMI_RANK": "5", "MPI_LOCALRANKID": "1"},
    {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "2"},
)


def run(environment: dict[str, str]) -> dict[str, str]:
    """The environment of a rank that is started with this one."""
    path = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    done = subprocess.run(
        ["sh", str(WRAPPER), "env", "-0"], env={**path, **environment}, capture_output=True, text=True, timeout=20
    )
    assert (done.returncode, done.stderr) == (0, "")
    return dict(pair.split("=", 1) for pair in done.stdout.split("\0") if pair)


@pytest.mark.parametrize("mpi", SECOND)
@pytest.mark.parametrize(
    ("each", "expected"), [(None, "GPU-a,GPU-b,GPU-c,GPU-d"), ("1", "GPU-b"), ("2", "GPU-c,GPU-d")]
)
def test_a_rank_sees_its_part_of_the_node(mpi: dict[str, str], each: str | None, expected: str) -> None:
    given = dict.fromkeys(DEVICES, "GPU-a,GPU-b,GPU-c,GPU-d") | mpi
    if each is not None:
        given["TRAINSHED_GPUS_PER_PROCESS"] = each
    seen = run(given)
    assert {name: seen[name] for name in DEVICES} == dict.fromkeys(DEVICES, expected)
    assert (seen["RANK"], seen["LOCAL_RANK"]) == ("5", "1")


def test_gpus_without_names_are_numbered() -> None:
    seen = run({**SECOND[1], "TRAINSHED_GPUS_PER_PROCESS": "2"})
    assert seen["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert "HIP_VISIBLE_DEVICES" not in seen


def test_the_only_gpu() -> None:
    seen = run({"PMI_RANK": "0", "TRAINSHED_GPUS_PER_PROCESS": "1", "CUDA_VISIBLE_DEVICES": "GPU-a"})
    assert seen["CUDA_VISIBLE_DEVICES"] == "GPU-a"
