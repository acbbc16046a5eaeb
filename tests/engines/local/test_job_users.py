"""When jobs run as users of their own, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainshed.engines.local import doctor, job_users
from trainshed.engines.local.job_users import CannotIsolate, JobUsers, Mode, is_loopback, last_told
from trainshed.resources.users import JobUser, UserRange

USERS = UserRange(1900003000, 1900003009)
FIRST = JobUser(1900003000, 1900003001)


@pytest.fixture
def possible(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that permits it."""
    monkeypatch.setattr(job_users, "hindrance", lambda users: "")


@pytest.fixture
def impossible(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that does not."""
    monkeypatch.setattr(job_users, "hindrance", lambda users: "the service is not root; run it as root")


@pytest.mark.usefixtures("possible")
@pytest.mark.parametrize(
    ("mode", "host", "several", "expected"),
    [
        (Mode.AUTO, "127.0.0.1", False, None),
        (Mode.AUTO, "::1", False, None),
        (Mode.AUTO, "localhost", False, None),
        (Mode.AUTO, "127.0.0.1", True, FIRST),
        (Mode.AUTO, "0.0.0.0", False, FIRST),
        (Mode.AUTO, "::", False, FIRST),
        (Mode.AUTO, "train.example", False, FIRST),
        (Mode.ALWAYS, "127.0.0.1", False, FIRST),
        (Mode.NEVER, "127.0.0.1", False, None),
        (Mode.NEVER, "0.0.0.0", True, None),
    ],
)
def test_when(tmp_path: Path, mode: Mode, host: str, several: bool, expected: JobUser | None) -> None:
    assert JobUsers(tmp_path, mode, USERS, host).of(1, several_users=several) == expected


@pytest.mark.usefixtures("possible")
def test_once_strangers_always_strangers(tmp_path: Path) -> None:
    users = JobUsers(tmp_path, Mode.AUTO, USERS, "127.0.0.1")
    assert not users.in_force
    assert users.of(1, several_users=True) == FIRST
    assert users.of(1, several_users=False) == FIRST


@pytest.mark.usefixtures("impossible")
def test_always_refuses_to_start_where_it_cannot(tmp_path: Path) -> None:
    with pytest.raises(CannotIsolate, match="not root"):
        JobUsers(tmp_path, Mode.ALWAYS, USERS, "127.0.0.1")


@pytest.mark.usefixtures("impossible")
def test_where_it_cannot_it_warns_as_soon_as_it_should(tmp_path: Path) -> None:
    users = JobUsers(tmp_path, Mode.AUTO, USERS, "127.0.0.1")
    assert users.warning == ""
    assert users.of(1, several_users=True) is None
    assert "not root" in users.warning and "several users" in users.warning
    assert last_told(tmp_path) == (False, users.warning)


@pytest.mark.usefixtures("possible")
def test_never_with_others_warns(tmp_path: Path) -> None:
    assert "--isolate-jobs never" in JobUsers(tmp_path, Mode.NEVER, USERS, "0.0.0.0").warning


@pytest.mark.usefixtures("possible")
def test_the_doctor_tells_what_is_in_force(tmp_path: Path) -> None:
    users = JobUsers(tmp_path, Mode.AUTO, USERS, "127.0.0.1")
    assert _check(tmp_path).ok and "one user" in _check(tmp_path).detail
    users.of(1, several_users=True)
    assert _check(tmp_path).ok and str(USERS) in _check(tmp_path).detail


@pytest.mark.usefixtures("possible")
def test_the_doctor_finds_fault_with_never(tmp_path: Path) -> None:
    JobUsers(tmp_path, Mode.NEVER, USERS, "0.0.0.0")
    check = _check(tmp_path)
    assert not check.ok and check.needed and check.mend


def test_ids_that_do_not_exist_in_a_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = tmp_path / "uid_map"
    table.write_text("         0     100000      65536\n")
    real = open
    monkeypatch.setattr("builtins.open", lambda path, *a, **k: real(table if "_map" in str(path) else path, *a, **k))
    assert "do not exist in this container (its highest is 65535)" in job_users._mapped(USERS.first, USERS.last)
    assert job_users._mapped(2000, 3000) == ""


def test_loopback() -> None:
    assert [is_loopback(host) for host in ("127.8.9.1", "::1", "localhost", "10.0.0.1", "::", "box")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]


def _check(home: Path) -> doctor.Check:
    return next(check for check in doctor.capabilities(home) if check.name == "job users")
