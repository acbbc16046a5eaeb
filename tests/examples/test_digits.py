"""The examples as a user runs them: job file and code through the command line, result checked."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live_service import LiveService

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    live = LiveService(tmp_path_factory.mktemp("examples") / "home").start()
    try:
        live.make_cluster()
        yield live
    finally:
        live.stop()
        assert live.marked() == []


def trainshed(service: LiveService, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TRAINSHED_HOME": str(service.home)}
    return subprocess.run(
        [sys.executable, "-m", "trainshed", *arguments],
        env=environment,
        text=True,
        capture_output=True,
        timeout=110,
        check=False,
    )


@pytest.mark.parametrize(
    ("example", "needs", "model"),
    [("digits-mpi", "mpi4py", "digits.npz"), ("digits-pytorch", "torch", "digits.pt")],
)
def test_trains_on_two_nodes(service: LiveService, tmp_path: Path, example: str, needs: str, model: str) -> None:
    if importlib.util.find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed: pip install 'trainshed[{'demo' if needs == 'mpi4py' else 'pytorch'}]'")
    folder = EXAMPLES / example
    made = trainshed(
        service, "job", "create", "-n", example, "-c", "c", "-f", str(folder / "job.json"), "--code", str(folder)
    )
    assert made.returncode == 0, made.stderr
    waited = trainshed(service, "job", "wait", "-n", example)
    logs = trainshed(service, "job", "logs", "-n", example)
    assert waited.returncode == 0, (
        waited.stderr + logs.stdout + trainshed(service, "job", "logs", "-n", example, "--stderr").stdout
    )
    accuracy = re.search(r"final test accuracy ([0-9.]+)", logs.stdout)
    assert accuracy is not None and float(accuracy[1]) >= 0.95
    done = trainshed(service, "job", "files", "download", "-n", example, "-d", "MODEL", "--to", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / model).stat().st_size > 1000
