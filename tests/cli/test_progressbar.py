"""The progress bar: on a terminal it is drawn on standard error and taken away again, elsewhere it is not there."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

SCRIPT = """
from trainshed.cli.progressbar import ProgressBar
with ProgressBar() as bar:
    for had in (0, 50, 100):
        bar.show("model[1].bin", had, 100)
print("done")
"""


def test_nothing_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    from trainshed.cli.progressbar import ProgressBar

    with ProgressBar() as bar:
        bar.show("model.bin", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_drawn_on_standard_error_alone() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=theirs, env=environment, check=True, timeout=30
    )
    os.close(theirs)
    drawn = os.read(ours, 65536).decode()
    os.close(ours)
    assert done.stdout == b"done\n"
    assert "model[1].bin" in drawn and "100/100 bytes" in drawn
