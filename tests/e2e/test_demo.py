"""``make demo``'s program, from an empty home to nothing left."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.leftovers import look_until_nothing

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo.py"


def test_the_main_job_end_to_end(tmp_path: Path) -> None:
    pytest.importorskip("mpi4py", reason="the demo trains under MPI: pip install 'trainshed[demo]'")
    home = tmp_path / "demo"
    namespaces = named_namespaces()
    done = subprocess.run(
        [sys.executable, str(DEMO)],
        # A token and a home of somebody else's service must not lead the demo astray.
        env={**os.environ, "TRAINSHED_DEMO_HOME": str(home), "TRAINSHED_URL": "http://127.0.0.1:9"},
        text=True,
        capture_output=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    accuracy = re.search(r"test accuracy of the downloaded model: ([0-9.]+)", done.stdout)
    assert accuracy is not None and float(accuracy[1]) >= 0.95
    model, logs = (re.search(rf"^ +{what} +(/.+)$", done.stdout, re.MULTILINE) for what in ("model", "logs"))
    assert model is not None and Path(model[1]).is_file()
    assert logs is not None and (Path(logs[1]) / "stdout.txt").is_file()
    assert not (home / "service.json").exists()
    assert not look_until_nothing(home)
    assert named_namespaces() <= namespaces


def named_namespaces() -> set[str]:
    """Network namespaces that outlive processes, because they have a name (ip-netns(8))."""
    return {path.name for path in Path("/run/netns").glob("*")}
