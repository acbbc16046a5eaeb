"""Python command lines, run by a real bash."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from trainshed.toolkits import PlanError
from trainshed.toolkits.python import python_command


def _run(settings: dict[str, Any], environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["/bin/bash", "-c", python_command(settings)], env=environment, capture_output=True, text=True, timeout=30
    )
    return done.stdout + done.stderr


@pytest.fixture
def interpreters(tmp_path: Path) -> Path:
    for name in ("python", "python3", "my python"):
        (tmp_path / name).write_text(f'#!/bin/bash\necho "{name}|$(printf "%s|" "$@")"\n')
        (tmp_path / name).chmod(0o755)
    return tmp_path


def test_python_of_the_path_is_preferred(interpreters: Path) -> None:
    assert _run({"pythonScriptFilePath": "a.py"}, {"PATH": str(interpreters)}) == "python|a.py|\n"


def test_python3_where_there_is_no_python(interpreters: Path) -> None:
    (interpreters / "python").unlink()
    assert _run({"pythonScriptFilePath": "a.py"}, {"PATH": str(interpreters)}) == "python3|a.py|\n"


def test_neither_is_said_plainly(tmp_path: Path) -> None:
    assert "python: command not found" in _run({"pythonScriptFilePath": "a.py"}, {"PATH": str(tmp_path)})


def test_paths_keep_spaces_and_arguments_are_bashs(interpreters: Path) -> None:
    settings = {
        "pythonInterpreterPath": "$BIN/my python",
        "pythonScriptFilePath": '$DIR/a "b" `c` $(d).py',
        "commandLineArgs": "--x $X --y '$X' $(echo 1)",
    }
    said = _run(settings, {"BIN": str(interpreters), "DIR": "/with space", "X": "a b", "PATH": "/usr/bin:/bin"})
    assert said == 'my python|/with space/a "b" `c` $(d).py|--x|a|b|--y|$X|1|\n'


def test_a_script_is_needed() -> None:
    with pytest.raises(PlanError, match="pythonScriptFilePath"):
        python_command({})
