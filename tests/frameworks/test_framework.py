"""How the installer of the frameworks finds an old CPython, and what it says when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frameworks.framework import CannotInstall, Framework, find_python


@pytest.fixture
def pyenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty pyenv, and no Python of another place on the PATH."""
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "pyenv"


def program(path: Path, text: str = "#!/bin/sh\nexit 0\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_the_newest_release_of_pyenv_is_taken(pyenv: Path) -> None:
    for release in ("3.6.9", "3.6.15", "3.60.1"):
        program(pyenv / "versions" / release / "bin" / "python3.6")
    assert find_python("3.6") == pyenv / "versions" / "3.6.15" / "bin" / "python3.6"


def test_else_the_one_on_the_path_is_taken(pyenv: Path, tmp_path: Path) -> None:
    found = program(tmp_path / "bin" / "python3.9")
    assert find_python("3.9") == found


def test_one_that_does_not_work_is_none(pyenv: Path, tmp_path: Path) -> None:
    program(tmp_path / "bin" / "python3.6", "#!/bin/sh\nexit 127\n")
    with pytest.raises(CannotInstall, match=r"no CPython 3\.6 \(pyenv install 3\.6\)"):
        find_python("3.6")


def test_an_environment_with_another_interpreter_is_another_one() -> None:
    today, old = (Framework("some", ("some==1",), "pass", python=version) for version in ("", "3.6"))
    assert today.fingerprint() != old.fingerprint()
    assert Framework("some", (), "pass", variables=(("PATH", "{folder}/bin:$PATH"),)).environment == {
        "PATH": f"{today.folder}/bin:$PATH"
    }
