"""Adding engines to a home and taking them away, by the command line; and what the service makes of the file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import engine_kind
from tests.support.factories import make_cluster, make_parents
from trainshed.cli.main import run
from trainshed.engines import kinds
from trainshed.engines.checks import Check
from trainshed.engines.kinds import Engines
from trainshed.engines.local.engine import LocalEngine
from trainshed.resources.engines import EngineDescription, InvalidEngines
from trainshed.service_home import load_engines
from trainshed.store.database import Database

pytestmark = pytest.mark.slow


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home, where engines of kind ``toy`` can be added."""
    monkeypatch.setitem(kinds._MODULES, "toy", "tests.support.engine_kind")
    monkeypatch.setenv("TRAINSHED_HOME", str(tmp_path / "home"))
    yield tmp_path / "home"


def test_an_engine_is_added_listed_shown_and_removed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["engine", "add", "toy", "hpc", "--directory", "/shared", "--size=3"]) == 0
    assert "started again" in capsys.readouterr().err
    written = json.loads((home / "engines.json").read_text())
    assert written == {"engines": {"hpc": {"kind": "toy", "settings": {"directory": "/shared", "size": "3"}}}}
    assert (home / "engines.json").stat().st_mode & 0o777 == 0o600
    assert run(["engine", "list"]) == 0
    assert capsys.readouterr().out == "local\nhpc  toy\n"
    assert run(["engine", "show", "hpc"]) == 0
    shown = capsys.readouterr().out
    assert "hpc: kind toy" in shown and "directory = /shared" in shown and "partition  which part of it" in shown
    assert run(["engine", "kinds"]) == 0
    assert "directory  where files are  [required]" in capsys.readouterr().out
    assert run(["engine", "add", "toy", "hpc", "--directory", "/elsewhere"]) == 0
    assert [engine.settings for engine in load_engines(home).described] == [{"directory": "/elsewhere"}]
    assert run(["engine", "remove", "hpc"]) == 0
    assert load_engines(home).described == ()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["add", "toy", "hpc"], "directory is missing"),
        (["add", "toy", "hpc", "--directory", "/x", "--colour", "red"], "colour is not known"),
        (["add", "toy", "hpc", "--directory", "/x", "--size", "contradictory"], "contradicts itself"),
        (["add", "toy", "local", "--directory", "/x"], "own engine"),
        (["add", "none", "hpc"], "no kind of engine called 'none'; there are: "),
        (["remove", "hpc"], "there is no engine 'hpc'"),
        (["remove", "local"], "cannot be removed"),
    ],
)
def test_what_is_wrong_changes_nothing(
    home: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["engine", *arguments]) == 1
    assert says in capsys.readouterr().err
    assert not (home / "engines.json").exists()


@pytest.mark.parametrize("settings", [["directory", "/x"], ["--directory"]])
def test_settings_have_a_form(home: Path, settings: list[str]) -> None:
    assert run(["engine", "add", "toy", "hpc", *settings]) == 2


def test_an_engine_that_clusters_use_stays(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["engine", "add", "toy", "hpc", "--directory", "/shared"]) == 0
    db = Database.open(f"sqlite:///{home / 'trainshed.db'}")
    try:
        db.write_sync(make_parents)
        db.write_sync(lambda tx: make_cluster(tx, engine={"name": "hpc"}))
    finally:
        db.close_sync()
    assert run(["engine", "remove", "hpc"]) == 1
    assert "clusters use engine 'hpc': default/c" in capsys.readouterr().err
    assert [engine.name for engine in load_engines(home).described] == ["hpc"]


def test_the_service_refuses_a_file_that_it_cannot_use(home: Path) -> None:
    home.mkdir()
    (home / "engines.json").write_text('{"engines": {"hpc": {"kind": "toy"}}}')
    with pytest.raises(InvalidEngines, match=r"engines\.json cannot be used: .*directory is missing"):
        load_engines(home)


def test_a_kind_whose_packages_are_missing_says_how_to_get_them(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = dataclasses.replace(engine_kind.KIND, packages=("no_such_package",), extra="toys")
    monkeypatch.setattr(engine_kind, "KIND", kind)
    with pytest.raises(InvalidEngines, match=r"pip install 'trainshed\[toys\]'"):
        kinds.check(EngineDescription("hpc", "toy", {"directory": "/x"}))


def test_without_others_the_service_has_its_own_alone(tmp_path: Path) -> None:
    assert isinstance(Engines().make(tmp_path), LocalEngine)
    assert list(Engines().traits) == ["local"]


def test_doctor_looks_at_engines_that_were_added(home: Path) -> None:
    engines = Engines((EngineDescription("hpc", "toy", {"directory": "/x"}),))
    assert engines.doctor(home) == [Check("hpc: directory", True, "/x")]


def test_files_of_a_cluster_are_found_where_its_engine_has_them(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engines = Engines((EngineDescription("hpc", "toy", {"directory": "/x"}),))
    find = engines.mount_root_of(home)
    own = LocalEngine(home).mount_root("uid")
    assert find("uid") == own
    there = home / "there"
    there.mkdir(parents=True)
    monkeypatch.setattr("tests.support.simulated_engine.SimulatedEngine.mount_root", lambda self, uid: str(there))
    assert find("uid") == str(there)
