"""What the engine keeps of each job of Slurm's (a ticket) and of each attempt, in memory and durably on disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trainshed.engines.protocol import GangResult, GangStatus
from trainshed.engines.slurm.node import places
from trainshed.engines.slurm.node.places import AttemptFolder, Places, Ticket
from trainshed.resources.reasons import Reason


@dataclass(slots=True)
class TicketRecord:
    """One job of Slurm's, from before it is submitted until Slurm and the service have both done with it."""

    ticket: str
    job_uid: str
    cluster_uid: str
    #: Arguments of its submission, which may have to be repeated.
    arguments: list[str]
    #: Slurm's number of it; empty until that is known.
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
        for folder in sorted(self._root.tickets.iterdir()):
            record = places.read(Ticket(folder).record)
            if record is None:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                self.tickets[folder.name] = TicketRecord(**record)
        kept = {past for ticket in self.tickets.values() for past in ticket.past}
        for folder in sorted(self._root.attempts.iterdir()):
            record = places.read(AttemptFolder(folder).record)
            if record is not None:
                self.attempts[folder.name] = AttemptRecord(**record)
                self.seen[folder.name] = Seen()
            elif folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def keep(self, record: TicketRecord | AttemptRecord) -> None:
        """Remember it, durably."""
        if isinstance(record, TicketRecord):
            places.write(self._root.ticket(record.ticket).record, asdict(record), durable=True)
            self.tickets[record.ticket] = record
        else:
            places.write(self._root.attempt(record.attempt_id).record, asdict(record), durable=True)
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
            shutil.rmtree(self._root.attempt(attempt_id).folder, ignore_errors=True)

    def drop(self, ticket: TicketRecord) -> None:
        """Slurm no longer has the job, and no attempt of it is alive: its files go."""
        self.tickets.pop(ticket.ticket, None)
        self.vacant.pop(ticket.ticket, None)
        shutil.rmtree(self._root.ticket(ticket.ticket).folder, ignore_errors=True)
        for attempt_id in {*ticket.past, ticket.attempt} - {""} - self.attempts.keys():
            shutil.rmtree(self._root.attempt(attempt_id).folder, ignore_errors=True)

    def folder_of(self, attempt_id: str) -> AttemptFolder:
        """Its folder."""
        return self._root.attempt(attempt_id)

    def output(self, ticket: TicketRecord, limit: int = 4096) -> str:
        """The end of what the job's script and Slurm itself said."""
        path: Path = self._root.ticket(ticket.ticket).output
        with suppress(OSError), open(path, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - limit))
            return file.read().decode(errors="replace")
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
