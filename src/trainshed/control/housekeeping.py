"""Directories below the home whose resources are gone, removed outside of transactions."""

from __future__ import annotations

import asyncio
import time

import structlog
from sqlalchemy import Connection

from trainshed.control import kept_logs
from trainshed.control.actions import Actions
from trainshed.control.settings import ControlSettings
from trainshed.store import jobs, removals
from trainshed.store.database import Database
from trainshed.store.errors import or_none
from trainshed.volumes.embedded import EmbeddedStorage

log = structlog.get_logger(__name__)

#: Seconds between two looks for logs of jobs that are gone.
SWEEP_SECONDS = 600.0


class Housekeeping:
    """Carries out what passes found, each piece once at a time. What fails is found again by the next full pass."""

    def __init__(self, db: Database, settings: ControlSettings) -> None:
        self._db = db
        self._settings = settings
        self._storage = EmbeddedStorage(settings.home) if settings.home is not None else None
        #: uids that are being worked on.
        self._busy: set[str] = set()
        self._next_sweep = time.monotonic()

    def sweep_is_due(self) -> bool:
        """Whether it is time to look for kept logs; then the next time is set."""
        if time.monotonic() < self._next_sweep:
            return False
        self._next_sweep = time.monotonic() + SWEEP_SECONDS
        return True

    async def remove_kept_logs(self) -> None:
        """Remove logs that were kept for jobs that are gone."""
        if self._settings.home is None:
            return
        # Looked for before the jobs are: a job that comes meanwhile is not among them.
        found = await asyncio.to_thread(kept_logs.kept, self._settings.home)
        uids = {one.uid for one in found}

        def gone(tx: Connection) -> set[str]:
            return {uid for uid in uids if or_none(jobs.get_by_uid, tx, uid) is None}

        of_nobody = await self._db.read(gone) if uids else set()
        for one in found:
            if one.uid in of_nobody:
                try:
                    await asyncio.to_thread(kept_logs.remove, one)
                except OSError as error:
                    log.warning("kept logs cannot be removed", path="/".join(one.names), error=str(error))

    async def carry_out(self, actions: Actions) -> None:
        """Remove what the pass asked for."""
        for uid in actions.remove_directories:
            if uid not in self._busy:
                self._busy.add(uid)
                try:
                    await self._remove(uid)
                finally:
                    self._busy.discard(uid)

    async def _remove(self, uid: str) -> None:
        if self._storage is None:
            return
        # As it is now: the name may be free, and taken again, since the pass read it.
        current = (await self._db.read(removals.pending)).get(uid)
        if current is None:
            return
        try:
            await asyncio.to_thread(self._storage.remove, current, uid)
        except OSError as error:
            log.warning("a directory cannot be removed and is tried again", path=current, error=str(error))
            return
        await self._db.write(lambda tx: removals.clear(tx, uid))
