"""What the engine keeps of each job of Slurm's (a ticket) and of each attempt, in memory and durably on disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainshed.engines.protocol import GangResult, GangStatus
from trainshed.engines.slurm.delivery import archive_digest, archive_of, drop_archives
from trainshed.engines.slurm.node import places
from trainshed.engines.slurm.node.places import NOBODY, AttemptFolder, Places, Ticket
from trainshed.engines.slurm.owners import Owner, acting_as
from trainshed.resources.reasons import Reason


@dataclass(slots=True)
class TicketRecord:
    """One job of Slurm's, from before it is submitted until Slurm and the service have both done with it."""

    ticket: str
    job_uid: str
    cluster_uid: str
    #: Arguments of its submission, which may have to be repeated.
    arguments: list[str]
    #: Slurm's number of the job that carries it out; empty until that is known. An own one, or one of a ticket that is
    #: alike and was done (see ``node.turns``).
    job: str = ""
    #: The attempt that its present run belongs to; empty while Slurm has queued it again and no attempt took it up.
    attempt: str = ""
    run: int = 0
    #: Attempts of earlier runs, whose folders a run that begins looks at.
    past: list[str] = field(default_factory=list)
    #: Nothing of it is to run any more.
    closed: bool = False
    #: With which its nodes call the service, where they share no file system with it.
    token: str = field(default="", repr=False)
    #: SHA-256 of the archives with which it was submitted, or may have been: its nodes fetch one of them.
    archives: list[str] = field(default_factory=list)
    #: What the comment of ``job`` names: the ticket itself, another one, or an array.
    of: str = ""
    #: The array that it was submitted in, if any, and its place there.
    array: str = ""
    index: int = 0
    #: What it is alike (``script.likeness``), and its entry there while it waits; empty where its own job alone has it.
    alike: str = ""
    entry: str = ""
    #: The Unix user that it runs as and whose its folders are (``Owner``); None: the service's own.
    owner: dict[str, Any] | None = None

    @property
    def submission(self) -> str:
        """What the comment of its own job names."""
        return self.array or self.ticket

    @property
    def named(self) -> str:
        """What the comment of the job that carries it out names."""
        return self.of or self.submission

    @property
    def user(self) -> Owner | None:
        """The same, as a value."""
        return Owner.from_json(self.owner)


@dataclass(slots=True)
class AttemptRecord:
    """One attempt."""

    attempt_id: str
    ticket: str
    run: int
    nodes: int
    #: ``{"reason", "until"}`` once a stop was asked for; ``until``: Unix seconds after which it is made to end.
    stop: dict[str, Any] | None = None
    #: How it ended: result, exit_code, reason, ended_at, container, again.
    final: dict[str, Any] | None = None


@dataclass(slots=True)
class Seen:
    """What was seen of an attempt that is alive. Not kept: the next look finds it again."""

    running: bool = False
    waiting: Reason | None = None
    started_at: int | None = None
    hosts: tuple[str, ...] = ()
    #: Monotonic seconds since which Slurm says that it is over while no outcome is to be seen.
    over_since: float | None = None


