"""Launchers that go on although their ranks are done: a stand-in for ``mpiexec`` that hangs, and a real MPICH."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.runner.harness import Runner, make_spec, run, stdouterr
from trainshed.runner import supervise
from trainshed.runner.spec import Outcome

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("isolation_kind")]

#: Stands in for MPICH's launcher: starts two ranks on its own node by the wrapper, and never ends by itself.
STAND_IN = """#!/bin/bash
if [ "$1" = --version ]; then echo "HYDRA build details: a stand-in"; exit; fi
while [ "${1##*/}" != rank.sh ]; do shift; done
for rank in 0 1; do PMI_RANK=$rank "$@" & done
exec sleep 600
"""


def mpi(command: str, count: int = 2) -> dict[str, Any]:
    return {"customMpiSettings": {"commandLine": command, "processCount": count}}


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in is what ``mpirun`` and ``mpiexec`` are."""
    folder = tmp_path / "stand-in"
    folder.mkdir()
    for name in ("mpirun", "mpiexec"):
        (folder / name).write_text(STAND_IN)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.usefixtures("stand_in")
def test_a_launcher_that_hangs_after_its_ranks_ended_well(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "LAST_SECONDS", 0.5)
    began = time.monotonic()
    outcome = run(make_spec(tmp_path, mpi("echo $PMI_RANK"), port=port))
    assert (outcome.result, outcome.exit_code) == ("succeeded", 0)
    assert time.monotonic() - began >= 0.5


@pytest.mark.usefixtures("stand_in")
def test_a_launcher_that_hangs_after_a_rank_failed(tmp_path: Path, port: int) -> None:
    outcome = run(make_spec(tmp_path, mpi("exit $PMI_RANK"), port=port))
    assert (outcome.result, outcome.exit_code) == ("failed", 1)
    assert outcome.reason is not None
    assert outcome.reason["details"]["rank"] == "1"


@pytest.fixture
def mpich(monkeypatch: pytest.MonkeyPatch) -> None:
    """MPICH on the PATH."""
    folder = Path(sys.executable).parent
    if not (folder / "mpiexec.hydra").exists():
        pytest.skip("no MPICH beside the interpreter: pip install mpich")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.slow
@pytest.mark.usefixtures("mpich")
def test_a_real_launcher_that_waits_for_what_its_ranks_left_behind(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the end of the ranks' output, which a process holds that a rank started and forgot."""
    monkeypatch.setattr(supervise, "LAST_SECONDS", 1.0)
    began = time.monotonic()
    for outcome in two_nodes(tmp_path, mpi("sleep 600 & echo done"), port):
        assert (outcome.result, outcome.exit_code) == ("succeeded", 0)
    assert time.monotonic() - began >= 1.0
    assert (stdouterr(tmp_path) / "stdout.txt").read_text() == "done\n" * 2


@pytest.mark.slow
@pytest.mark.usefixtures("mpich")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_was_killed_with_its_wrapper_said_nothing(tmp_path: Path, port: int, rank: int) -> None:
    # The wrapper is the parent of the rank.
    command = f"if [ $PMI_RANK = {rank} ]; then kill -9 $PPID $$; fi; exit 0"
    for outcome in two_nodes(tmp_path, mpi(command), port):
        assert outcome.result == "failed"
        assert outcome.exit_code not in (None, 0)


def two_nodes(root: Path, properties: dict[str, Any], port: int) -> list[Outcome]:
    with ExitStack() as stack:
        specs = [make_spec(root, properties, nodes=2, index=i, port=port) for i in range(2)]
        return [runner.outcome() for runner in [stack.enter_context(Runner(spec)) for spec in specs]]
