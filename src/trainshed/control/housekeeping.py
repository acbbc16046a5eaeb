"""Directories below the home that come and go with resources, made and removed outside of transactions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from trainshed.control.actions import Actions, MakeFileServer
from trainshed.control.file_servers import record_made
from trainshed.control.settings import ControlSettings
from trainshed.store import removals
from trainshed.store.database import Database
from trainshed.volumes.embedded import EmbeddedStorage

log = structlog.get_logger(__name__)


class Housekeeping:
    """Carries out what passes found, each piece once at a time. What fails is found again by the next full pass."""

    def __init__(self, db: Database, settings: ControlSettings, wake: Callable[[], None]) -> None:
        self._db = db
        self._settings = settings
        self._wake = wake
        self._storage = EmbeddedStorage(settings.home) if settings.home is not None else None
        #: uids that are being worked on.
        self._busy: set[str] = set()

    async def carry_out(self, actions: Actions) -> None:
        """Make and remove what the pass asked for."""
        for made in actions.make_file_servers:
            if made.uid not in self._busy:
                self._busy.add(made.uid)
                try:
                    await self._make(made)
                finally:
                    self._busy.discard(made.uid)
        for uid in actions.remove_directories:
            if uid not in self._busy:
                self._busy.add(uid)
                try:
                    await self._remove(uid)
                finally:
                    self._busy.discard(uid)

    async def _make(self, made: MakeFileServer) -> None:
        failure: str | None = None
        if self._storage is not None:
            try:
                await asyncio.to_thread(self._storage.make_file_server, made.uid)
            except OSError as error:
                failure = f"its directory could not be made ({error.strerror or error})"
        await self._db.write(lambda tx: record_made(tx, made, self._settings, failure))
        self._wake()

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
