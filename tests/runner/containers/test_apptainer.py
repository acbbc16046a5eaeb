"""Containers by apptainer's command line. apptainer itself cannot be had everywhere: this is a stand-in for it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.runner.harness import custom, make_spec, run, stdouterr
from trainshed.runner.containers import choice

pytestmark = pytest.mark.slow

DOUBLE = Path(__file__).with_name("apptainer_double.py")


@pytest.fixture(autouse=True)
def _double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "programs" / "apptainer"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {DOUBLE} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv(choice.VARIABLE, "apptainer")


def container(image: str) -> dict[str, Any]:
    return {"containerSettings": {"imageSourceRegistry": {"image": image, "credentials": {"username": "ann"}}}}


def calls(root: Path) -> list[dict[str, Any]]:
    [log] = root.glob("**/calls")
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_one_instance_for_preparation_and_job(tmp_path: Path, isolation_kind: str) -> None:
    command = custom("pwd; echo $NAME; exit 7", **container("a/b:1"))
    command |= {
        "jobPreparation": {"commandLine": "echo prepared"},
        "environmentVariables": [{"name": "NAME", "value": "x"}],
    }
    outcome = run(make_spec(tmp_path, command))
    assert outcome.exit_code == 7, outcome
    assert (stdouterr(tmp_path) / "stdout.txt").read_text() == f"{tmp_path}/n0/jobs/ws/exp/job\nx\n"
    assert (stdouterr(tmp_path) / "stdout-job_prep.txt").read_text() == "prepared\n"
    pull, start = calls(tmp_path)
    assert pull["arguments"][0] == "pull"
    assert pull["arguments"][-1] == "docker://docker.io/a/b:1"
    assert pull["user"] == "ann"
    assert start["arguments"][:2] == ["instance", "start"]
    assert f"--bind={tmp_path}/mounts:{tmp_path}/mounts" in start["arguments"]
    assert "made by apptainer" in (stdouterr(tmp_path) / "execution.log").read_text()


def test_absent_image(tmp_path: Path) -> None:
    outcome = run(make_spec(tmp_path, custom("true", **container("a/absent:1"))))
    assert outcome.reason is not None
    assert outcome.reason["code"] == "FailedStartingContainer"
    assert "no such image" in outcome.reason["text"]


def test_unknown_runtime_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choice.VARIABLE, "rkt")
    outcome = run(make_spec(tmp_path, custom("true", **container("a"))))
    assert outcome.reason is not None
    assert "TRAINSHED_CONTAINER_RUNTIME is 'rkt'" in outcome.reason["text"]


def test_no_runtime_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(choice.VARIABLE)
    monkeypatch.setattr("trainshed.runner.containers.executor.find", lambda program: None)
    outcome = run(make_spec(tmp_path, custom("true", **container("a"))))
    assert outcome.reason is not None
    assert "no container runtime" in outcome.reason["text"]
    assert "apt-get install podman runc" in outcome.reason["text"]
    assert outcome.reason["details"]["imageName"] == "a"
