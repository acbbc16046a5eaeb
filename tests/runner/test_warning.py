"""A warning before the stop: who gets the signal, what a job's end then means, and how long it has."""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.runner.harness import Runner, custom, make_spec, stdouterr, wait_for, wait_gone
from tests.runner.test_gang import gang, pytorch
from tests.support.mpi import Mpi, mpi
from trainshed.resources.times import parse_time

__all__ = ["mpi"]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("isolation_kind")]

#: Installs a handler that counts, says that it is ready, and waits until it was called and ``leave`` is over.
_LISTENER = """
import os, signal, sys, time
name = os.environ.get('AZ_BATCHAI_TASK_INDEX') or os.environ.get('RANK') or 'it'
calls = []
signal.signal(signal.Signals[os.environ['TRAINSHED_PREEMPTION_SIGNAL']], lambda n, _: calls.append(n))
def said(what, text='y'):
    path = f'{root}/{what}-{name}'
    open(path + '.new', 'w').write(text)
    os.rename(path + '.new', path)
def wait():
    said('up')
    while not calls:
        time.sleep(0.01)
"""


def script(root: Path, body: str) -> str:
    """A command that runs Python with the helpers above."""
    path = root / "listener.py"
    path.write_text(f"root = {str(root)!r}\n{_LISTENER}\n{body}\n")
    return f"{shlex.quote(sys.executable)} -S {shlex.quote(str(path))}"


def spec_of(root: Path, command: str, **members: Any) -> Any:
    return make_spec(root, custom(command, **members))


def log_of(root: Path) -> str:
    return (stdouterr(root) / "execution.log").read_text()


def test_who_leaves_was_pre_empted(tmp_path: Path) -> None:
    command = script(
        tmp_path, "wait(); said('notice', open(os.environ['TRAINSHED_PREEMPTION_NOTICE']).read()); sys.exit(7)"
    )
    with Runner(spec_of(tmp_path, command)) as runner:
        wait_for(tmp_path / "up-it")
        began = time.time()
        runner.warn(60)
        outcome = runner.outcome()
    assert (outcome.result, outcome.exit_code) == ("stopped", 7)
    assert outcome.reason is not None
    assert outcome.reason["code"] == "Preempted"
    notice = json.loads((tmp_path / "notice-it").read_text())
    assert notice["signal"] == "SIGUSR2"
    assert notice["reason"] == {"code": "Preempted", "message": "somebody else is more urgent"}
    assert began + 59 < notice["deadlineUnixSeconds"] < began + 90
    assert parse_time(notice["deadline"]) == round(notice["deadlineUnixSeconds"] * 1000)
    assert "SIGUSR2 sent to 1 process;" in log_of(tmp_path)


def test_who_has_done_everything_has_succeeded(tmp_path: Path) -> None:
    with Runner(spec_of(tmp_path, script(tmp_path, "wait()"))) as runner:
        wait_for(tmp_path / "up-it")
        runner.warn(60)
        assert runner.outcome().result == "succeeded"


def test_who_does_not_listen_goes_on_until_the_time_is_up(tmp_path: Path) -> None:
    """SIGUSR2 would end shell and program, which must not know of it."""
    ended = "trap 'echo told > ended; exit 1' TERM; touch up; while :; do sleep 0.02; done"
    with Runner(spec_of(tmp_path, f"cd {tmp_path} && bash -c {shlex.quote(ended)}")) as runner:
        path = tmp_path / "up"
        while not path.exists():
            time.sleep(0.01)
        began = time.monotonic()
        runner.warn(0.5)
        outcome = runner.outcome()
    assert time.monotonic() - began >= 0.5
    assert (outcome.result, outcome.exit_code) == ("stopped", None)
    assert (tmp_path / "ended").read_text() == "told\n"
    assert "No process here takes SIGUSR2; SIGTERM follows in 0.5 s" in log_of(tmp_path)


def test_once_and_not_to_forked_workers_or_shells(tmp_path: Path) -> None:
    body = """
if os.fork() == 0:
    name = 'worker'
    said('up')
    while not calls:
        time.sleep(0.01)
    said('told')
    os._exit(0)
wait()
time.sleep(0.3)
said('calls', str(calls))
sys.exit(1)
"""
    with Runner(spec_of(tmp_path, f"true; {script(tmp_path, body)}; code=$?; exit $code")) as runner:
        wait_for(tmp_path / "up-it")
        wait_for(tmp_path / "up-worker")
        runner.warn(60)
        runner.warn(60)
        outcome = runner.outcome()
    assert (outcome.result, outcome.exit_code) == ("stopped", 1)
    assert (tmp_path / "calls-it").read_text() == "[12]"
    assert not (tmp_path / "told-worker").exists()


def test_the_signal_that_the_job_wants(tmp_path: Path) -> None:
    command = script(tmp_path, "wait(); said('calls', str(calls)); sys.exit(1)")
    with Runner(spec_of(tmp_path, command, preemption={"signal": "SIGTERM", "gracePeriod": "PT1M"})) as runner:
        wait_for(tmp_path / "up-it")
        runner.warn(60, "SIGTERM")
        assert runner.outcome().result == "stopped"
    assert (tmp_path / "calls-it").read_text() == "[15]"


