"""Slurm's commands as processes: what they get, what they say, how they fail."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from trainshed.engines.protocol import EngineUnavailable
from trainshed.engines.slurm.commands import Commands, Refused, Unsure
from trainshed.engines.slurm.owners import Owner


def test_one_that_reads_its_input_gets_all_of_it() -> None:
    text = "a line of the script\n" * 20_000
    assert asyncio.run(Commands("", 30.0).run("cat", stdin=text)) == text


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_one_that_ends_without_reading_its_input_is_judged_by_its_own_words(loop: str) -> None:
    """The service runs on uvloop, where writing to it would be an error of the loop."""
    factory = asyncio.new_event_loop if loop == "asyncio" else pytest.importorskip("uvloop").new_event_loop
    command = (sys.executable, "-c", "import sys; sys.exit('no such partition')")
    with asyncio.Runner(loop_factory=factory) as runner, pytest.raises(Refused, match="no such partition"):
        runner.run(Commands("", 30.0).run(*command, stdin="#!/bin/bash\n" * 100_000))


def test_over_ssh_a_user_s_commands_are_run_by_a_login_of_that_user(tmp_path: Path) -> None:
    """With a double of ssh, which prints what it was to do."""
    (tmp_path / "ssh").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "ssh").chmod(0o755)
    commands = Commands("svc@login", 30.0, {"PATH": f"{tmp_path}:/bin"})
    ann = Owner("ann", 2001, 2001, "/home/ann")
    said = [asyncio.run(commands.run("scancel", "5", user=user)).split() for user in (None, ann)]
    assert [words[-4:] for words in said] == [["svc@login", "--", "scancel", "5"], ["ann@login", "--", "scancel", "5"]]


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_one_that_takes_too_long_is_killed_and_nothing_is_left(loop: str, tmp_path: Path) -> None:
    factory = asyncio.new_event_loop if loop == "asyncio" else pytest.importorskip("uvloop").new_event_loop
    number, before = tmp_path / "number", len(list(Path("/proc/self/fd").iterdir()))
    with asyncio.Runner(loop_factory=factory) as runner, pytest.raises(Unsure, match="did not answer within 2 s"):
        runner.run(Commands("", 2.0).run("sh", "-c", f"echo $$ > {number}; exec sleep 1000"))
    assert not Path("/proc", number.read_text().strip()).exists()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_one_that_is_not_installed_makes_the_site_away() -> None:
    with pytest.raises(EngineUnavailable, match="no-such-command cannot be started"):
        asyncio.run(Commands("", 30.0, {"PATH": "/bin"}).run("no-such-command"))
