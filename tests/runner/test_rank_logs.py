"""Each rank's output in a file of its own, under a real MPICH, and what the nodes note of their logs."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.runner.harness import Runner, custom, make_spec, run, stdouterr, wait_for, wait_gone
from trainshed.resources import joblogs
from trainshed.runner.spec import Outcome

pytestmark = pytest.mark.usefixtures("isolation_kind")


@pytest.fixture(autouse=True)
def mpich(monkeypatch: pytest.MonkeyPatch) -> None:
    """MPICH on the PATH."""
    folder = Path(sys.executable).parent
    if not (folder / "mpiexec.hydra").exists():
        pytest.skip("no MPICH beside the interpreter: pip install mpich")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def mpi(command: str, count: int) -> dict[str, Any]:
    return {"customMpiSettings": {"commandLine": command, "processCount": count}}


def outcomes(root: Path, properties: dict[str, Any], port: int, **changes: Any) -> list[Outcome]:
    """Run on two nodes."""
    with ExitStack() as stack:
        specs = [make_spec(root, properties, nodes=2, index=i, port=port, **changes) for i in range(2)]
        return [runner.outcome() for runner in [stack.enter_context(Runner(spec)) for spec in specs]]


def listed(root: Path, node: int) -> list[joblogs.LogSource]:
    name = f"logs-{node}.json"
    return joblogs.read_list(name, (stdouterr(root) / "ranks" / name).read_bytes())


@pytest.mark.slow
def test_four_ranks_on_two_nodes(tmp_path: Path, port: int) -> None:
    command = 'for i in 1 2 3; do printf "r$PMI_RANK line $i\\n"; printf "e$PMI_RANK\\n" >&2; done'
    assert [o.result for o in outcomes(tmp_path, mpi(command, 4), port)] == ["succeeded"] * 2
    folder = stdouterr(tmp_path)
    for rank in range(4):
        assert (folder / f"ranks/stdout-{rank}.txt").read_text() == "".join(f"r{rank} line {i}\n" for i in (1, 2, 3))
        assert (folder / f"ranks/stderr-{rank}.txt").read_text() == f"e{rank}\n" * 3
    # The launcher's merged stream is as complete as it was.
    merged = sorted((folder / "stdout.txt").read_text().splitlines())
    assert merged == sorted(f"r{rank} line {i}" for rank in range(4) for i in (1, 2, 3))
    where = {s.rank: s.node for node in (0, 1) for s in listed(tmp_path, node) if s.role == "rank"}
    assert where == {0: "node-0", 1: "node-0", 2: "node-1", 3: "node-1"}
    launcher = [s for s in listed(tmp_path, 0) if s.role == "master"]
    assert [(s.name, s.stream, s.rank) for s in launcher] == [
        ("stdout.txt", "stdout", None), ("stderr.txt", "stderr", None),
    ]  # fmt: skip


@pytest.mark.slow
def test_what_a_rank_said_before_it_was_killed_is_kept(tmp_path: Path, port: int) -> None:
    command = "seq 1 20000; [ $PMI_RANK = 1 ] && kill -9 $$; sleep 600"
    attempt = f"killed-{os.getpid()}-{port}"
    for result in outcomes(tmp_path, mpi(command, 2), port, attempt_id=attempt):
        assert (result.result, result.exit_code) == ("failed", 137)
    text = (stdouterr(tmp_path) / "ranks/stdout-1.txt").read_text()
    assert text == "".join(f"{i}\n" for i in range(1, 20001))
    # Nor are the copying processes left.
    wait_gone(f"TRAINSHED_ATTEMPT_ID={attempt}", 10.0)


@pytest.mark.slow
def test_a_rank_handles_the_signal_that_ends_it(tmp_path: Path, port: int) -> None:
    """The rank handles the signal that its wrapper passes on; its last words are kept."""
    up = tmp_path / "up"
    script = tmp_path / "rank.py"
    script.write_text(
        "import pathlib, signal, sys, time\n"
        "def end(*_):\n    signal.signal(signal.SIGTERM, signal.SIG_IGN); print('warned'); sys.exit(9)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        f"print('up'); pathlib.Path({str(up)!r}).write_text('x')\n"
        "while True: time.sleep(0.05)\n"
    )
    with Runner(make_spec(tmp_path, mpi(f"{sys.executable} {script}", 1), port=port)) as runner:
        wait_for(up)
        runner.stop(grace=5.0)
        assert runner.outcome().result == "stopped"
    assert (stdouterr(tmp_path) / "ranks/stdout-0.txt").read_text() == "up\nwarned\n"


def test_the_times_of_a_single_process(tmp_path: Path) -> None:
    before = time.time_ns() // 1_000_000
    go = tmp_path / "go"
    job = custom(f"echo first; while [ ! -e {go} ]; do sleep 0.02; done; echo second")
    folder = stdouterr(tmp_path)
    with Runner(make_spec(tmp_path, job)) as runner:
        # The first line was noted before the second is written.
        wait_for(folder / "ranks/times-0.txt")
        between = time.time_ns() // 1_000_000
        go.touch()
        assert runner.outcome().result == "succeeded"
    times = joblogs.LogTimes()
    times.feed((folder / "ranks/times-0.txt").read_bytes())
    first, second = times.when("stdout.txt", 6), times.when("stdout.txt", 13)
    assert first is not None and second is not None
    assert before <= first <= between <= second
    assert [(s.name, s.rank, s.node_id) for s in listed(tmp_path, 0)] == [
        ("stdout.txt", 0, "tvm-0"), ("stderr.txt", 0, "tvm-0"),
    ]  # fmt: skip


def test_a_job_of_a_moment_has_only_the_contracts_files(tmp_path: Path) -> None:
    assert run(make_spec(tmp_path, custom("true"))).result == "succeeded"
    assert sorted(path.name for path in stdouterr(tmp_path).iterdir()) == ["execution.log", "stderr.txt", "stdout.txt"]


def test_a_place_that_cannot_be_written_fails_no_job(tmp_path: Path, port: int) -> None:
    folder = stdouterr(tmp_path)
    folder.mkdir(parents=True)
    (folder / "ranks").write_text("a file is in the way")
    assert run(make_spec(tmp_path, mpi("echo fine", 1), port=port)).result == "succeeded"
    assert (folder / "stdout.txt").read_text() == "fine\n"
    assert "there are no logs by rank" in (folder / "execution.log").read_text()
