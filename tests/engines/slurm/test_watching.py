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

    def look(self) -> list[watching.Event]:
        return asyncio.run(self.watching.look())


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
    places.write(bench.root.ticket("b").claim, "51")
    bench.site.lines = [line("50", "a"), line("51", "b"), line("52", "b", "PENDING")]
    bench.look()
    assert (first.job, second.job) == ("50", "51")


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
