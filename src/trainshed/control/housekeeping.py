"""Directories below the home whose resources are gone, removed outside of transactions."""

from __future__ import annotations

import asyncio

import structlog

from trainshed.control.actions import Actions
from trainshed.control.settings import ControlSettings
from trainshed.store import removals
from trainshed.store.database import Database, FencedDatabase
from trainshed.volumes.embedded import EmbeddedStorage

log = structlog.get_logger(__name__)


class Housekeeping:
    """Carries out what passes found, each piece once at a time. What fails is found again by the next full pass."""

    def __init__(self, db: Database | FencedDatabase, settings: ControlSettings) -> None:
        self._db = db
        self._settings = settings
        self._storage = EmbeddedStorage(settings.home) if settings.home is not None else None
        #: uids that are being worked on.
        self._busy: set[str] = set()

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
            await asyncio.to_thread(self._storage.remove, current, uid, leave_mark=self._settings.shared)
        except OSError as error:
            log.warning("a directory cannot be removed and is tried again", path=current, error=str(error))
            return
        await self._db.write(lambda tx: removals.clear(tx, uid))
