"""Help, usage errors, and what the groups hold."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Run


def test_help_lists_every_command(trainshed: Run) -> None:
    result = trainshed("--help")
    assert result.code == 0
    commands = "run job cluster experiment file-server workspace group storage usage serve status doctor completion"
    for command in commands.split():
        assert f"\n  {command} " in result.out


@pytest.mark.parametrize(
    ("group", "commands"),
    [
        ("workspace", "create show list delete"),
        ("experiment", "create show list delete"),
        ("cluster", "create show list delete resize auto-scale node file"),
        ("file-server", "create show list delete"),
        ("group", "create show list delete"),
        ("storage", "create show list keys delete"),
        ("usage", "list"),
        ("job", "create show list delete terminate preempt wait explain events logs files node"),
    ],
)
def test_groups_hold_their_commands_and_each_has_help(trainshed: Run, group: str, commands: str) -> None:
    assert trainshed(group, "--help").code == 0
    for command in commands.split():
        assert trainshed(group, command, "--help").code == 0


@pytest.mark.parametrize("spelling", ["file", "files"])
@pytest.mark.parametrize("command", ["list", "stream", "download"])
def test_both_spellings_of_files_work(trainshed: Run, spelling: str, command: str) -> None:
    result = trainshed("job", spelling, command, "--help")
    assert result.code == 0
    assert "--job" in result.out


def test_a_slip_is_answered_with_the_nearest_command(trainshed: Run) -> None:
    result = trainshed("jbo")
    assert result.code == 2
    assert "Did you mean 'job'?" in result.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["job", "show"], "the job's name is missing"),
        (["job", "show", "a", "-n", "b"], "two names for one job"),
        (["job", "list", "-o", "xml"], "'xml' is not one of"),
        (["cluster", "resize", "c", "-t", "101"], "0<=x<=100"),
        (["cluster", "auto-scale", "c", "--min", "0", "--max", "2", "--idle-time", "soon"], "give it as 90s, 15m"),
        (["cluster", "auto-scale", "c", "--min", "3", "--max", "2"], "--min 3 is more than --max 2"),
        (["group", "show"], "the resource group's name is missing"),
        (["file-server", "create", "f"], "which disks?"),
        (["file-server", "create", "f", "--disk-count", "0"], "1<=x<=64"),
        (["run"], "Missing argument"),
        (["run", "--time-limit", "soon", "--", "true"], "give it as 90s, 15m, 2h"),
        (["run", "--secret", "NOT_SET_HERE", "--", "true"], "has no value"),
        (["run", "--env", "NOT_SET_HERE", "--", "true"], "is not set"),
    ],
)
def test_wrong_usage_exits_2_and_says_what_is_wrong(trainshed: Run, arguments: list[str], said: str) -> None:
    result = trainshed(*arguments)
    assert result.code == 2
    assert said in result.err


def test_version_is_said_in_two_ways(trainshed: Run) -> None:
    assert trainshed("--version").out.startswith("trainshed ")
    assert "Python" in trainshed("version").out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_program(trainshed: Run, shell: str) -> None:
    result = trainshed("completion", shell)
    assert result.code == 0
    assert "_TRAINSHED_COMPLETE" in result.out
