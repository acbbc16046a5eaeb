"""Handing attempts over to Slurm: one job each, or the next run of a job that Slurm has queued again by itself.

Records come first, then the order, then the submission. What a crash or a lost answer leaves in between is found by the
ticket in the job's comment; and whatever happens, only one job of Slurm's can claim a ticket.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from trainshed.engines.protocol import EngineUnavailable, GangResult, GangSpec, GangStatus
from trainshed.engines.slurm import reasons
from trainshed.engines.slurm.commands import Refused, Unsure
from trainshed.engines.slurm.delivery import deliver, pack
from trainshed.engines.slurm.node import boot
from trainshed.engines.slurm.node.places import Places
from trainshed.engines.slurm.orders import Cluster, SetupSecrets, node_count, options_of, write_order
from trainshed.engines.slurm.records import AttemptRecord, Records, TicketRecord
from trainshed.engines.slurm.relay.server import Relay
from trainshed.engines.slurm.script import arguments, comment, minutes, script, script_from_afar
from trainshed.engines.slurm.settings import SlurmSettings
from trainshed.engines.slurm.site import Site
from trainshed.resources.preemption import warning_of
from trainshed.resources.reasons import Reason

#: Seconds after which a job that Slurm has not taken is submitted again; after a lost answer, when it may have been.
_RETRY_SECONDS, _UNSURE_SECONDS = 5.0, 30.0
#: Seconds for which an answer is waited for when the service ends.
_CLOSE_SECONDS = 3.0
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
        self._mark = mark
        self._relay = relay
        self._kill_wait: float | None = None
        self._starting: set[str] = set()
        #: Tickets whose submission is under way.
        self.submitting: set[str] = set()
        #: Monotonic seconds before which a ticket is not submitted again.
        self.not_before: dict[str, float] = {}
        self._calls: set[asyncio.Task[GangStatus | None]] = set()

    @property
    def kill_wait_known(self) -> bool:
        """Whether the site's configuration was read."""
        return self._kill_wait is not None

    def learn(self, config: Mapping[str, str]) -> None:
        """Of ``scontrol show config``: the seconds between SIGTERM and SIGKILL."""
        number = config.get("KillWait", "").split(" ")[0]
        self._kill_wait = float(number) if number.isdigit() else _KILL_WAIT

    async def close(self) -> None:
        """Submissions that are under way get a moment: their answer is worth having, and else found by the comment."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=_CLOSE_SECONDS)
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def start(
        self,
        gang: GangSpec,
        cluster: Cluster,
        setup_secrets: SetupSecrets,
        addresses: Mapping[str, str],
        most: int | None,
    ) -> GangStatus | None:
        """Its end, when Slurm refuses it for good; else None. Idempotent. Raises OSError.

        ``addresses``: of nodes whose names say nothing; ``most``: minutes that the partition lets a job run.
        """
        if gang.attempt_id in self._starting:
            return None
        self._starting.add(gang.attempt_id)
        try:
            ticket, new = await asyncio.to_thread(self._put_down, gang, cluster, setup_secrets, addresses, most)
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
    ) -> tuple[TicketRecord, bool]:
        """The attempt's ticket, and whether it is to be submitted now."""
        known = self._records.attempts.get(gang.attempt_id)
        ticket = self._records.tickets.get(known.ticket) if known else self._records.vacant_ticket(gang.job_uid)
        if known is not None and (ticket is None or known.final is not None):
            return ticket or self._new_ticket(gang, cluster, most), False
        adopted = ticket is not None and ticket.job != ""
        if ticket is None:
            ticket = self._new_ticket(gang, cluster, most)
        former = ticket.past[-1] if ticket.past else ""
        if known is None:
            # From here on a restart finds it. The submission, or the order, is what may be missing then.
            self._records.folder_of(gang.attempt_id).folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._root.ticket(ticket.ticket).folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.submitting.add(ticket.ticket)
            ticket.attempt = gang.attempt_id
            self._records.keep(AttemptRecord(gang.attempt_id, ticket.ticket, ticket.run, node_count(gang)))
            self._records.keep(ticket)
            self._records.vacant.pop(ticket.ticket, None)
        try:
            place = self._root.ticket(ticket.ticket)
            if not place.order(ticket.run).exists():
                write_order(
                    self._root,
                    place,
                    ticket.run,
                    gang,
                    cluster,
                    self._settings,
                    setup_secrets,
                    addresses=addresses,
                    former=(former, node_count(gang)) if former else None,
                    kill_wait=self._kill_wait or _KILL_WAIT,
                    minutes=minutes(gang.wall_clock_seconds, most),
                )
        except OSError:
            self.submitting.discard(ticket.ticket)
            raise
        if adopted or known is not None:
            self.submitting.discard(ticket.ticket)
            return ticket, False
        return ticket, True

    def _new_ticket(self, gang: GangSpec, cluster: Cluster, most: int | None) -> TicketRecord:
        ticket_id = gang.attempt_id
        return TicketRecord(
            ticket_id,
            gang.job_uid,
            gang.cluster_uid,
            arguments(
                self._settings,
                options_of(cluster, self._settings),
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
        )

    async def submit(self, ticket: TicketRecord) -> GangStatus | None:
        """Its end when Slurm refuses it for good. What is not clear is asked again later."""
        self.submitting.add(ticket.ticket)
        call = asyncio.ensure_future(self._submit(ticket))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        # Whoever asked may give up: the answer is noted all the same.
        return await asyncio.shield(call)

    async def _submit(self, ticket: TicketRecord) -> GangStatus | None:
        seen = self._records.seen.get(ticket.attempt)
        try:
            text = await asyncio.to_thread(self._script, ticket)
            ticket.job = await self._site.submit(ticket.arguments, text, ticket.token)
            await asyncio.to_thread(self._records.keep, ticket)
            if seen is not None:
                seen.waiting = None
        except Refused as error:
            said = str(error)
            if not reasons.may_succeed_later(said):
                return await asyncio.to_thread(self._refuse, ticket, reasons.refused(said))
            self._later(ticket, _RETRY_SECONDS)
            if seen is not None:
                seen.waiting = reasons.not_submitted(said, limit=True)
        except EngineUnavailable as error:
            # Also one that answers "not now" may have taken the job.
            self._later(ticket, _UNSURE_SECONDS if isinstance(error, Unsure) else _RETRY_SECONDS)
            if seen is not None:
                seen.waiting = reasons.not_submitted(error.reason.text, limit=False)
        finally:
            self.submitting.discard(ticket.ticket)
        return None

    def _script(self, ticket: TicketRecord) -> str:
        if self._relay is None:
            return script(self._settings, deliver(self._root), self._root.ticket(ticket.ticket).folder)
        digest = pack(self._root)
        return script_from_afar(self._settings, BOOT_TEXT, self._relay.fingerprint, ticket.ticket, digest)

    def _later(self, ticket: TicketRecord, seconds: float) -> None:
        self.not_before[ticket.ticket] = time.monotonic() + seconds

    def _refuse(self, ticket: TicketRecord, reason: Reason) -> GangStatus | None:
        record = self._records.attempts.get(ticket.attempt)
        ticket.closed = True
        if record is None or record.final is not None:
            return None
        record.final = {
            "result": GangResult.FAILED.value,
            "exit_code": None,
            "reason": reason.to_json(),
            "ended_at": time.time_ns() // 1_000_000,
            "container": None,
            "started_at": None,
            "hosts": [],
            "again": False,
        }
        with suppress(OSError):
            self._root.ticket(ticket.ticket).private(0).unlink()
        self._records.keep(record)
        self._records.keep(ticket)
        return self._records.status(record)
