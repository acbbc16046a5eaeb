"""What is submitted together, and what becomes of it when Slurm refuses that or does not answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.engines.lab import cluster_spec, gang_spec
from tests.engines.slurm.laboratory import settings
from trainshed.engines.protocol import GangResult, GangSpec, GangStatus
from trainshed.engines.slurm.commands import Refused, Unsure
from trainshed.engines.slurm.handing import Handing
from trainshed.engines.slurm.node import places
from trainshed.engines.slurm.node.places import Places
from trainshed.engines.slurm.orders import Cluster, SetupSecrets
from trainshed.engines.slurm.owners import Owner
from trainshed.engines.slurm.records import Records
from trainshed.resources.reasons import Reason, ReasonCode

SPEC = cluster_spec()


class SiteDouble:
    """Stands in for ``site.Site``: takes what is submitted, unless ``refuse`` says no to its arguments."""

    def __init__(self) -> None:
        self.taken: list[list[str]] = []
        self.refuse: Any = lambda arguments: None

    async def submit(self, arguments: list[str], script: str, user: Owner | None = None, token: str = "") -> str:
        self.taken.append(arguments)
        if (error := self.refuse(arguments)) is not None:
            raise error
        return str(100 + len(self.taken))

    @property
    def sizes(self) -> list[int]:
        """Elements of each submission; 0 for a single job."""
        arrays = (next((a for a in one if a.startswith("--array=0-")), "--array=0--1") for one in self.taken)
        return [int(text.removeprefix("--array=0-")) + 1 for text in arrays]


class Bench:
    """Hands over to the double."""

    def __init__(self, folder: Path, **given: str) -> None:
        self.root, self.site = Places(folder / "shared"), SiteDouble()
        self.root.make()
        self.records = Records(self.root)
        self.handing = Handing(self.root, self.records, self.site, settings(folder, **given), "mark")  # type: ignore[arg-type]

    def hand_over(self, gangs: Sequence[GangSpec]) -> list[GangStatus | None]:
        async def all_of_them() -> list[GangStatus | None]:
            start, cluster = self.handing.start, Cluster.of(SPEC)
            return await asyncio.gather(
                *(start(gang, cluster, SetupSecrets(), {}, None, at) for at, gang in enumerate(gangs))
            )

        return asyncio.run(all_of_them())

    def jobs(self) -> list[str]:
        return sorted(ticket.job for ticket in self.records.tickets.values())


def gangs(count: int, nodes: int = 1, **members: Any) -> list[GangSpec]:
    made = [gang_spec("true", ("any",) * nodes, SPEC) for _ in range(count)]
    return [replace(gang, node_ids=(), node_count=nodes, **members) for gang in made]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_hundred_that_are_alike_are_a_few_arrays(bench: Bench) -> None:
    assert bench.hand_over(gangs(100)) == [None] * 100
    assert sum(max(size, 1) for size in bench.site.sizes) == 100 and len(bench.site.taken) <= 20
    assert len(set(bench.jobs())) == 100 and all(bench.jobs())


def test_they_keep_the_order_in_which_they_were_handed_over(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the first is the last to be written down."""
    given, put_down, others = gangs(3), Handing._put_down, threading.Semaphore(0)

    def late(handing: Handing, gang: GangSpec, *more: Any) -> Any:
        for _ in given[1:] if gang is given[0] else ():
            assert others.acquire(timeout=10)
        done = put_down(handing, gang, *more)
        others.release()
        return done

    monkeypatch.setattr(Handing, "_put_down", late)
    bench.hand_over(given)
    tickets = [bench.records.tickets[gang.attempt_id] for gang in given]
    assert bench.site.sizes == [3] and [ticket.index for ticket in tickets] == [0, 1, 2]
    assert [ticket.entry for ticket in tickets] == sorted(ticket.entry for ticket in tickets)


def test_what_wants_something_else_of_slurm_is_apart(bench: Bench) -> None:
    bench.hand_over([*gangs(2), *gangs(2, priority=-1000), *gangs(2, nodes=2), *gangs(1, wall_clock_seconds=60.0)])
    assert sorted(bench.site.sizes) == [0, 2, 2, 2]


