"""``trainshed engine bootstrap`` before any host is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainshed.cli.main import run
from trainshed.engines import kinds
from trainshed.engines.slurm.bootstrap.ssh import Ssh


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["toy", "team", "--hosts", "a"], "cannot be set up from here; those that can: slurm"),
        (["none", "team", "--hosts", "a"], "no kind of engine called 'none'"),
        (["slurm", "local", "--hosts", "a"], "own engine"),
        (["slurm", "team", "--hosts", "a,a"], "named twice"),
        (["slurm", "team", "--hosts", "-x"], "is no host"),
        (["slurm", "team", "--hosts", "a", "--low-partition", "main"], "another name"),
    ],
)
def test_what_is_wrong_is_said_at_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.setitem(kinds._MODULES, "toy", "tests.support.engine_kind")
    monkeypatch.setenv("TRAINSHED_HOME", str(tmp_path / "home"))
    assert run(["engine", "bootstrap", *arguments, "--directory", "/shared"]) == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


def test_ssh_asks_nobody_and_is_told_no_secret() -> None:
    argv = Ssh("ann", 2222, ("IdentityFile=/key",)).argv("a", "echo 'x'")
    assert argv[:2] == ["ssh", "-oBatchMode=yes"] and "-oIdentityFile=/key" in argv
    assert argv[-5:] == ["-l", "ann", "--", "a", "sudo -n sh -c 'echo '\"'\"'x'\"'\"''"]
    assert argv[argv.index("-p") + 1] == "2222"
