"""A job on one node: environment, files, exit codes, time limits, stops."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.runner.harness import SEGMENT, Runner, custom, make_spec, marked, run, stdouterr, wait_for, wait_gone
from trainshed.runner import code, outcome

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("isolation_kind")]

#: A process that detaches twice, ignores SIGTERM, and stays.
DETACH = (
    "python3 -c 'import os,signal,time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "if os.fork(): os._exit(0)\n"
    "os.setsid()\n"
    "if os.fork(): os._exit(0)\n"
    'open(os.environ["AZ_BATCHAI_JOB_TEMP"] + "/detached", "w").write("yes")\n'
    "time.sleep(600)'"
)


def test_success_is_durable_and_logged(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, custom("echo out; echo err >&2"))
    result = run(spec)
    assert (result.result, result.exit_code, result.reason) == ("succeeded", 0, None)
    assert (stdouterr(tmp_path) / "stdout.txt").read_text() == "out\n"
    assert (stdouterr(tmp_path) / "stderr.txt").read_text() == "err\n"
    assert "ended with exit code 0" in (stdouterr(tmp_path) / "execution.log").read_text()
    assert outcome.read(spec.directories.state) == result


def test_running_is_reported_first(tmp_path: Path) -> None:
    with Runner(make_spec(tmp_path, custom("true"))) as runner:
        assert runner.message() == {"running": True}


@pytest.mark.parametrize(("command", "code"), [("exit 3", 3), ("kill -KILL $$", 137), ("no-such-program-xyz", 127)])
def test_exit_codes(tmp_path: Path, command: str, code: int) -> None:
    result = run(make_spec(tmp_path, custom(command)))
    assert (result.result, result.exit_code) == ("failed", code)
    assert result.reason is not None
    assert (result.reason["code"], result.reason["text"]) == ("JobFailed", "Job failed with non-zero exit code")


def test_environment_is_behaviour_7(tmp_path: Path) -> None:
    properties = custom(
        "env -0 > $AZ_BATCHAI_JOB_TEMP/env; pwd > $AZ_BATCHAI_JOB_TEMP/pwd",
        environmentVariables=[
            {"name": "MINE", "value": "$AZ_BATCHAI_INPUT_DATA-$NOT_DEFINED-${AZ_BATCHAI_NUM_GPUS}"},
            {"name": "PATH", "value": "/extra:$PATH"},
        ],
        secrets=[{"name": "KEY"}],
        inputDirectories=[{"id": "DATA", "path": "$AZ_BATCHAI_MOUNT_ROOT/data"}],
        outputDirectories=[{"id": "MODEL", "pathPrefix": "$AZ_BATCHAI_MOUNT_ROOT", "pathSuffix": "m"}],
    )
    run(make_spec(tmp_path, properties, gpu_devices=("0,2",)), {"KEY": "a$b"})
    temp = tmp_path / "n0/jobs/ws/exp/job"
    environment = dict(pair.split("=", 1) for pair in (temp / "env").read_text().split("\0") if pair)
    mounts = str(tmp_path / "mounts")
    expected = {
        "AZ_BATCHAI_MOUNT_ROOT": mounts,
        "AZ_BATCHAI_JOB_TEMP": str(temp),
        "AZ_BATCHAI_JOB_TEMP_DIR": str(tmp_path / "n0/jobs"),
        "AZ_BATCHAI_JOB_MOUNT_ROOT": f"{temp}/mounts",
        "AZ_BATCHAI_SHARED_JOB_TEMP": f"{temp}/shared",
        "AZ_BATCHAI_STDOUTERR_DIR": f"{mounts}/logs/{SEGMENT}/stdouterr",
        "AZ_BATCHAI_MPI_HOST_FILE": f"{temp}/hostfile",
        "AZ_BATCHAI_INPUT_DATA": f"{mounts}/data",
        "AZ_BATCHAI_OUTPUT_MODEL": f"{mounts}/{SEGMENT}/outputs/m",
        "AZ_BATCHAI_PREV_OUTPUT_MODEL": "",
        "AZ_BATCHAI_NUM_GPUS": "0",
        "AZ_BATCH_HOST_LIST": "127.0.77.4",
        "CUDA_VISIBLE_DEVICES": "0,2",
        "ROCR_VISIBLE_DEVICES": "0,2",
        "HIP_VISIBLE_DEVICES": "0,2",
        "PYTHONUNBUFFERED": "1",
        "TRAINSHED_ATTEMPT": "1",
        "TRAINSHED_JOB_ID": "uid",
        "MINE": f"{mounts}/data--0",
        "KEY": "a$b",
        "PATH": f"/extra:{os.environ['PATH']}",
        "HOME": os.environ["HOME"],
    }
    assert {name: environment.get(name) for name in expected} == expected
    assert (temp / "pwd").read_text() == f"{temp}\n"
    assert Path(environment["AZ_BATCHAI_OUTPUT_MODEL"]).is_dir()
    assert (temp / "hostfile").read_text() == "127.0.77.4 slots=1 max_slots=2\n"


def test_the_service_s_own_variables_stay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINSHED_TOKEN", "of the service")
    run(make_spec(tmp_path, custom("env")))
    assert "of the service" not in (stdouterr(tmp_path) / "stdout.txt").read_text()


def test_second_attempt_sees_former_output_and_appends(tmp_path: Path) -> None:
    properties = custom(
        'echo "prev=$AZ_BATCHAI_PREV_OUTPUT_M"', outputDirectories=[{"id": "M", "pathPrefix": "$AZ_BATCHAI_MOUNT_ROOT"}]
    )
    run(make_spec(tmp_path, properties))
    run(make_spec(tmp_path, properties, attempt_number=2))
    text = (stdouterr(tmp_path) / "stdout.txt").read_text()
    assert text == f"prev=\nprev={tmp_path}/mounts/{SEGMENT}/outputs\n"


def test_preparation_runs_first_and_bashrc_reaches_the_job(tmp_path: Path) -> None:
    properties = custom(
        'echo "$FROM_PREPARATION"',
        jobPreparation={"commandLine": "echo prep; echo 'FROM_PREPARATION=seen' >> ~/.bashrc"},
    )
    assert run(make_spec(tmp_path, properties)).result == "succeeded"
    assert (stdouterr(tmp_path) / "stdout-job_prep.txt").read_text() == "prep\n"
    assert (stdouterr(tmp_path) / "stdout.txt").read_text() == "seen\n"


def test_failed_preparation(tmp_path: Path) -> None:
    properties = custom("echo never", jobPreparation={"commandLine": "exit 9"})
    result = run(make_spec(tmp_path, properties))
    assert (result.result, result.exit_code) == ("failed", 9)
    assert result.reason is not None
    assert result.reason["code"] == "JobPreparationFailed"
    assert result.reason["text"] == "Job preparation task failed with non-zero exit code"
    assert result.reason["details"]["node"] == "node-0"
    assert not (stdouterr(tmp_path) / "stdout.txt").exists()


def test_wall_clock(tmp_path: Path) -> None:
    result = run(make_spec(tmp_path, custom("sleep 600"), wall_clock_seconds=0.3))
    assert (result.result, result.exit_code) == ("failed", None)
    assert result.reason is not None
    assert result.reason["code"] == "JobMaxWallClockTimeExceeded"


def test_stop_signals_first(tmp_path: Path) -> None:
    command = (
        "trap 'echo asked to stop; exit 0' TERM; echo ready > $AZ_BATCHAI_JOB_TEMP/ready; while :; do sleep 0.05; done"
    )
    with Runner(make_spec(tmp_path, custom(command))) as runner:
        wait_for(tmp_path / "n0/jobs/ws/exp/job/ready")
        runner.stop(grace=20.0)
        result = runner.outcome(10.0)
    assert (result.result, result.reason and result.reason["code"]) == ("stopped", "JobTerminated")
    assert "asked to stop" in (stdouterr(tmp_path) / "stdout.txt").read_text()


def test_stop_ends_a_detached_process_that_ignores_sigterm(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, custom(f"{DETACH}; sleep 600"), attempt_id=f"stop-{tmp_path.name}-{os.getpid()}")
    with Runner(spec) as runner:
        wait_for(tmp_path / "n0/jobs/ws/exp/job/detached")
        assert marked(f"TRAINSHED_ATTEMPT_ID={spec.attempt_id}")
        runner.stop(grace=0.2)
        assert runner.outcome(10.0).result == "stopped"
    assert marked(f"TRAINSHED_ATTEMPT_ID={spec.attempt_id}") == []


def test_what_a_finished_job_leaves_behind_dies(tmp_path: Path) -> None:
    command = f"{DETACH}; while [ ! -e $AZ_BATCHAI_JOB_TEMP/detached ]; do sleep 0.01; done"
    spec = make_spec(tmp_path, custom(command), attempt_id=f"left-{tmp_path.name}-{os.getpid()}")
    assert run(spec).result == "succeeded"
    assert marked(f"TRAINSHED_ATTEMPT_ID={spec.attempt_id}") == []


def test_parent_s_death_kills_everything_and_reports_nothing(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, custom(f"{DETACH}; sleep 600"), attempt_id=f"eof-{tmp_path.name}-{os.getpid()}")
    with Runner(spec) as runner:
        wait_for(tmp_path / "n0/jobs/ws/exp/job/detached")
        runner.line.close()
        runner.wait_exit()
    assert marked(f"TRAINSHED_ATTEMPT_ID={spec.attempt_id}") == []
    assert outcome.read(spec.directories.state) is None


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text("a file, not a directory")
    result = run(make_spec(tmp_path, custom("true")))
    assert result.result == "failed"
    assert result.reason is not None
    assert result.reason["code"] == "JobDirectoryError"
    assert "stdOutErrPathPrefix" in result.reason["text"]
    assert str(tmp_path / "mounts") in result.reason["text"]


def test_next_job_finds_the_node_wiped(tmp_path: Path) -> None:
    run(make_spec(tmp_path, custom("echo x > $AZ_BATCHAI_JOB_TEMP_DIR/left; ln -s / $AZ_BATCHAI_JOB_TEMP_DIR/root")))
    assert (tmp_path / "n0/jobs/left").exists()
    run(make_spec(tmp_path, custom("ls $AZ_BATCHAI_JOB_TEMP_DIR"), attempt_id="attempt-2"))
    assert (stdouterr(tmp_path) / "stdout.txt").read_text() == "ws\n"


def test_secrets_stay_out_of_the_runner_s_files(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, custom("exit 1", secrets=[{"name": "KEY"}]))
    run(spec, {"KEY": "hunter2-hunter2"})
    texts = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert texts
    assert not any(b"hunter2" in text for text in texts)
    assert "secret-token" not in json.dumps(json.loads(spec.to_json()))


def test_runner_killed_kills_the_job(tmp_path: Path, isolation_kind: str) -> None:
    # Without a PID namespace the direct child dies by its parent-death signal; its parent ends the rest.
    command = (
        f"{DETACH}; sleep 600"
        if isolation_kind == "namespaces"
        else "echo y > $AZ_BATCHAI_JOB_TEMP/detached; exec sleep 600"
    )
    spec = make_spec(tmp_path, custom(command), attempt_id=f"kill-{tmp_path.name}-{os.getpid()}")
    with Runner(spec) as runner:
        wait_for(tmp_path / "n0/jobs/ws/exp/job/detached")
        os.kill(runner.pid, signal.SIGKILL)
        runner.wait_exit()
    wait_gone(f"TRAINSHED_ATTEMPT_ID={spec.attempt_id}", 10.0)


def test_account_s_bashrc_is_left_alone(tmp_path: Path, isolation_kind: str) -> None:
    if isolation_kind == "none":
        pytest.skip("needs a mount namespace: without one, preparation writes the account's file itself")
    bashrc = tmp_path / "home" / ".bashrc"
    bashrc.write_text("echo the account's\n")
    run(make_spec(tmp_path, custom("true", jobPreparation={"commandLine": "echo X=1 >> ~/.bashrc"})))
    assert bashrc.read_text() == "echo the account's\n"


def test_code_becomes_the_working_directory(tmp_path: Path) -> None:
    content = b"print('from the snapshot')\n"
    digest = hashlib.sha256(content).hexdigest()
    blob = Path(code.blob_path(str(tmp_path / "store"), digest))
    blob.parent.mkdir(parents=True)
    blob.write_bytes(content)
    manifest = {"pkg/train.py": {"sha256": digest, "mode": 0o755}}
    job = custom("python3 pkg/train.py; pwd; echo changed > pkg/train.py")
    result = run(make_spec(tmp_path, job, code_store=str(tmp_path / "store"), code_manifest=manifest))
    assert result.result == "succeeded"
    expected = f"from the snapshot\n{tmp_path}/n0/jobs/ws/exp/job/code\n"
    assert (stdouterr(tmp_path) / "stdout.txt").read_text() == expected
    assert blob.read_bytes() == content


def test_damaged_code_is_refused(tmp_path: Path) -> None:
    blob = Path(code.blob_path(str(tmp_path / "store"), "ab" * 32))
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"other content")
    manifest = {"train.py": {"sha256": "ab" * 32, "mode": 0o644}}
    result = run(make_spec(tmp_path, custom("true"), code_store=str(tmp_path / "store"), code_manifest=manifest))
    assert result.reason is not None
    assert result.reason["code"] == "JobCodeUnavailable"
    assert "train.py" in result.reason["text"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_without_privileges() -> None:
    # Folders of pytest are closed to other accounts.
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o777)
        with Runner(make_spec(root, custom(f"{DETACH}; id -u; exit 4"), attempt_id=folder), uid=65534) as runner:
            assert runner.outcome().exit_code == 4
        assert (stdouterr(root) / "stdout.txt").read_text() == "65534\n"
        assert marked(f"TRAINSHED_ATTEMPT_ID={folder}") == []


def test_mounted_file_systems_are_not_wiped(tmp_path: Path, isolation_kind: str) -> None:
    if isolation_kind == "none":
        pytest.skip("needs a mount namespace")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("keep")
    point = tmp_path / "n0/jobs/a b"
    point.mkdir(parents=True)
    command = f"mount --bind '{precious}' '{point}' && exec {sys.executable} -m trainshed.runner '{tmp_path}/spec.json'"
    (tmp_path / "spec.json").write_text(make_spec(tmp_path, custom("true")).to_json())
    subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", command], input="{}\n", text=True, timeout=30
    )
    final = outcome.read(str(tmp_path / "n0/state"))
    assert final is not None
    assert final.reason is not None
    assert final.reason["code"] == "JobDirectoryError"
    assert "still mounted" in final.reason["text"]
    assert (precious / "file").read_text() == "keep"


def test_jobs_on_one_machine_have_pids_of_their_own(tmp_path: Path) -> None:
    """Programs name files in /tmp by PID; jobs of equal nodes would meet there."""
    pids = set()
    for job in ("first", "second"):
        root = tmp_path / job
        assert run(make_spec(root, custom("echo $$"))).result == "succeeded"
        pids.add((stdouterr(root) / "stdout.txt").read_text())
    # One in 30000 times they are the same.
    assert len(pids) == 2
