"""``python -m trainshed.runner SPECFILE``."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from tests.runner.harness import custom, make_spec, stdouterr, wait_for
from trainshed.runner import outcome


def start(tmp_path: Path, command: str) -> subprocess.Popen[str]:
    spec = tmp_path / "spec.json"
    spec.write_text(make_spec(tmp_path, custom(command, secrets=[{"name": "KEY"}])).to_json())
    arguments = [sys.executable, "-m", "trainshed.runner", str(spec)]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write(json.dumps({"secrets": {"KEY": "value"}, "token": ""}) + "\n")
    process.stdin.close()
    return process


def test_secrets_come_on_standard_input_and_the_exit_code_is_the_job_s(tmp_path: Path) -> None:
    process = start(tmp_path, "echo $KEY; exit 3")
    assert process.wait(30) == 3
    assert (stdouterr(tmp_path) / "stdout.txt").read_text() == "value\n"


def test_sigterm_stops_the_job(tmp_path: Path) -> None:
    process = start(tmp_path, "echo y > $AZ_BATCHAI_JOB_TEMP/up; sleep 600")
    wait_for(tmp_path / "n0/jobs/ws/exp/job/up")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 1
    final = outcome.read(str(tmp_path / "n0/state"))
    assert final is not None
    assert final.result == "stopped"