class Records:
    """All tickets and attempts. Methods that write block for a moment, and raise OSError."""

    def __init__(self, root: Places) -> None:
        self._root = root
        self.tickets: dict[str, TicketRecord] = {}
        self.attempts: dict[str, AttemptRecord] = {}
        self.seen: dict[str, Seen] = {}
        #: Monotonic seconds since which a ticket has no attempt.
        self.vacant: dict[str, float] = {}

    def load(self) -> None:
        """Read what an earlier service left, and remove what it had only begun to write."""
        for ticket_id, record in _kept(self._root.tickets):
            self.tickets[ticket_id] = TicketRecord(**record)
        for attempt_id, record in _kept(self._root.attempts):
            self.attempts[attempt_id] = AttemptRecord(**record)
            self.seen[attempt_id] = Seen()
        self._load_arrays()
        needed = self.attempts.keys() | {past for ticket in self.tickets.values() for past in ticket.past}
        jobs = self.tickets.keys() | {ticket.of for ticket in self.tickets.values()}
        for above, known in ((self._root.tickets, jobs), (self._root.attempts, needed)):
            for path in above.iterdir():
                if path.is_dir() and path.name not in known:
                    shutil.rmtree(path, ignore_errors=True)
        if all(ticket.archives or not ticket.token for ticket in self.tickets.values()):  # Else an earlier version's.
            drop_archives(self._root, {archive for ticket in self.tickets.values() for archive in ticket.archives})

    def _load_arrays(self) -> None:
        """What an array's own file says of its tickets is not kept with each of them."""
        for folder in sorted(self._root.arrays.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True):
            known = places.read(self._root.submission(folder.name).elements) or {"tickets": [], "job": ""}
            for index, ticket_id in enumerate(known["tickets"]):
                ticket = self.tickets.get(ticket_id)
                if ticket is not None and ticket.array in ("", folder.name):
                    self.submitted(ticket, folder.name, index, known["job"])
        for ticket in self.tickets.values():
            if ticket.entry:
                self.note_claim(ticket)
        for folder in self._root.arrays.iterdir():
            self._drop_submission(folder.name)
        for folder in self._root.waiting.iterdir():
            with suppress(OSError):  # Of an earlier version of the service, say: nothing is alike that any more.
                folder.rmdir()

    def submitted(self, ticket: TicketRecord, array: str, index: int, job: str) -> None:
        """It has this job of its own, an element of an array or not; no number: not known yet. In memory."""
        former, ticket.array, ticket.index = ticket.array, array, index
        if job and not ticket.job:
            ticket.job, ticket.of = f"{job}_{index}" if array else job, ticket.submission
        if former != array:
            self._drop_submission(former)

    def note_claim(self, ticket: TicketRecord) -> str:
        """Whose it is since somebody took it, perhaps another ticket's job; empty while nobody did. In memory."""
        job, of = places.claimant(self._root.ticket(ticket.ticket).claim)
        if job and job != NOBODY:
            ticket.job, ticket.of = job, of
        if job:
            self.leave(ticket)
        return job

    def keep_array(self, name: str, tickets: list[TicketRecord], job: str) -> None:
        """Remember them as elements of this array, durably."""
        submission = self._root.submission(name)
        submission.folder.mkdir(mode=0o700, exist_ok=True)
        known = {"tickets": [ticket.ticket for ticket in tickets], "alike": tickets[0].alike, "job": job}
        places.write(submission.elements, known, durable=True)
        for index, ticket in enumerate(tickets):
            self.submitted(ticket, name, index, job)

    def give_up_array(self, name: str, tickets: list[TicketRecord]) -> None:
        """It was refused."""
        for ticket in tickets:
            ticket.array = ""
        self._drop_submission(name)

    def wait(self, ticket: TicketRecord) -> None:
        """From now on any job that is alike may take it."""
        folder = self._root.waiting / ticket.alike
        folder.mkdir(mode=0o700, exist_ok=True)
        entry = folder / ticket.entry
        entry.touch(0o600)
        if self._root.ticket(ticket.ticket).claim.exists():
            # It was there before, and was taken.
            entry.unlink(missing_ok=True)

    def keep(self, record: TicketRecord | AttemptRecord, *, durable: bool = True) -> None:
        """Remember it; ``durable``: over a power cut too."""
        # Not ``asdict``, which copies what is in it: this is done several times a job.
        known = {name: getattr(record, name) for name in record.__slots__}
        if isinstance(record, TicketRecord):
            places.write(self._root.ticket(record.ticket).record, known, durable=durable)
            self.tickets[record.ticket] = record
        else:
            places.write(self._root.attempt(record.attempt_id).record, known, durable=durable)
            self.attempts[record.attempt_id] = record
            self.seen.setdefault(record.attempt_id, Seen())

    def vacant_ticket(self, job_uid: str) -> TicketRecord | None:
        """A job of Slurm's that was queued again and waits for the next attempt of this job."""
        fitting = (t for t in list(self.tickets.values()) if t.job_uid == job_uid and not t.attempt and not t.closed)
        return next(fitting, None)

    def drop_again(self, attempt_id: str) -> None:
        """What Slurm has queued again after this attempt is not wanted any more."""
        for ticket in list(self.tickets.values()):
            if not ticket.attempt and ticket.past[-1:] == [attempt_id]:
                self._close(ticket)

    def drop_of(self, cluster_uid: str) -> None:
        """The same for all of a cluster."""
        for ticket in list(self.tickets.values()):
            if not ticket.attempt and ticket.cluster_uid == cluster_uid:
                self._close(ticket)

    def _close(self, ticket: TicketRecord) -> None:
        ticket.closed = True
        self.keep(ticket)
        record = self.attempts.get(ticket.past[-1]) if ticket.past else None
        if record is not None and record.final is not None and record.final["again"]:
            record.final = {**record.final, "again": False}
            self.keep(record)

    def forget(self, attempt_ids: Iterable[str]) -> None:
        """Drop attempts that have ended. What a later run of the same job looks at stays until that is done."""
        for attempt_id in attempt_ids:
            self._forget(attempt_id)

    def _forget(self, attempt_id: str) -> None:
        record = self.attempts.pop(attempt_id, None)
        self.seen.pop(attempt_id, None)
        if record is None:
            return
        ticket = self.tickets.get(record.ticket)
        if ticket is not None and (attempt_id in ticket.past or ticket.attempt == attempt_id):
            with suppress(FileNotFoundError):
                self._root.attempt(attempt_id).record.unlink()
        else:
            self._remove(self._root.attempt(attempt_id))

    def drop(self, ticket: TicketRecord) -> None:
        """Slurm no longer has the job, and no attempt of it is alive: its files go."""
        self.tickets.pop(ticket.ticket, None)
        self.vacant.pop(ticket.ticket, None)
        self.leave(ticket)
        for name in {ticket.ticket, ticket.array, ticket.of}:
            self._drop_submission(name)
        with suppress(FileNotFoundError):
            self._root.ticket(ticket.ticket).record.unlink()
        for attempt_id in {*ticket.past, ticket.attempt} - {""} - self.attempts.keys():
            self._remove(self._root.attempt(attempt_id))
        self._drop_archives(ticket)

    def _drop_archives(self, ticket: TicketRecord) -> None:
        """Once no ticket needs them; this version's is that of the next one."""
        for archive in set(ticket.archives) - {archive_digest()}:
            if not any(archive in other.archives for other in list(self.tickets.values())):
                with suppress(OSError):
                    archive_of(self._root, archive).unlink()

    def _remove(self, what: Ticket | AttemptFolder) -> None:
        """The folder first: what is left without a record is removed at the next start."""
        shutil.rmtree(what.folder, ignore_errors=True)
        with suppress(FileNotFoundError):
            what.record.unlink()

    def owner(self, record: AttemptRecord) -> Owner | None:
        """Whose the folder of an attempt is."""
        ticket = self.tickets.get(record.ticket)
        return ticket.user if ticket is not None else None

    def leave(self, ticket: TicketRecord) -> None:
        """It waits for no job any more."""
        if ticket.entry:
            with suppress(OSError):
                (self._root.waiting / ticket.alike / ticket.entry).unlink(missing_ok=True)
            ticket.entry = ""

    def entries(self, alike: str) -> set[str]:
        """Of tickets that wait and are alike, as they are there now."""
        try:
            return set(os.listdir(self._root.waiting / alike))  # noqa: PTH208 - the listing is what asks the server
        except FileNotFoundError:
            return set()

    def _drop_submission(self, name: str) -> None:
        """Once no ticket needs its folder. A job that begins all the same finds nothing."""
        needed = any(name in (t.ticket, t.array, t.of) for t in list(self.tickets.values()))
        if name and not needed:
            shutil.rmtree(self._root.submission(name).folder, ignore_errors=True)

    def folder_of(self, attempt_id: str) -> AttemptFolder:
        """Its folder."""
        return self._root.attempt(attempt_id)

    def output(self, ticket: TicketRecord, limit: int = 4096) -> str:
        """The end of what the job's script and Slurm itself said."""
        path: Path = self._root.submission(ticket.named).output(ticket.job)
        with suppress(OSError), acting_as(ticket.user):
            return places.end_of(path, limit)
        return ""

    def status(self, record: AttemptRecord) -> GangStatus:
        """As the protocol has it."""
        seen = self.seen.get(record.attempt_id) or Seen()
        final = record.final
        if final is None:
            return GangStatus(record.attempt_id, waiting=seen.waiting, started_at=seen.started_at, hosts=seen.hosts)
        return GangStatus(
            record.attempt_id,
            result=GangResult(final["result"]),
            exit_code=final["exit_code"],
            reason=Reason.from_json(final["reason"]) if final["reason"] else None,
            ended_at=final["ended_at"],
            container=final["container"],
            started_at=final["started_at"],
            hosts=tuple(final["hosts"]),
            again=final["again"],
        )


def _kept(above: Path) -> list[tuple[str, Any]]:
    """Records in this folder, by id."""
    found = ((path.stem, places.read(path)) for path in sorted(above.glob("[!.]*.json")))
    return [(name, record) for name, record in found if record is not None]
