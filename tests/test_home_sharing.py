"""Who may hold a home: one process alone, or those of one database together."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainshed import home_sharing
from trainshed.home_sharing import ForeignHome, Members, home_id, one_of_several, require_own
from trainshed.service_home import AlreadyRunning, only_service_of, prepare_home

_OTHER = """
import sys
from pathlib import Path
from trainshed.home_sharing import one_of_several
with one_of_several(Path(sys.argv[1]), sys.argv[2], lambda: print("alone", flush=True)):
    print("in", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    prepare_home(tmp_path / "home")
    return tmp_path / "home"


@contextlib.contextmanager
def _another(home: Path, database: str) -> Iterator[list[str]]:
    """A process that holds the home; what it said."""
    command = [sys.executable, "-c", _OTHER, str(home), database]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said = []
        while (line := process.stdout.readline().strip()) and line != "in":
            said.append(line)
        try:
            yield said
        finally:
            process.stdin.close()


def test_processes_of_one_database_share_it_and_know_whether_they_are_alone(home: Path) -> None:
    alone: list[int] = []
    with one_of_several(home, "d", lambda: alone.append(1)) as members:
        with members.alone() as first:
            assert first
        with _another(home, "d") as said:
            assert said == []
            with members.alone() as second:
                assert not second
        with members.alone() as third:
            assert third
    assert alone == [1]


def test_who_comes_when_all_have_left_is_alone_also_on_another_database(home: Path) -> None:
    with _another(home, "d") as said:
        assert said == ["alone"]
    with _another(home, "e") as said:
        assert said == ["alone"]


def test_no_service_on_another_database_may_join(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with _another(home, "d"):
        with pytest.raises(AlreadyRunning, match="another database"), one_of_several(home, "e", lambda: None):
            pass
        with pytest.raises(AlreadyRunning), only_service_of(home):
            pass
        # Neither attempt has disturbed those that are there.
        with _another(home, "d") as said:
            assert said == []


def test_a_service_that_has_the_home_for_itself_keeps_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_sharing, "_STARTING", 0.1)
    with only_service_of(home):
        with pytest.raises(AlreadyRunning, match="for itself"), one_of_several(home, "d", lambda: None):
            pass


def test_without_others_one_is_alone() -> None:
    with Members().alone() as alone:
        assert alone


def test_a_home_has_a_name_that_stays(home: Path, tmp_path: Path) -> None:
    name = home_id(home)
    assert name == home_id(home)
    require_own(home, name, name)
    prepare_home(tmp_path / "other")
    with pytest.raises(ForeignHome, match=rf"echo {name} > .*/other/home\.id"):
        require_own(tmp_path / "other", home_id(tmp_path / "other"), name)
