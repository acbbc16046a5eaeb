"""The whole service in this process: API, store, and the real controller over an engine that the test commands."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from tests.api.service import Service
from tests.specification.wire import Answer, Request, in_process
from tests.support.simulated_engine import SimulatedEngine
from trainshed.api import outputs
from trainshed.api.app import create_app
from trainshed.api.errors import ApiError
from trainshed.control.controller import Controller
from trainshed.control.settings import ControlSettings
from trainshed.engines.protocol import GangResult
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import jobs, operations
from trainshed.store.errors import or_none
from trainshed.store.records import JobRecord

#: Events of the log that tell of a fault of the service.
FAULTS = ("request failed", "controller pass failed", "engine call failed")
#: Seconds within which everything that was asked for has to be done.
PATIENCE = 20.0


class World:
    """A service whose controller does what it does in earnest, and whose jobs end when the test says so."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.engine = SimulatedEngine()
        self.controller = Controller(
            service.db,
            self.engine,
            service.vault.unseal_text,
            ControlSettings(
                clock=service.clock,
                slow_clock_seconds=0.2,
                local_sizes=service.services.local_sizes,
                home=service.home,
            ),
        )
        self.services = dataclasses.replace(
            service.services,
            wake=self.controller.wake,
            wake_queue=self.controller.wake_queue,
            explain=self.controller.explain,
            explain_fully=self.controller.explain_fully,
            queue=self.controller.queue,
            engine_available=lambda: self.controller.engine_available,
        )
        self.app = create_app(self.services)
        service.run(self.controller.start())

    def close(self) -> None:
        """Stop the controller."""
        self.service.run(self.controller.stop())

    def authorization(self) -> tuple[bytes, bytes]:
        """The header of somebody who may do everything."""
        return b"Authorization", f"Bearer {self.service.tokens.admin}".encode()

    def send(self, request: Request) -> Answer:
        """One request, a few milliseconds after the last."""
        self.service.clock.now += 7
        return self.service.run(in_process(self.app, request))

    def end_some(self, dice: random.Random) -> None:
        """Some running jobs end, some fail, some go on; most have written something."""
        for attempt_id in sorted(self.engine.live()):
            self._write_logs(attempt_id.rpartition("-")[0])
            match dice.randrange(5):
                case 0 | 1:
                    self.engine.end(attempt_id, GangResult.SUCCEEDED, exit_code=0)
                case 2:
                    reason = Reason(ReasonCode.JOB_FAILED, "Job failed with non-zero exit code")
                    self.engine.end(attempt_id, GangResult.FAILED, exit_code=2, reason=reason)
                case 3:
                    self.engine.end(attempt_id, GangResult.LOST, reason=Reason(ReasonCode.NODE_LOST, "The node died."))

    def settle(self) -> None:
        """Wait until every operation has ended."""
        self.service.run(self._settled())

    def until(self, check: Callable[[], bool]) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + PATIENCE
        while not check():
            assert time.monotonic() < deadline, "it did not come to be in time"
            self.service.run(asyncio.sleep(0.005))

    async def _settled(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while await self.service.db.read(_pending):
                self.service.clock.now += 1
                self.controller.wake()
                await asyncio.sleep(0.002)

    def _write_logs(self, uid: str) -> None:
        record = self.service.db.read_sync(lambda tx: or_none(jobs.get_by_uid, tx, uid))
        if record is None:
            return
        for directory_id in ("stdouterr", *(entry["id"] for entry in record.definition.get("outputDirectories") or [])):
            try:
                found = self.service.db.read_sync(partial(self._place, record, directory_id))
            except ApiError:
                continue
            if found.volume is not None:
                continue
            place = Path(found.path)
            (place / "folder").mkdir(parents=True, exist_ok=True)
            for name in ("stdout.txt", "execution.log"):
                (place / name).write_text("a line\n")

    def _place(self, record: JobRecord, directory_id: str, tx: Connection) -> outputs.Place:
        return outputs.place_of(tx, self.service.services, record, directory_id)


def _pending(tx: Connection) -> bool:
    return bool(operations.in_progress(tx))
