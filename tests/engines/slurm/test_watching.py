"""What is concluded from Slurm's lists where a real site cannot be brought to show it at will."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.engines.slurm.laboratory import settings
from trainshed.engines.protocol import GangResult
from trainshed.engines.slurm import watching
from trainshed.engines.slurm.commands import Commands
from trainshed.engines.slurm.handing import Handing
from trainshed.engines.slurm.node import places
from trainshed.engines.slurm.node.places import Places
from trainshed.engines.slurm.owners import Owner, owner_of
from trainshed.engines.slurm.parsing import QueueLine
from trainshed.engines.slurm.records import AttemptRecord, Records, TicketRecord
from trainshed.engines.slurm.script import comment
from trainshed.engines.slurm.watching import Watching
from trainshed.runner import outcome
from trainshed.runner.spec import Outcome


class SiteDouble:
    """Stands in for ``site.Site``: lists what it is given, and notes what it is told to cancel."""

    def __init__(self) -> None:
        self.lines: list[QueueLine] = []
        self.cancelled: set[str] = set()
        self.by: dict[str, Owner | None] = {}

    async def queue(self, users: Collection[Owner] = (), *, ended: bool = False) -> list[QueueLine]:
        return self.lines

    async def ended(self, jobs: Collection[str]) -> dict[str, str]:
        return {}

    async def cancel(self, jobs: Collection[str], user: Owner | None = None) -> None:
        self.cancelled |= set(jobs)
        self.by |= dict.fromkeys(jobs, user)


class Bench:
    """Records of tickets ``a``, ``b`` ... with attempts of the same names, and what watches them."""

    def __init__(self, folder: Path) -> None:
        root = Places(folder / "shared")
        root.make()
        self.root, self.site, self.records = root, SiteDouble(), Records(root)
        handing = Handing(root, self.records, self.site, settings(folder), "mark")  # type: ignore[arg-type]
        self.watching = Watching(root, self.records, self.site, handing, "mark")  # type: ignore[arg-type]

    def ticket(self, name: str, job: str, *, attempt: bool = True) -> TicketRecord:
        root = self.root
        root.ticket(name).folder.mkdir()
        root.attempt(name).folder.mkdir()
        ticket = TicketRecord(name, f"uid-{name}", "cluster", [], job, name if attempt else "", 0)
        self.records.keep(ticket)
        places.write(root.ticket(name).order(0), {})
        if attempt:
            self.records.keep(AttemptRecord(name, name, 0, 1))
        return ticket

    def alike(self, *names: str, job: str = "7") -> list[TicketRecord]:
        """Tickets that wait, as the elements of one array; nobody has any of them."""
        tickets = [self.ticket(name, "") for name in names]
        for ticket in tickets:
            ticket.alike, ticket.entry = "same", f"0-{ticket.ticket}"
            self.records.keep(ticket)
            self.records.wait(ticket)
        self.records.keep_array("array-x", tickets, job)
        return tickets

    def take(self, name: str, job: str, of: str = "array-x") -> None:
        """As that job's first node does."""
        places.claim(self.root.ticket(name).claim, job, of)
        (self.root.waiting / "same" / f"0-{name}").unlink()

    def begin(self, job: str, name: str) -> None:
        """The same, of a job that begins."""
        places.claim(self.root.submission("array-x").carried(job), job, name)

    def succeed(self, name: str) -> None:
        """As its runner does."""
        state = self.root.attempt(name).state(0)
        state.mkdir()
        outcome.write(str(state), Outcome("succeeded", 0, ended_at=1))

    def look(self) -> list[watching.Event]:
        async def whole() -> list[watching.Event]:
            events = await self.watching.look()
            while self.watching.untidy:
                await self.watching.tidy()
            return events

        return asyncio.run(whole())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def line(job: str, ticket: str, state: str = "RUNNING", restarts: int = 0) -> QueueLine:
    return QueueLine(job, state, restarts, None, comment("mark", ticket) if ticket else "", "")