def test_a_stop_without_a_warning_is_sooner(tmp_path: Path) -> None:
    with Runner(spec_of(tmp_path, script(tmp_path, "wait(); said('told'); time.sleep(600)"))) as runner:
        wait_for(tmp_path / "up-it")
        runner.warn(600)
        wait_for(tmp_path / "told-it")
        runner.stop()
        outcome = runner.outcome()
    assert outcome.reason is not None
    assert (outcome.result, outcome.reason["code"]) == ("stopped", "JobTerminated")


def test_what_has_not_begun_is_stopped_at_once(tmp_path: Path) -> None:
    preparing = {"commandLine": f"echo y > {tmp_path}/preparing; sleep 4242.1"}
    with Runner(spec_of(tmp_path, "true", jobPreparation=preparing)) as runner:
        wait_for(tmp_path / "preparing")
        runner.warn(600)
        assert runner.outcome().result == "stopped"


def test_the_wall_clock_is_not_excused(tmp_path: Path) -> None:
    job = custom(script(tmp_path, "wait(); time.sleep(600)"))
    with Runner(make_spec(tmp_path, job, wall_clock_seconds=2.0)) as runner:
        wait_for(tmp_path / "up-it")
        runner.warn(600)
        outcome = runner.outcome()
    assert outcome.reason is not None
    assert (outcome.result, outcome.reason["code"]) == ("failed", "JobMaxWallClockTimeExceeded")


def test_what_mounts_left_behind_hears_nothing(tmp_path: Path) -> None:
    """rclone's daemons take SIGUSR2; only what the toolkit started is the job."""
    daemon = script(tmp_path, "name = 'daemon'; wait(); said('told')")
    preparing = {"commandLine": f"{daemon} > /dev/null 2>&1 & until test -e {tmp_path}/up-daemon; do sleep 0.01; done"}
    job = tmp_path / "job"
    job.mkdir()
    with Runner(
        spec_of(tmp_path, script(job, "wait(); time.sleep(0.3); sys.exit(1)"), jobPreparation=preparing)
    ) as runner:
        wait_for(job / "up-it")
        runner.warn(60)
        assert runner.outcome().result == "stopped"
    assert not (tmp_path / "told-daemon").exists()


def test_who_leaves_first_does_not_end_the_others(tmp_path: Path, port: int) -> None:
    """The second rank leaves at once; the first takes its time for a checkpoint."""
    body = "\n".join(
        (f"root = {str(tmp_path)!r}", _LISTENER, "wait()", "if rank == 0:", "    time.sleep(1)", "    said('saved')",
         "sys.exit(3 + rank)")
    )  # fmt: skip
    with ExitStack() as stack:
        runners = gang(stack, tmp_path, pytorch(tmp_path, body), port)
        for rank in range(2):
            wait_for(tmp_path / f"up-{rank}")
        # The member first: what it says must not be taken for a failure by a coordinator that knows of nothing.
        runners[1].warn(60)
        time.sleep(0.2)
        runners[0].warn(60)
        both = [runner.outcome() for runner in runners]
    assert [(outcome.result, outcome.exit_code) for outcome in both] == [("stopped", 4)] * 2
    assert (tmp_path / "saved-0").exists()


def warn_all(runners: list[Runner], seconds: float = 60) -> list[Any]:
    for runner in runners:
        runner.warn(seconds)
    return [runner.outcome() for runner in runners]


@pytest.mark.slow
def test_ranks_of_mpi_hear_it_once(tmp_path: Path, port: int, mpi: Mpi, isolation_kind: str) -> None:
    """Open MPI passes SIGUSR2 on to its ranks, MPICH dies of it: so its launcher must not get it too."""
    if isolation_kind == "none" and mpi.name != "openmpi":
        pytest.skip("one MPI shows that runners find their own ranks without a namespace")
    # The launcher ends all ranks when the first has left: both say what they heard before that.
    body = "wait(); time.sleep(0.5); said('calls', str(calls)); time.sleep(1); sys.exit(1)"
    settings = {"customMpiSettings": {"commandLine": script(tmp_path, body), "processCount": 2}}
    with ExitStack() as stack:
        runners = gang(stack, tmp_path, {**settings, "environmentVariables": mpi.variables}, port)
        for rank in range(2):
            wait_for(tmp_path / f"up-{rank}")
        both = warn_all(runners)
    assert [outcome.result for outcome in both] == ["stopped"] * 2, both
    assert [(tmp_path / f"calls-{rank}").read_text() for rank in range(2)] == ["[12]"] * 2
    wait_gone(str(tmp_path))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="no PyTorch: pip install torch==2.13.0")
def test_ranks_of_torchrun_hear_it_once(tmp_path: Path, port: int) -> None:
    command = script(tmp_path, "wait(); time.sleep(0.5); said('calls', str(calls)); sys.exit(1)")
    job = {"torchrunSettings": {"pythonScriptFilePath": command.split()[-1], "processCount": 2,
                                "pythonInterpreterPath": sys.executable}}  # fmt: skip
    with ExitStack() as stack:
        runners = gang(stack, tmp_path, job, port)
        for rank in range(2):
            wait_for(tmp_path / f"up-{rank}", 90.0)
        both = warn_all(runners)
    assert [outcome.result for outcome in both] == ["stopped"] * 2, both
    assert [(tmp_path / f"calls-{rank}").read_text() for rank in range(2)] == ["[12]"] * 2
