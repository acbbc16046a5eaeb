"""``trainshed run`` against a real service: code goes along, output comes back, the exit code passes, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.support.live_service import LiveService
from tests.support.machine import needs_namespaces
from tests.support.program import PATIENCE, Program

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ON_C = ("-c", "c")


def test_run_passes_output_and_exit_code(trainshed: Program) -> None:
    done = trainshed("run", *ON_C, "--name", "run-five", "--", "sh", "-c", "echo out; echo err >&2; exit 5")
    assert (done.code, done.out) == (5, "out\n")
    assert "err\n" in done.err
    assert "job run-five failed with exit code 5" in done.err


@needs_namespaces
def test_run_makes_what_is_missing(trainshed: Program) -> None:
    where = ("-w", "fresh", "-e", "first")
    done = trainshed.ok("run", *where, "-s", "STANDARD_D1", "-n", "2", "--toolkit", "custom", "--", "hostname")
    assert "made the workspace fresh" in done.err
    assert "made the experiment first" in done.err
    assert "made cluster default-standard_d1: 2 nodes" in done.err
    # The node's host name: an underscore is not for host names.
    assert done.out == "default-standard-d1-1\n"
    trainshed.ok("workspace", "delete", "-n", "fresh", "-y")


def test_run_sends_code_but_for_what_is_ignored(trainshed: Program) -> None:
    files = {
        ".gitignore": "*.bin\n/data/\n!keep.bin\n",
        "train.py": "import os\nfor at, _, names in os.walk('.'):\n"
        "    for name in names:\n        print(os.path.relpath(os.path.join(at, name)))\n",
        "weights.bin": "x",
        "keep.bin": "x",
        "data/images.txt": "x",
        "package/__init__.py": "",
        "package/deep.bin": "x",
        ".git/config": "x",
    }
    for name, text in files.items():
        path = trainshed.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    done = trainshed.ok("run", *ON_C, "--name", "run-code", "--", "python", "train.py")
    assert sorted(done.out.split()) == [".gitignore", "keep.bin", "package/__init__.py", "train.py"]
    assert "sent 4 of 4 files" in done.err
    # An ignore file of our own takes the place of git's.
    (trainshed.folder / ".trainshedignore").write_text("*.bin\n")
    done = trainshed.ok("run", *ON_C, "--name", "run-code-2", "--", "python", "train.py")
    assert "data/images.txt" in done.out.split()
    assert "keep.bin" not in done.out.split()


def test_run_downloads_what_the_job_made(trainshed: Program) -> None:
    command = ("--", "sh -c 'echo made > $AZ_BATCHAI_OUTPUT_OUTPUT/result.txt'")
    trainshed.ok("run", *ON_C, "--name", "run-made", "--no-code", "--download", "got", *command)
    assert (trainshed.folder / "got" / "result.txt").read_text() == "made\n"


def test_run_gives_environment_and_secrets(trainshed: Program) -> None:
    done = trainshed.ok(
        "run", *ON_C, "--name", "run-env", "--no-code", "--env", "A=1 2", "--secret", "S=hush", "--",
        "sh", "-c", 'echo "$A $S"',
    )  # fmt: skip
    assert done.out == "1 2 hush\n"
    shown = trainshed.ok("job", "show", "-n", "run-env", "-o", "json")
    assert "hush" not in shown.out
    assert shown.json["properties"]["secrets"] == [{"name": "S"}]


def test_detached_from_the_start(trainshed: Program) -> None:
    done = trainshed.ok("run", *ON_C, "--no-code", "--detach", "--", "true")
    assert trainshed.ok("job", "wait", "-n", done.out.strip(), "--interval", "0.1").code == 0


def running_for_ever(trainshed: Program, name: str) -> subprocess.Popen[str]:
    """A ``run`` whose job has said its first word."""
    process = trainshed.start("run", *ON_C, "--name", name, "--no-code", "--", "sh", "-c", "echo started; sleep 1000")
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    return process


def until_told(process: subprocess.Popen[str], wanted: str) -> None:
    """Read standard error up to a line that holds the words; fails when it ends before."""
    assert process.stderr is not None
    for line in process.stderr:
        if wanted in line:
            return
    raise AssertionError(f"it never said {wanted!r}")


def test_interrupted_once_the_job_goes_on(trainshed: Program, shared_service: LiveService) -> None:
    with running_for_ever(trainshed, "run-on") as process:
        try:
            os.kill(process.pid, signal.SIGINT)
            until_told(process, "Come back with: trainshed job logs -f run-on")
            assert process.wait(PATIENCE) == 130
        finally:
            process.kill()
    job = shared_service.client.jobs.get("run-on")
    assert job.execution_state.value == "running"
    trainshed.ok("job", "terminate", "-n", "run-on", "-y")


def test_interrupted_twice_the_job_ends(trainshed: Program, shared_service: LiveService) -> None:
    with running_for_ever(trainshed, "run-off") as process:
        try:
            os.kill(process.pid, signal.SIGINT)
            until_told(process, "Ctrl-C again")
            os.kill(process.pid, signal.SIGINT)
            until_told(process, "terminating job run-off")
            assert process.wait(PATIENCE) == 130
        finally:
            process.kill()
    job = shared_service.client.jobs.wait("run-off", interval=0.1, timeout=PATIENCE)
    assert [problem.code for problem in job.errors] == ["JobTerminated"]
