"""Handing attempts over to Slurm: one job each, or the next run of a job that Slurm has queued again by itself.

Records come first, then the order, then the submission. What a crash or a lost answer leaves in between is found by the
ticket in the job's comment; and whatever happens, only one job of Slurm's can claim a ticket.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainshed.engines.protocol import EngineUnavailable, GangResult, GangSpec, GangStatus
from trainshed.engines.slurm import reasons
from trainshed.engines.slurm.commands import Refused, Unsure
from trainshed.engines.slurm.delivery import deliver, pack, start_of
from trainshed.engines.slurm.gathering import Gathering
from trainshed.engines.slurm.grounds import open_to_owner
from trainshed.engines.slurm.node import boot
from trainshed.engines.slurm.node.places import NOBODY, Places, array_name, claim
from trainshed.engines.slurm.orders import Cluster, SetupSecrets, node_count, options_of, write_order
from trainshed.engines.slurm.owners import acting_as, make_folder
from trainshed.engines.slurm.records import AttemptRecord, Records, TicketRecord
from trainshed.engines.slurm.relay.server import Relay
from trainshed.engines.slurm.script import (
    arguments,
    array_arguments,
    comment,
    likeness,
    minutes,
    script,
    script_from_afar,
)
from trainshed.engines.slurm.settings import SlurmSettings
from trainshed.engines.slurm.site import Site
from trainshed.engines.slurm.users import NotMapped, Submitter, Users
from trainshed.resources.preemption import warning_of
from trainshed.resources.reasons import Reason

#: Seconds after which a job that Slurm has not taken is submitted again; after a lost answer, when it may have been.
_RETRY_SECONDS, _UNSURE_SECONDS = 5.0, 30.0
#: Seconds for which an answer is waited for when the service ends.
_CLOSE_SECONDS = 3.0
#: Elements that an array has at most: Slurm's own default of MaxArraySize is 1001.
_ARRAY_MOST = 500
BOOT_TEXT = Path(boot.__file__).read_text()
#: Slurm's own default of KillWait, in seconds.
_KILL_WAIT = 30.0


class Handing:
    """Submits, and gives the next runs of requeued jobs to attempts."""

    def __init__(
        self, root: Places, records: Records, site: Site, settings: SlurmSettings, mark: str, relay: Relay | None = None
    ) -> None:
        self._root = root
        self._records = records
        self._site = site
        self._settings = settings
        self._users = Users(settings)
        self._mark = mark
        self._relay = relay
        self._kill_wait: float | None = None
        self._starting: set[str] = set()
        #: Tickets whose submission is under way.
        self.submitting: set[str] = set()
        #: Monotonic seconds before which a ticket is not submitted again.
        self.not_before: dict[str, float] = {}
        self._gathering = Gathering(lambda: bool(self._starting), self._likeness, self._hand_over)
        self._array_most = _ARRAY_MOST

    @property
    def kill_wait_known(self) -> bool:
        """Whether the site's configuration was read."""
        return self._kill_wait is not None

    def learn(self, config: Mapping[str, str]) -> None:
        """Of ``scontrol show config``: the seconds between SIGTERM and SIGKILL, and how large an array may be."""
        number = config.get("KillWait", "").split(" ")[0]
        self._kill_wait = float(number) if number.isdigit() else _KILL_WAIT
        most = config.get("MaxArraySize", "")
        self._array_most = min(_ARRAY_MOST, int(most)) if most.isdigit() else _ARRAY_MOST

    async def close(self) -> None:
        """Submissions that are under way get a moment: their answer is worth having, and else found by the comment."""
        await self._gathering.close(_CLOSE_SECONDS)

    async def start(
        self,
        gang: GangSpec,
        cluster: Cluster,
        setup_secrets: SetupSecrets,
        addresses: Mapping[str, str],
        most: int | None,
        at: int,
    ) -> GangStatus | None:
        """Its end, when Slurm or the map of users refuses it for good; else None. Idempotent.

        ``addresses``: of nodes whose names say nothing; ``most``: minutes that the partition lets a job run; ``at``:
        when it was handed over (Unix ns), since threads overtake each other and those that are alike keep that order.
        Raises OSError, EngineUnavailable, EngineError.
        """
        if gang.attempt_id in self._starting:
            return None
        self._starting.add(gang.attempt_id)
        try:
            ticket, new = await asyncio.to_thread(self._put_down, gang, cluster, setup_secrets, addresses, most, at)
        except NotMapped as error:
            return await asyncio.to_thread(self._turn_away, gang, error.reason)
        finally:
            self._starting.discard(gang.attempt_id)
        if not new:
            return None
        return await self.submit(ticket)

    def _put_down(
        self,
        gang: GangSpec,
        cluster: Cluster,
        setup_secrets: SetupSecrets,
        addresses: Mapping[str, str],
        most: int | None,
        at: int,
    ) -> tuple[TicketRecord, bool]:
        """The attempt's ticket, and whether it is to be submitted now."""
        known = self._records.attempts.get(gang.attempt_id)
        ticket = self._records.tickets.get(known.ticket) if known else self._records.vacant_ticket(gang.job_uid)
        if known is not None and (ticket is None or known.final is not None):
            return ticket or self._new_ticket(gang, cluster, most, Submitter(), at), False
        adopted = ticket is not None and ticket.job != ""
        if ticket is None:
            ticket = self._new_ticket(gang, cluster, most, self._users.submitter(gang, cluster), at)
        former = ticket.past[-1] if ticket.past else ""
        if known is None:
            # From here on a restart finds it. The submission, or the order, is what may be missing then.
            make_folder(self._records.folder_of(gang.attempt_id).folder, ticket.user)
            make_folder(self._root.ticket(ticket.ticket).folder, ticket.user)
            self.submitting.add(ticket.ticket)
            ticket.attempt = gang.attempt_id
            self._records.keep(AttemptRecord(gang.attempt_id, ticket.ticket, ticket.run, node_count(gang)))
            self._records.keep(ticket)
            self._records.vacant.pop(ticket.ticket, None)
        try:
            place = self._root.ticket(ticket.ticket)
            with acting_as(ticket.user):
                ordered = place.order(ticket.run).exists()
            if not ordered:
                open_to_owner(self._root, gang, ticket.user)
                write_order(
                    self._root,
                    place,
                    ticket.run,
                    gang,
                    cluster,
                    self._settings,
                    setup_secrets,
                    owner=ticket.user,
                    addresses=addresses,
                    former=(former, node_count(gang)) if former else None,
                    kill_wait=self._kill_wait or _KILL_WAIT,
                    minutes=minutes(gang.wall_clock_seconds, most),
                    alike=ticket.alike,
                    entry=ticket.entry,
                )
            if ticket.entry:
                self._records.wait(ticket)
        except OSError:
            self.submitting.discard(ticket.ticket)
            raise
        if adopted or known is not None:
            self.submitting.discard(ticket.ticket)
            return ticket, False
        return ticket, True

    def _new_ticket(self, gang: GangSpec, cluster: Cluster, most: int | None, who: Submitter, at: int) -> TicketRecord:
        """``at``: when it was handed over (Unix ns)."""
        ticket_id = gang.attempt_id
        ticket = TicketRecord(
            ticket_id,
            gang.job_uid,
            gang.cluster_uid,
            arguments(
                self._settings,
                options_of(cluster, self._settings).charged_to(who.account, who.qos),
                name=gang.job,
                comment=comment(self._mark, ticket_id),
                nodes=node_count(gang),
                cpus=cluster.cpus,
                memory_mib=cluster.memory_mib,
                gpus=cluster.gpus,
                minutes=minutes(gang.wall_clock_seconds, most),
                priority=gang.priority,
                warning=warning_of(gang.properties),
                output=self._root.ticket(ticket_id).output if self._relay is None else Path(os.devnull),
            ),
            token=secrets.token_urlsafe(32) if self._relay is not None else "",
            archives=[pack(self._root)] if self._relay is not None else [],
            owner=asdict(who.owner) if who.owner is not None else None,
        )
        if node_count(gang) == 1 and self._goes_with_others(ticket):
            ticket.alike = self._likeness(ticket)
            ticket.entry = f"{at:020d}-{ticket_id}"
        return ticket

    async def submit(self, ticket: TicketRecord) -> GangStatus | None:
        """Its end when Slurm refuses it for good. What is not clear is asked again later."""
        self.submitting.add(ticket.ticket)
        return await self._gathering.submit(ticket)

    def _goes_with_others(self, ticket: TicketRecord) -> bool:
        """Whether it may be an element of an array. What belongs to a user of the site is for that user's jobs alone,
        and each has its own.
        """
        return self._settings.uses_arrays and ticket.user is None

    def _likeness(self, ticket: TicketRecord) -> str:
        if ticket.alike:
            return ticket.alike
        if not self._goes_with_others(ticket):
            return ticket.ticket
        start = start_of(self._root)
        return likeness(ticket.arguments, script(self._settings, start, self._root.root), ticket.cluster_uid)

    async def _hand_over(self, tickets: list[TicketRecord]) -> dict[str, GangStatus | None]:
        """Of those that are alike, the ends of what Slurm refuses."""
        try:
            left = await asyncio.to_thread(self._not_taken, tickets)
            most = max(1, self._array_most)
            alone: list[TicketRecord] = []
            for part in [left[at : at + most] for at in range(0, len(left), most)]:
                if len(part) == 1 or not await self._submit_array(part):
                    alone += part
            ends = await asyncio.gather(*map(self._submit, alone))
            return {ticket.ticket: end for ticket, end in zip(alone, ends, strict=True)}
        finally:
            self.submitting.difference_update(ticket.ticket for ticket in tickets)

    def _not_taken(self, tickets: list[TicketRecord]) -> list[TicketRecord]:
        """Those that no job which is alike has carried off while they waited to be submitted."""
        return [one for one in tickets if not one.entry or not self._root.ticket(one.ticket).claim.exists()]

    async def _submit_array(self, tickets: list[TicketRecord]) -> bool:
        """False when Slurm refuses that: it may take some of them alone, and says to each of the others why not."""
        name = array_name(uuid.uuid4().hex)
        submission = self._root.submission(name)
        try:
            start = await asyncio.to_thread(deliver, self._root)
            await asyncio.to_thread(self._records.keep_array, name, tickets, "")
            text = script(self._settings, start, submission.folder)
            given = [ticket.arguments for ticket in tickets]
            output = submission.output("%A_%a")
            job = await self._site.submit(array_arguments(given, comment(self._mark, name), output), text)
            await asyncio.to_thread(self._records.keep_array, name, tickets, job)
            for ticket in tickets:
                self._waits(ticket, None)
        except Refused:
            await asyncio.to_thread(self._records.give_up_array, name, tickets)
            return False
        except EngineUnavailable as error:
            # As with one job: it may have been taken.
            for ticket in tickets:
                self._later(ticket, _UNSURE_SECONDS if isinstance(error, Unsure) else _RETRY_SECONDS)
                self._waits(ticket, reasons.not_submitted(error.reason.text, limit=False))
        return True

    def _waits(self, ticket: TicketRecord, reason: Reason | None) -> None:
        if (seen := self._records.seen.get(ticket.attempt)) is not None:
            seen.waiting = reason

    async def _submit(self, ticket: TicketRecord) -> GangStatus | None:
        try:
            text = await asyncio.to_thread(self._script, ticket)
            job = await self._site.submit(ticket.arguments, text, ticket.user, ticket.token)
            self._records.submitted(ticket, "", 0, job)
            await asyncio.to_thread(self._records.keep, ticket)
            self._waits(ticket, None)
        except Refused as error:
            said = str(error)
            if not reasons.may_succeed_later(said):
                return await asyncio.to_thread(self._refuse, ticket, reasons.refused(said))
            self._later(ticket, _RETRY_SECONDS)
            self._waits(ticket, reasons.not_submitted(said, limit=True))
        except EngineUnavailable as error:
            # Also one that answers "not now" may have taken the job.
            self._later(ticket, _UNSURE_SECONDS if isinstance(error, Unsure) else _RETRY_SECONDS)
            self._waits(ticket, reasons.not_submitted(error.reason.text, limit=False))
        return None

    def _script(self, ticket: TicketRecord) -> str:
        if self._relay is None:
            return script(self._settings, deliver(self._root), self._root.ticket(ticket.ticket).folder)
        archive = pack(self._root)
        if archive not in ticket.archives:
            # The service was renewed meanwhile. The submission before may have been taken all the same.
            ticket.archives.append(archive)
            self._records.keep(ticket)
        return script_from_afar(self._settings, BOOT_TEXT, self._relay.fingerprint, ticket.ticket, archive)

    def _later(self, ticket: TicketRecord, seconds: float) -> None:
        self.not_before[ticket.ticket] = time.monotonic() + seconds

    def _turn_away(self, gang: GangSpec, reason: Reason) -> GangStatus:
        """An end without a beginning: nothing of it comes to Slurm."""
        record = AttemptRecord(gang.attempt_id, "", 0, node_count(gang), final=_refused(reason))
        self._records.keep(record)
        return self._records.status(record)

    def _refuse(self, ticket: TicketRecord, reason: Reason) -> GangStatus | None:
        record = self._records.attempts.get(ticket.attempt)
        if ticket.entry and not claim(self._root.ticket(ticket.ticket).claim, NOBODY):
            return None  # A job that is alike has it.
        self._records.leave(ticket)
        ticket.closed = True
        if record is None or record.final is not None:
            return None
        record.final = _refused(reason)
        with suppress(OSError), acting_as(ticket.user):
            self._root.ticket(ticket.ticket).private(0).unlink()
        self._records.keep(record)
        self._records.keep(ticket)
        return self._records.status(record)


def _refused(reason: Reason) -> dict[str, Any]:
    return {
        "result": GangResult.FAILED.value,
        "exit_code": None,
        "reason": reason.to_json(),
        "ended_at": time.time_ns() // 1_000_000,
        "container": None,
        "started_at": None,
        "hosts": [],
        "again": False,
    }
