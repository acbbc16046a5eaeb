"""What nodes fetch: an archive is kept for as long as a job of Slurm's may want it."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainshed.engines.slurm.delivery import archive_digest, archive_of, pack
from trainshed.engines.slurm.node.places import Places
from trainshed.engines.slurm.records import Records, TicketRecord

OLD, OLDER = "0" * 64, "1" * 64


@pytest.fixture
def root(tmp_path: Path) -> Places:
    """An engine's directory with archives of three versions."""
    root = Places(tmp_path / "engine")
    root.make()
    pack(root)
    for archive in (OLD, OLDER):
        archive_of(root, archive).write_text("archive")
    return root


def ticket(root: Places, name: str, *archives: str, token: str = "t0ken") -> TicketRecord:
    root.ticket(name).folder.mkdir()
    return TicketRecord(name, "job", "cluster", [], token=token, archives=list(archives))


def kept(root: Places) -> set[str]:
    return {path.name.removesuffix(".tar.xz") for path in root.runners.iterdir()}


def test_it_goes_with_the_last_job_that_may_fetch_it(root: Places) -> None:
    records = Records(root)
    # What a renewed service submitted once more may run with either.
    tickets = [ticket(root, "a", OLD), ticket(root, "b", OLDER, OLD), ticket(root, "c", archive_digest())]
    for one in tickets:
        records.keep(one)
    records.drop(tickets[0])
    assert kept(root) == {OLD, OLDER, archive_digest()}
    records.drop(tickets[1])
    assert kept(root) == {archive_digest()}
    records.drop(tickets[2])
    assert kept(root) == {archive_digest()}, "the next job wants it"


def test_a_start_removes_what_no_job_may_fetch(root: Places) -> None:
    (root.runners / f".{OLD}.77").write_text("begun")
    Records(root).keep(ticket(root, "a", OLD))
    again = Records(root)
    again.load()
    assert again.tickets["a"].archives == [OLD]
    assert kept(root) == {OLD}


def test_jobs_of_a_version_that_kept_no_account_keep_all(root: Places) -> None:
    Records(root).keep(ticket(root, "a"))
    Records(root).load()
    assert kept(root) == {OLD, OLDER, archive_digest()}
