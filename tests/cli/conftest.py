"""Fixtures: the command line in this process, and a stub service that it finds through the environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.client.stub_service import TOKEN, StubService, running_stub
from trainshed.cli.main import run


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of its own and no service; a working directory of its own."""
    for name in ("URL", "TOKEN", "OUTPUT", "RESOURCE_GROUP", "WORKSPACE", "EXPERIMENT", "SUBSCRIPTION"):
        monkeypatch.delenv(f"TRAINSHED_{name}", raising=False)
    for name in ("ACCOUNT", "KEY"):
        monkeypatch.delenv(f"AZURE_BATCHAI_STORAGE_{name}", raising=False)
    home = tmp_path / "user"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TRAINSHED_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "110")
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.fixture
def trainshed(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Call ``trainshed`` with arguments."""

    def call(*arguments: str) -> Result:
        capfdbinary.readouterr()
        code = run(arguments)
        out, err = capfdbinary.readouterr()
        return Result(code, out.decode(), err.decode())

    return call


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubService]:
    with running_stub() as service:
        monkeypatch.setenv("TRAINSHED_URL", service.url)
        monkeypatch.setenv("TRAINSHED_TOKEN", TOKEN)
        yield service
