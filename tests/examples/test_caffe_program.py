"""The ``caffe`` program of examples/digits-caffe refuses what it cannot do before it loads Caffe."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "digits-caffe" / "caffe"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "the following arguments are required: command"),
        (["test", "-model", "m"], "unrecognized arguments: -model m"),
        (["time"], "there is no command time here; only train is known"),
        (["train"], "train needs a solver: --solver FILE"),
        (["train", "-solver", "none.prototxt"], "there is no file none.prototxt"),
        (["train", "--solver=here.prototxt", "-gpu", "all"], "-gpu is not possible here"),
        (["train", "--solver", "here.prototxt", "-snapshot=s", "-weights=w"], "not both"),
        (["train", "--solver", "here.prototxt", "--weights", "here.prototxt,w"], "there is no file w"),
    ],
)
def test_says_why_and_exits_1(tmp_path: Path, arguments: list[str], reason: str) -> None:
    (tmp_path / "here.prototxt").touch()
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("caffe: ") and reason in done.stderr
