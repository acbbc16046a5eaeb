"""Which ticket a job of Slurm's takes next."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from trainshed.engines.slurm.node import places, turns
from trainshed.engines.slurm.node.places import NOBODY, Places, Ticket
from trainshed.engines.slurm.node.turns import Turns


class Shared:
    """A shared directory with tickets that wait."""

    def __init__(self, root: Path) -> None:
        self.root = Places(root)
        self.root.make()
        self._count = 0

    def ticket(self, name: str, alike: str = "same") -> Ticket:
        """Written down, and waiting after those before."""
        ticket = self.root.ticket(name)
        ticket.folder.mkdir()
        self._count += 1
        entry = f"{self._count:020d}-{name}" if alike else ""
        places.write(ticket.order(0), {"alike": alike, "entry": entry})
        if alike:
            (self.root.waiting / alike).mkdir(exist_ok=True)
            (self.root.waiting / alike / entry).touch()
        return ticket

    def array(self, *names: str) -> Path:
        """Submitted as one array."""
        folder = self.root.submission("array-x").folder
        folder.mkdir()
        places.write(self.root.submission("array-x").elements, {"tickets": names, "alike": "same", "job": ""})
        return folder

    def waiting(self, alike: str = "same") -> list[str]:
        return sorted(path.name.partition("-")[2] for path in (self.root.waiting / alike).iterdir())


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    return Shared(tmp_path / "shared")


def job(folder: Path, index: int | None = None, *, number: str = "12", run: int = 0) -> Turns:
    """A job, or an element of an array, as it starts on its node."""
    slurm = {"SLURM_JOB_ID": number, "SLURM_RESTART_COUNT": str(run)}
    if index is not None:
        slurm |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": str(index)}
    return Turns(folder, slurm)


def begin(taking: Turns, take: Callable[[], Ticket | None]) -> str:
    """Name of the ticket that it takes, as ``job`` begins with it."""
    ticket = take()
    if ticket is None:
        return ""
    taking.begins(places.read(ticket.order(0)))
    return ticket.folder.name


def test_its_own_first_and_then_the_oldest_that_is_alike(shared: Shared) -> None:
    for name in ("a", "b", "c"):
        shared.ticket(name)
    other = shared.ticket("d", "other")
    taking = job(shared.root.ticket("b").folder)
    assert begin(taking, taking.first) == "b"
    assert shared.waiting() == ["a", "c"]
    assert [begin(taking, taking.following) for _ in range(3)] == ["a", "c", ""]
    assert places.claimant(shared.root.ticket("c").claim) == ("12", "b")
    assert shared.waiting() == [] and not other.claim.exists()


def test_two_elements_never_have_one_ticket(shared: Shared) -> None:
    for name in ("a", "b", "c"):
        shared.ticket(name)
    folder = shared.array("a", "b", "c")
    first = job(folder, 0)
    assert (begin(first, first.first), begin(first, first.following)) == ("a", "b")
    second, third = job(folder, 1), job(folder, 2)
    # Its own is taken, so it takes another; and the last one finds nothing.
    assert (begin(second, second.first), begin(third, third.first)) == ("c", "")
    assert places.claimant(shared.root.ticket("c").claim) == ("12_1", "array-x")


def test_what_is_taken_at_the_same_moment_is_the_others(shared: Shared) -> None:
    shared.ticket("a")
    shared.ticket("b")
    taking = job(shared.root.ticket("a").folder)
    assert begin(taking, taking.first) == "a"
    # Claimed, and its entry not removed yet.
    places.claim(shared.root.ticket("b").claim, "13", "b")
    assert begin(taking, taking.following) == "" and shared.waiting() == []


@pytest.mark.parametrize("why", ["is not wanted", "was given up", "is not alike"])
def test_nothing_to_take(shared: Shared, why: str) -> None:
    shared.ticket("a", "" if why == "is not alike" else "same")
    shared.ticket("b")
    folder = shared.root.ticket("a").folder
    if why == "is not wanted":
        places.claim(shared.root.submission("a").carried("12"), NOBODY)
    elif why == "was given up":
        shared.root.ticket("a").order(0).unlink()
        folder.rmdir()
    else:
        places.claim(shared.root.ticket("a").claim, "11", "a")
    assert job(folder).first() is None
    assert not shared.root.ticket("b").claim.exists()


def test_a_job_that_was_given_up_leaves_what_waits_to_others(shared: Shared) -> None:
    for name in ("a", "b", "c"):
        shared.ticket(name)
    folder = shared.root.ticket("a").folder
    places.claim(shared.root.ticket("a").claim, "11", "other")
    taking, other = job(folder), job(shared.root.ticket("c").folder, number="13")
    assert begin(taking, taking.first) == "b"
    shutil.rmtree(folder)
    assert taking.following() is None and shared.waiting() == ["c"]
    assert begin(other, other.first) == "c"


def test_only_in_its_first_seconds_and_only_in_its_first_run(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        shared.ticket(name)
    again = job(shared.root.ticket("a").folder, run=1)
    assert begin(again, again.first) == "a" and again.following() is None
    taking = job(shared.root.ticket("b").folder, number="13")
    assert begin(taking, taking.first) == "b"
    shared.ticket("c")
    monkeypatch.setattr(turns, "TAKING_SECONDS", 0.0)
    assert taking.following() is None


def test_a_later_run_goes_on_with_what_the_one_before_had(shared: Shared) -> None:
    for name in ("a", "b"):
        shared.ticket(name)
    folder = shared.array("a", "b")
    before = job(folder, 0)
    assert (begin(before, before.first), begin(before, before.following)) == ("a", "b")
    again = job(folder, 0, run=1)
    assert (ticket := again.first()) is not None and ticket.folder.name == "b"
    # The run before was cut off only later, and had gone on.
    shared.ticket("c")
    assert begin(before, before.following) == "c"
    assert again.still(ticket).folder.name == "c"


def test_a_later_run_has_nothing_where_the_one_before_had_nothing(shared: Shared) -> None:
    shared.ticket("a")
    folder = shared.array("a")
    places.claim(shared.root.ticket("a").claim, "11", "other")
    assert job(folder, 0).first() is None
    assert job(folder, 0, run=1).first() is None
    # One whose first run never came to its node is as new.
    shared.ticket("b")
    late = job(shared.root.ticket("b").folder, number="13", run=1)
    assert begin(late, late.first) == "b"


def test_one_of_many_stays_a_moment_for_the_next(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    shared.ticket("a")
    taking = job(shared.array("a"), 0)
    assert begin(taking, taking.first) == "a"
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            shared.ticket("b")

    monkeypatch.setattr("time.sleep", wait)
    assert begin(taking, taking.following) == "b" and len(waited) == 2