def test_a_number_given_out_again_is_not_the_former_job(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller that was killed may have forgotten its last jobs, and their numbers."""
    monkeypatch.setattr("trainshed.engines.slurm.verdict.OUTCOME_SECONDS", 0.0)
    bench.ticket("a", "42")
    bench.ticket("b", "42")
    bench.site.lines = [line("42", "b")]
    (ended,) = [event for event in bench.look() if event]
    assert (ended.attempt_id, ended.result) == ("a", GangResult.LOST)
    assert bench.records.seen["b"].running and bench.site.cancelled == set()


def test_a_second_job_of_one_ticket_is_cancelled(bench: Bench) -> None:
    bench.ticket("a", "42")
    bench.site.lines = [line("42", "a"), line("43", "a", "PENDING")]
    bench.look()
    assert bench.site.cancelled == {"43"}


def test_a_job_whose_number_was_lost_is_found_by_its_comment_or_its_claim(bench: Bench) -> None:
    first, second = bench.ticket("a", ""), bench.ticket("b", "")
    places.claim(bench.root.ticket("b").claim, "51", "b")
    bench.site.lines = [line("50", "a"), line("51", "b"), line("52", "b", "PENDING")]
    bench.look()
    assert (first.job, second.job) == ("50", "51")


def element(index: int, state: str = "PENDING", restarts: int = 0) -> QueueLine:
    return line(f"7_{index}", "array-x", state, restarts)


def test_a_ticket_belongs_to_the_job_that_took_it(bench: Bench) -> None:
    first, second = bench.alike("a", "b")
    bench.site.lines = [element(0, "RUNNING"), element(1)]
    bench.begin("7_0", "a")
    bench.take("a", "7_0")
    bench.look()
    assert (first.job, second.job) == ("7_0", "7_1") and bench.site.cancelled == set()
    bench.succeed("a")
    bench.take("b", "7_0")
    (ended,) = [event for event in bench.look() if event]
    assert (ended.attempt_id, ended.result) == ("a", GangResult.SUCCEEDED)
    # The other element has nothing to do, and does not begin any more.
    assert (second.job, bench.site.cancelled) == ("7_0", {"7_1"})
    assert places.claimant(bench.root.submission("array-x").carried("7_1"))[0] == places.NOBODY
    assert bench.records.seen["b"].running


def test_files_are_worth_a_look_while_a_job_may_take_what_waits(bench: Bench) -> None:
    """What it took may have ended long before Slurm is asked again."""
    bench.alike("a", "b", "c")
    bench.site.lines = [element(0), element(1), element(2)]
    bench.look()
    assert not bench.watching.active
    bench.site.lines = [element(0, "RUNNING"), element(1), element(2)]
    bench.take("a", "7_0")
    bench.look()
    bench.succeed("a")
    (ended,) = [event for event in asyncio.run(bench.watching.files()) if event]
    assert ended.attempt_id == "a" and bench.watching.active
    for name in ("b", "c"):
        bench.take(name, "7_0")
        bench.succeed(name)
    ends = [event.attempt_id for event in asyncio.run(bench.watching.files()) if event]
    assert ends == ["b", "c"] and not bench.watching.active


def test_an_element_that_has_begun_is_not_cancelled_over_a_ticket_that_another_has(bench: Bench) -> None:
    bench.alike("a", "b")
    bench.site.lines = [element(0, "RUNNING"), element(1)]
    bench.take("b", "7_0")
    # Slurm said that it waits, and it has begun since: with another one, perhaps.
    bench.begin("7_1", "a")
    bench.look()
    assert bench.site.cancelled == set()


def test_the_folder_of_a_job_that_has_begun_stays_when_another_did_its_work(bench: Bench) -> None:
    """It may have taken what nobody knows of yet, and take more."""
    (ticket,) = bench.alike("a")
    bench.ticket("b", "42")
    bench.take("a", "42", "b")
    bench.begin("7_0", "a")
    for name in ("a", "b"):
        bench.succeed(name)
    bench.site.lines = [line("42", "b"), element(0, "RUNNING")]
    assert len([event for event in bench.look() if event]) == 2 and ticket.job == "42"
    bench.site.lines = [element(0, "RUNNING")]
    bench.look()
    assert bench.records.tickets == {"a": ticket}
    assert bench.root.submission("array-x").folder.is_dir() and bench.site.cancelled == set()
    bench.site.lines = []
    bench.look()
    assert bench.records.tickets == {} and not bench.root.submission("array-x").folder.exists()


def test_a_requeued_job_s_next_run_is_for_what_it_had_taken(bench: Bench) -> None:
    first, second = bench.alike("a", "b")
    bench.begin("7_0", "a")
    for name in ("a", "b"):
        bench.take(name, "7_0")
    bench.succeed("a")
    bench.site.lines = [element(0, "PENDING", restarts=1)]
    ended = {event.attempt_id: event for event in bench.look() if event}
    assert ended["a"].result is GangResult.SUCCEEDED and not ended["a"].again
    assert ended["b"].again and (second.attempt, second.run, second.job) == ("", 1, "7_0")
    bench.look()
    assert bench.site.cancelled == set(), "nobody wants a to run again, and the job is b's"
    assert first.closed and bench.records.vacant_ticket("uid-b") is second


def test_a_job_that_was_requeued_before_it_began_keeps_its_ticket(bench: Bench) -> None:
    (ticket,) = bench.alike("a")
    bench.site.lines = [element(0, "PENDING", restarts=1)]
    (ended,) = [event for event in bench.look() if event]
    # Its order is of no attempt any more: nobody else may take it.
    assert ended.again and places.claimant(bench.root.ticket("a").claim) == ("7_0", "array-x")
    assert bench.records.entries("same") == set() and ticket.run == 1


@pytest.mark.parametrize("taken", [False, True])
def test_an_element_that_was_cancelled_while_it_waited(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    """Slurm forgets it at once, and shows the others."""
    monkeypatch.setattr("trainshed.engines.slurm.verdict.OUTCOME_SECONDS", 0.0)
    first, second = bench.alike("a", "b")
    bench.take("a", "7_0")
    bench.site.lines = [element(0, "RUNNING")]
    if taken:
        places.claim(bench.root.ticket("b").claim, "7_0", "array-x")
        assert [event for event in bench.look() if event] == []
        assert second.job == "7_0"
        return
    (ended,) = [event for event in bench.look() if event]
    assert (ended.attempt_id, ended.result) == ("b", GangResult.FAILED)
    assert ended.reason is not None and ended.reason.details["slurmState"] == "CANCELLED"
    assert places.claimant(bench.root.ticket("b").claim)[0] == places.NOBODY and first.job == "7_0"


def test_arrays_are_known_again_and_go_with_their_last_ticket(bench: Bench) -> None:
    bench.alike("a", "b")
    again = Records(bench.root)
    again.load()
    assert {name: (ticket.job, ticket.named) for name, ticket in again.tickets.items()} == {
        "a": ("7_0", "array-x"),
        "b": ("7_1", "array-x"),
    }
    folder = bench.root.submission("array-x").folder
    again.drop(again.tickets["a"])
    assert folder.is_dir()
    again.drop(again.tickets["b"])
    assert not folder.exists() and again.entries("same") == set()


def test_what_is_not_ours_is_left_alone(bench: Bench) -> None:
    bench.ticket("a", "42")
    bench.site.lines = [line("42", "a"), line("7", "", "PENDING"), line("8", "dropped", "PENDING")]
    bench.look()
    # Of a ticket that was dropped nothing may run.
    assert bench.site.cancelled == {"8"}


@pytest.mark.skipif(os.geteuid() != 0, reason="the service acts as others where it is root")
def test_each_user_s_jobs_are_ended_as_that_user_and_a_stranger_s_comment_counts_nothing(bench: Bench) -> None:
    games, backup = owner_of("games"), owner_of("backup")
    ticket, other = bench.ticket("a", "42"), bench.ticket("b", "50")
    ticket.owner, other.owner = asdict(games), asdict(backup)
    bench.site.lines = [
        replace(line("42", "a"), uid=games.uid),
        replace(line("43", "a", "PENDING"), uid=games.uid),
        replace(line("44", "a", "PENDING"), uid=backup.uid),
        replace(line("50", "b"), uid=backup.uid),
        replace(line("51", "b", "PENDING"), uid=backup.uid),
    ]
    bench.look()
    assert bench.site.by == {"43": games, "51": backup}


def test_a_requeued_job_that_is_not_taken_up_is_cancelled(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.ticket("a", "42", attempt=False)
    bench.site.lines = [line("42", "a", "PENDING", 1)]
    bench.look()
    assert bench.site.cancelled == set()
    monkeypatch.setattr(watching, "ADOPTION_SECONDS", 0.0)
    bench.look()
    assert bench.site.cancelled == {"42"}
    bench.site.lines = []
    bench.look()
    assert bench.records.tickets == {} and not bench.root.ticket("a").folder.exists()


def test_commands_get_nothing_of_the_service_s_environment_that_they_do_not_need() -> None:
    given = {
        "PATH": "/bin:/usr/bin",
        "SLURM_CONF": "/c",
        "SLURM_JOB_ID": "7",
        "SBATCH_ACCOUNT": "x",
        "TRAINSHED_URL": "y",
    }
    printed = asyncio.run(Commands("", 30.0, given).run("env"))
    assert set(printed.split()) == {"PATH=/bin:/usr/bin", "SLURM_CONF=/c"}


def test_a_stop_before_slurm_had_the_job_ends_it_for_good(bench: Bench) -> None:
    bench.ticket("a", "")
    bench.records.attempts["a"].stop = {"reason": {"code": "JobTerminated", "text": "x", "details": {}}, "until": 0.0}
    (ended,) = [event for event in bench.look() if event]
    assert ended.result is GangResult.STOPPED
    # A submission that comes late after all finds no ticket.
    assert bench.records.tickets == {} and not bench.root.ticket("a").folder.exists()
