"""What becomes of what was handed over: Slurm's list and the runners' outcomes, compared with the records."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from trainshed.engines.protocol import GangResult, GangStatus
from trainshed.engines.slurm.handing import Handing
from trainshed.engines.slurm.node import places
from trainshed.engines.slurm.node.places import NOBODY, Places
from trainshed.engines.slurm.owners import Owner
from trainshed.engines.slurm.parsing import QueueLine
from trainshed.engines.slurm.reasons import unknown, why_waiting
from trainshed.engines.slurm.records import AttemptRecord, Records, TicketRecord
from trainshed.engines.slurm.script import ticket_of
from trainshed.engines.slurm.site import Site
from trainshed.engines.slurm.told import claimed_by, close, has_order, told_by
from trainshed.engines.slurm.verdict import Facts, Verdict, verdict
from trainshed.resources.reasons import Reason

#: Seconds for which a job that Slurm queued again waits for the attempt that takes it up.
ADOPTION_SECONDS = 600.0
#: Seconds after which an attempt whose order was never written is given up.
_UNWRITTEN_SECONDS = 60.0
#: Tickets whose files are removed between two looks.
_TIDY_AT_ONCE = 16

#: A status that is final, or None: something else changed.
Event = GangStatus | None


@dataclass(slots=True)
class _Look:
    """What one look at Slurm brought."""

    by_job: dict[str, QueueLine]
    #: Jobs by the ticket that they were submitted for.
    by_ticket: dict[str, list[str]]
    #: Jobs of tickets that are not known any more, with what their comments name.
    strays: dict[str, str]
    #: Whether ended jobs are there too.
    complete: bool
    #: Numbers that tickets had before Slurm was asked: only of these "not there" means something.
    asked: Mapping[str, str]
    #: Final states by accounting.
    states: dict[str, str]
    cancel: set[str] = field(default_factory=set)
    submit: list[TicketRecord] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


class Watching:
    """Compares, and acts on the difference."""

    def __init__(self, root: Places, records: Records, site: Site, handing: Handing, mark: str) -> None:
        self._root = root
        self._records = records
        self._site = site
        self._handing = handing
        self._mark = mark
        self._last: dict[str, QueueLine] = {}
        self._unwritten: dict[str, float] = {}
        self._digesting = asyncio.Lock()
        #: Seconds that Slurm took to answer last.
        self.answered_in = 0.0
        #: Tickets that nobody needs any more, whose files are still there.
        self._done: dict[str, TicketRecord] = {}

    @property
    def active(self) -> bool:
        """Whether files may tell something before Slurm does: attempts run, or a job that does may take what waits."""
        if any(seen.running for seen in list(self._records.seen.values())):
            return True
        waits = any(ticket.entry for ticket in list(self._records.tickets.values()))
        return waits and any(line.alive for line in list(self._last.values()))

    async def look(self) -> list[Event]:
        """Ask Slurm about all jobs at once, and draw the conclusions. Raises EngineUnavailable, OSError."""
        async with self._digesting:
            await asyncio.to_thread(self._note_taken)
        asked = {
            t.ticket: t.job for t in list(self._records.tickets.values()) if t.ticket not in self._handing.submitting
        }
        if not asked:
            return []
        users, begun = self._users(), time.monotonic()
        look = self._look_of(await self._site.queue(users), asked, complete=False)
        if self._missing(look):
            look = self._look_of(await self._site.queue(users, ended=True), asked, complete=True)
            missing = {job for job in self._missing(look) if job}
            if missing:
                look.states = await self._site.ended(missing)
        self.answered_in = time.monotonic() - begun
        async with self._digesting:
            await asyncio.to_thread(self._digest, look)
        for user, jobs in self._by_user(look).items():
            await self._site.cancel(jobs, user)
        look.events += await asyncio.gather(*map(self._handing.submit, look.submit))
        return look.events

    @property
    def untidy(self) -> bool:
        """Whether ``tidy`` has something to do."""
        return bool(self._done)

    async def tidy(self) -> None:
        """Remove the files of some tickets that are done. Of many that takes seconds, in which ends are not told."""
        part = [self._done.pop(name) for name in list(self._done)[:_TIDY_AT_ONCE]]
        async with self._digesting:
            await asyncio.to_thread(self._drop, part)

    def _drop(self, tickets: list[TicketRecord]) -> None:
        for ticket in tickets:
            self._records.drop(ticket)

    async def files(self) -> list[Event]:
        """What running attempts have written meanwhile; Slurm is not asked."""
        async with self._digesting:
            return await asyncio.to_thread(self._look_at_files)

    def _look_of(self, lines: list[QueueLine], asked: Mapping[str, str], *, complete: bool) -> _Look:
        tickets = self._records.tickets
        elements = {(t.array, str(t.index)): t.ticket for t in list(tickets.values()) if t.array}
        by_ticket, strays = defaultdict(list), {}
        for line in lines:
            if name := ticket_of(line.comment, self._mark):
                index = line.job.partition("_")[2]
                ticket = elements.get((name, index)) if index else name
                known = tickets.get(ticket or "")
                if known is None:
                    strays[line.job] = name
                elif known.user is None or known.user.uid == line.uid:
                    # Anybody may write any comment: a job that is another user's than its ticket is not the engine's.
                    by_ticket[known.ticket].append(line.job)
        return _Look({line.job: line for line in lines}, by_ticket, strays, complete, asked, {})

    def _users(self) -> tuple[Owner, ...]:
        """Beside the service's own, whose jobs are to be listed."""
        return tuple({ticket.user for ticket in list(self._records.tickets.values()) if ticket.user is not None})

    def _by_user(self, look: _Look) -> dict[Owner | None, set[str]]:
        """What is to be cancelled, by whose it is: everybody ends his own jobs and no others."""
        found: dict[Owner | None, set[str]] = defaultdict(set)
        users = self._users()
        owners = {ticket.job: ticket.user for ticket in list(self._records.tickets.values()) if ticket.job}
        for job in look.cancel:
            line = look.by_job.get(job)
            other = next((user for user in users if line is not None and user.uid == line.uid), None)
            found[owners.get(job) or other].add(job)
        return found

    def _missing(self, look: _Look) -> list[str]:
        """Numbers of jobs that Slurm did not show; empty ones for tickets without a number."""
        return [
            job
            for ticket, job in look.asked.items()
            if self._line(self._records.tickets.get(ticket), job, look) is None and not look.by_ticket.get(ticket)
        ]

    def _line(self, ticket: TicketRecord | None, job: str, look: _Look) -> QueueLine | None:
        """Of the ticket's job. A controller that lost its last moments gives the number of a job to another one."""
        line = look.by_job.get(job)
        named = ticket_of(line.comment, self._mark) if line is not None else ""
        expected = ticket.named if ticket is not None else ""
        return None if named and named != expected else line

    def _digest(self, look: _Look) -> None:
        # After Slurm was asked: of a run that it has cut off nothing is taken any more.
        self._note_taken()
        for ticket in list(self._records.tickets.values()):
            if ticket.ticket in look.asked and ticket.ticket not in self._handing.submitting:
                self._compare(ticket, look)
        for job, name in look.strays.items():
            # Its ticket was dropped: nothing of it may run.
            if look.by_job[job].queued and self._unwanted(look.by_job[job], name):
                look.cancel.add(job)
        self._last = look.by_job

    def _note_taken(self) -> None:
        """Tickets that waited and were taken, perhaps by a job that was another one's: that is theirs now."""
        waiting = defaultdict(list)
        for ticket in list(self._records.tickets.values()):
            if ticket.entry:
                waiting[ticket.alike].append(ticket)
        for alike, tickets in waiting.items():
            there = self._records.entries(alike)
            for ticket in tickets:
                if ticket.entry not in there:
                    self._note_claim(ticket)

    def _note_claim(self, ticket: TicketRecord) -> None:
        job = self._records.note_claim(ticket)
        if job and job != NOBODY and ticket.attempt in self._records.seen:
            line = self._last.get(job)
            self._records.seen[ticket.attempt].running = line is not None and line.alive

    def _withdraw(self, ticket: TicketRecord, job: str = NOBODY) -> bool:
        """Nobody else is to take it any more; whether nobody had. ``job``: whose it is from now on."""
        if ticket.entry and places.claim(self._root.ticket(ticket.ticket).claim, job, ticket.named):
            self._records.leave(ticket)
        elif ticket.entry:
            self._note_claim(ticket)
            return False
        return True

    def _unwanted(self, line: QueueLine, of: str, ticket: TicketRecord | None = None) -> bool:
        """Whether nothing is lost by the end of this job, the ticket's own work apart: it carries out nothing else.

        A job that has not begun must not do so meanwhile, and finds that it must not.
        """
        for other in list(self._records.tickets.values()):
            if other is not ticket and other.job == line.job and self._alive(other):
                return False
        if line.restarts or (ticket is not None and not ticket.alike):
            return True
        carried = self._root.submission(of).carried(line.job)
        try:
            new = line.queued and places.claim(carried, NOBODY)
        except FileNotFoundError:
            return True
        return new or places.claimant(carried)[0] == NOBODY

    def _alive(self, ticket: TicketRecord) -> bool:
        """Whether an attempt of it is, or may come."""
        record = self._records.attempts.get(ticket.attempt)
        return not ticket.closed and (not ticket.attempt or (record is not None and record.final is None))

    def _compare(self, ticket: TicketRecord, look: _Look) -> None:
        if not ticket.job and not self._find(ticket, look):
            return
        line = self._line(ticket, ticket.job, look)
        gone = look.complete and line is None and look.asked.get(ticket.ticket) == ticket.job
        over = gone or (line is not None and line.over)
        if over and not self._withdraw(ticket):
            return  # Another job has it.
        # A submission that was taken for lost and was not; or its own job, when another one has the ticket.
        of_it = look.by_ticket.get(ticket.ticket, ())
        others = [job for job in of_it if job != ticket.job and not look.by_job[job].over]
        for job in others:
            if self._unwanted(look.by_job[job], ticket.submission, ticket):
                look.cancel.add(job)
        record = self._records.attempts.get(ticket.attempt)
        if record is not None and record.final is None:
            self._judge(ticket, record, line, gone, look)
        elif not (over and others):
            # Else its own job may have taken what nobody knows of yet, and its folder stays until that has ended too.
            self._wind_up(ticket, line, gone, look)

    def _find(self, ticket: TicketRecord, look: _Look) -> bool:
        """Whether the number of a job whose submission got no answer is known now."""
        place = self._root.ticket(ticket.ticket)
        claimed, of = claimed_by(place, ticket.user)
        jobs = look.by_ticket.get(ticket.ticket) or []
        if claimed or jobs:
            own = min(jobs, key=lambda job: int(job.partition("_")[0]), default="")
            ticket.job, ticket.of = (claimed, of) if claimed else (own, ticket.submission)
            self._records.keep(ticket)
            return True
        record = self._records.attempts.get(ticket.attempt)
        if not look.complete or record is None:
            if record is None and look.complete:
                self._records.drop(ticket)
            return False
        now = time.monotonic()
        stop = record.stop
        if stop is not None or ticket.closed or not has_order(place, ticket.run, ticket.user):
            since = self._unwritten.setdefault(ticket.ticket, now)
            if stop is None and not ticket.closed and now - since < _UNWRITTEN_SECONDS:
                return False
            if not close(place, ticket.user):
                return False  # Its job came after all.
            if record.final is None:
                lost = Verdict(GangResult.LOST, unknown("").to_json())
                ended = Verdict(GangResult.STOPPED, stop["reason"]) if stop else lost
                look.events.append(self._end(ticket, record, ended, None))
            self._records.drop(ticket)
        elif now >= self._handing.not_before.get(ticket.ticket, 0.0):
            look.submit.append(ticket)
        return False

    def _judge(
        self, ticket: TicketRecord, record: AttemptRecord, line: QueueLine | None, gone: bool, look: _Look
    ) -> None:
        seen = self._records.seen[record.attempt_id]
        before = (seen.running, seen.waiting, seen.started_at)
        present = line if line is not None and line.restarts == record.run else None
        seen.running = present is not None and present.alive
        seen.waiting = why_waiting(present, time.time_ns() // 1_000_000) if present and present.queued else None
        ended = self._verdict(ticket, record, line, gone, self._state(ticket, look) if gone else "")
        if ended is not None:
            # A run that never began leaves the ticket to the next run of its own job.
            if not self._withdraw(ticket, ticket.job if ended.again else NOBODY):
                return
            look.events.append(self._end(ticket, record, ended, line))
            if line is not None and line.queued and not ended.again and self._unwanted(line, ticket.named, ticket):
                look.cancel.add(ticket.job)
            return
        if record.stop is not None and line is not None:
            late = time.time() > record.stop["until"]
            if (not line.queued and late) or (
                line.queued and self._withdraw(ticket) and self._unwanted(line, ticket.named, ticket)
            ):
                look.cancel.add(ticket.job)
        if (seen.running, seen.waiting, seen.started_at) != before:
            look.events.append(None)

    def _state(self, ticket: TicketRecord, look: _Look) -> str:
        """Of a job that is gone, by accounting. Slurm forgets at once an element of an array that was cancelled before
        it began, but not the others.
        """
        array, element, _ = ticket.job.partition("_")
        if ticket.job in look.states or not element:
            return look.states.get(ticket.job, "")
        return "CANCELLED" if any(job.startswith(f"{array}_") for job in look.by_job) else ""

    def _verdict(
        self, ticket: TicketRecord, record: AttemptRecord, line: QueueLine | None, gone: bool, state: str
    ) -> Verdict | None:
        seen = self._records.seen[record.attempt_id]
        if (line is None and not gone) or (line is not None and line.queued and line.restarts == record.run):
            return None
        told = told_by(self._root.attempt(record.attempt_id), record.nodes, ticket.user)
        if seen.started_at is None:
            seen.started_at, seen.hosts = told.started_at, told.hosts
        over = gone or (line is not None and line.over)
        if over and seen.over_since is None:
            seen.over_since = time.monotonic()
        return verdict(
            Facts(
                job=ticket.job,
                run=record.run,
                line=line,
                state=state,
                gone=gone,
                outcome=told.outcome,
                signalled=told.signalled,
                began=seen.started_at is not None,
                stop=Reason.from_json(record.stop["reason"]) if record.stop else None,
                over_for=time.monotonic() - seen.over_since if seen.over_since is not None else 0.0,
                said=self._records.output(ticket) if over or (line and line.restarts > record.run) else "",
            )
        )

    def _look_at_files(self) -> list[Event]:
        events: list[Event] = []
        self._note_taken()
        for record in [r for r in list(self._records.attempts.values()) if r.final is None]:
            seen, ticket = self._records.seen[record.attempt_id], self._records.tickets.get(record.ticket)
            line = self._last.get(ticket.job) if ticket is not None else None
            if ticket is None or line is None or not seen.running:
                continue
            before = seen.started_at
            ended = self._verdict(ticket, record, line, False, "")
            if ended is not None:
                events.append(self._end(ticket, record, ended, line))
            elif seen.started_at != before:
                events.append(None)
        return events

    def _end(self, ticket: TicketRecord, record: AttemptRecord, ended: Verdict, line: QueueLine | None) -> Event:
        """Durable before it is told."""
        seen = self._records.seen[record.attempt_id]
        record.final = {
            "result": ended.result.value,
            "exit_code": ended.exit_code,
            "reason": ended.reason,
            "ended_at": ended.ended_at or time.time_ns() // 1_000_000,
            "container": ended.container,
            "started_at": seen.started_at,
            "hosts": list(seen.hosts),
            "again": ended.again,
        }
        seen.running, seen.waiting = False, None
        self._records.keep(record)
        if ended.again and line is not None:
            ticket.past.append(record.attempt_id)
            ticket.attempt, ticket.run = "", line.restarts
            self._records.vacant[ticket.ticket] = time.monotonic()
        else:
            ticket.closed = True
        if ticket.ticket in self._records.tickets:
            # That it is closed follows from the attempt's end, which is durable.
            self._records.keep(ticket, durable=ended.again)
        return self._records.status(record)

    def _wind_up(self, ticket: TicketRecord, line: QueueLine | None, gone: bool, look: _Look) -> None:
        """No attempt of it is alive: Slurm may have to be told, and when the job is over its files go."""
        if gone or (line is not None and line.over):
            if ticket.closed:
                self._done[ticket.ticket] = ticket
            else:
                self._records.drop(ticket)
            return
        if line is None:
            return
        if ticket.attempt or ticket.closed:
            # It has ended, and Slurm may run it once more (RequeueExit, a node that fails at the last moment); or it
            # was queued again and nobody wants it.
            over = line.queued or line.restarts > ticket.run or not ticket.attempt
            if over and self._unwanted(line, ticket.named, ticket):
                look.cancel.add(ticket.job)
            return
        ticket.run = max(ticket.run, line.restarts)
        since = self._records.vacant.setdefault(ticket.ticket, time.monotonic())
        if time.monotonic() - since > ADOPTION_SECONDS:
            ticket.closed = True
            self._records.keep(ticket)
            look.cancel.add(ticket.job)
