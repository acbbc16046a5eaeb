"""Containers that docker's engine builds: a real engine, with everything that it keeps in the test's own folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runner.harness import BOUND, Runner, custom, make_spec, run, stdouterr, wait_for
from tests.runner.test_stranger import view_of
from tests.support.containers import root_file_system
from trainshed.runner.containers import cgroups, choice

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start an engine"),
    pytest.mark.skipif(not shutil.which("dockerd"), reason="no dockerd (apt-get install docker.io)"),
    pytest.mark.usefixtures("namespaces", "engine"),
]
IMAGE = {"imageSourceRegistry": {"image": "plain"}, "shmSize": "32m"}


@pytest.fixture(scope="module")
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("docker")
    place = f"unix://{folder}/sock"
    group = f"trainshed-tests-{os.getpid()}"
    arguments = [
        "unshare", "--mount", "--propagation=private",
        "dockerd", f"--data-root={folder}/data", f"--exec-root={folder}/run", f"--host={place}",
        f"--pidfile={folder}/pid", "--iptables=false", "--bridge=none", f"--cgroup-parent=/{group}",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        engine = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 60
        while subprocess.run(["docker", "-H", place, "version"], capture_output=True).returncode != 0:
            assert engine.poll() is None, (folder / "log").read_text()[-2000:]
            assert time.monotonic() < until, "the engine does not answer"
        archive = root_file_system()
        subprocess.run(
            ["docker", "-H", place, "import", "--change=ENV COLOUR=green", "-", "plain"],
            input=archive,
            check=True,
            capture_output=True,
        )
        yield place
    finally:
        engine.send_signal(signal.SIGTERM)
        engine.wait(30)
        cgroups.remove(f"/{group}")


@pytest.fixture
def engine(socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", socket_path)
    monkeypatch.setenv(choice.VARIABLE, "docker")


def containers() -> str:
    return subprocess.run(["docker", "ps", "-aq"], capture_output=True, text=True, check=True).stdout


def test_preparation_and_job_share_a_container(tmp_path: Path) -> None:
    spec = make_spec(
        tmp_path,
        custom(
            "cat /prepared; echo $COLOUR; df /dev/shm | tail -1; cat /etc/hosts; ps -ef | wc -l; pwd; exit 7",
            jobPreparation={"commandLine": "echo prepared > /prepared"},
            containerSettings=IMAGE,
        ),
    )
    outcome = run(spec)
    assert outcome.exit_code == 7, (outcome, [path.read_text() for path in stdouterr(tmp_path).glob("std*")])
    said = (stdouterr(tmp_path) / "stdout.txt").read_text().splitlines()
    assert said[:2] == ["prepared", "green"]
    assert said[2].split()[1] == str(32 << 10)
    assert "127.0.77.4\tnode-0" in said
    assert int(said[-2]) < 10
    assert said[-1].startswith(str(tmp_path))
    assert containers() == ""


def test_absent_image(tmp_path: Path) -> None:
    absent = {"imageSourceRegistry": {"image": "127.0.0.1:9/a:1"}}
    outcome = run(make_spec(tmp_path, custom("true", containerSettings=absent)))
    assert outcome.reason is not None
    assert outcome.reason["code"] == "FailedStartingContainer"
    assert "registry cannot be reached" in outcome.reason["text"]


def test_a_user_of_its_own_is_refused(tmp_path: Path) -> None:
    for folder in ("mounts", "n0/jobs"):
        (tmp_path / folder).mkdir(parents=True)
    outcome = run(make_spec(tmp_path, custom("true", containerSettings=IMAGE), view=view_of(tmp_path)))
    assert outcome.reason is not None
    assert "Install podman" in outcome.reason["text"]


def test_nothing_outlives_a_killed_runner(tmp_path: Path) -> None:
    marker = tmp_path / "mounts/begun"
    command = f"(setsid sleep 4711 &) ; echo begun > {marker}; sleep 4712"
    with Runner(make_spec(tmp_path, custom(command, containerSettings=IMAGE))) as runner:
        wait_for(marker)
        os.kill(runner.pid, signal.SIGKILL)
    until = time.monotonic() + BOUND
    while any(b"sleep\x00471" in line for line in command_lines()):
        assert time.monotonic() < until, "the job's processes live"
    while containers():
        assert time.monotonic() < until, "the container is still there"


def command_lines() -> list[bytes]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:
            continue
    return found