def test_an_array_is_not_larger_than_the_site_takes(bench: Bench) -> None:
    bench.handing.learn({"MaxArraySize": "3"})
    bench.hand_over(gangs(6))
    assert max(bench.site.sizes) in (2, 3)


@pytest.mark.parametrize("given", [{"arrays": "no"}, {}])
def test_where_there_are_no_arrays(tmp_path: Path, given: dict[str, str]) -> None:
    bench = Bench(tmp_path, **given)
    bench.handing.learn({"MaxArraySize": "0"})
    bench.hand_over(gangs(3))
    assert bench.site.sizes == [0, 0, 0]


def test_what_a_site_refuses_as_an_array_is_submitted_one_by_one(bench: Bench) -> None:
    """Each gets its own answer."""
    given = gangs(3)

    def refuse(arguments: list[str]) -> Refused | None:
        if any(a.startswith("--array") for a in arguments) or f"--job-name={given[1].job}" in arguments:
            return Refused("Invalid partition name specified")
        return None

    bench.site.refuse = refuse
    ended = [status for status in bench.hand_over(given) if status is not None]
    assert [(status.attempt_id, status.result) for status in ended] == [(given[1].attempt_id, GangResult.FAILED)]
    assert [job for job in bench.jobs() if job and "_" not in job] == [j for j in bench.jobs() if j]
    # What is over is not to be taken by another job that is alike.
    assert places.claimant(bench.root.ticket(given[1].attempt_id).claim)[0] == places.NOBODY
    assert list(bench.root.arrays.iterdir()) == []


def test_an_answer_that_does_not_come_leaves_them_to_be_found(bench: Bench) -> None:
    bench.site.refuse = lambda arguments: Unsure(Reason(ReasonCode.ENGINE_UNAVAILABLE, "no answer", {}))
    given = gangs(2)
    bench.handing.learn({})
    assert bench.hand_over(given) == [None, None]
    tickets = [bench.records.tickets[gang.attempt_id] for gang in given]
    assert {ticket.job for ticket in tickets} == {""} and bench.handing.submitting == set()
    again = Records(bench.root)
    again.load()
    found = {(t.array, t.index) for t in again.tickets.values()}
    assert found == {(t.array, t.index) for t in tickets}


def test_what_was_taken_meanwhile_is_not_submitted(bench: Bench) -> None:
    first, second = gangs(2)
    bench.hand_over([first])
    real = bench.records.wait

    def taken_at_once(ticket: Any) -> None:
        real(ticket)
        places.claim(bench.root.ticket(ticket.ticket).claim, "101", first.attempt_id)

    bench.records.wait = taken_at_once  # type: ignore[method-assign]
    bench.hand_over([second])
    assert len(bench.site.taken) == 1


def test_those_that_come_one_after_another_wait_for_a_submission_that_is_under_way(bench: Bench) -> None:
    """The first goes at once. Others that are alike, which come meanwhile, go together; what is not, does not wait."""
    first, *others = gangs(4)
    (apart,) = gangs(1, priority=-1000)
    answers = asyncio.Event()
    real = bench.site.submit

    async def slow(arguments: list[str], *rest: Any) -> str:
        taken = asyncio.create_task(real(arguments, *rest))
        if len(bench.site.taken) == 0 and not any(a.startswith("--nice") for a in arguments):
            await answers.wait()
        return await taken

    bench.site.submit = slow  # type: ignore[method-assign]
    given: list[str] = []
    to_submit = bench.handing.submit

    async def noting(ticket: Any) -> GangStatus | None:
        given.append(ticket.ticket)
        return await to_submit(ticket)

    bench.handing.submit = noting  # type: ignore[method-assign]

    async def one_by_one() -> None:
        cluster = Cluster.of(SPEC)
        going = []
        for at, gang in enumerate((first, *others)):
            going.append(asyncio.create_task(bench.handing.start(gang, cluster, SetupSecrets(), {}, None, at)))
            while len(given) <= at or not bench.site.taken:  # noqa: ASYNC110 - threads do not tell
                await asyncio.sleep(0.01)
        await bench.handing.start(apart, cluster, SetupSecrets(), {}, None, 9)
        assert bench.site.sizes == [0, 0]
        answers.set()
        await asyncio.gather(*going)

    asyncio.run(one_by_one())
    assert bench.site.sizes == [0, 0, 3]
