"""A Slurm site by slurmrestd (``slurm.site.Site``)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from trainshed.engines.protocol import EngineUnavailable
from trainshed.engines.slurm.commands import OF_THE_SERVICE, Refused
from trainshed.engines.slurm.owners import Owner
from trainshed.engines.slurm.parsing import NodeLine, QueueLine
from trainshed.engines.slurm.rest import shapes
from trainshed.engines.slurm.rest.connection import Connection
from trainshed.engines.slurm.rest.submission import request
from trainshed.engines.slurm.settings import InvalidSettings
from trainshed.resources.reasons import Reason, ReasonCode


class RestSite:
    """Speaks through a connection. ``environment``: what jobs get, as ``sbatch`` would pass it on."""

    def __init__(self, connection: Connection, environment: Mapping[str, str]) -> None:
        self._connection = connection
        self._environment = {name: value for name, value in environment.items() if name not in OF_THE_SERVICE}

    @property
    def place(self) -> str:
        """Where slurmrestd is, and the version that was agreed upon."""
        return self._connection.place

    async def close(self) -> None:
        """Let go of the connection."""
        await self._connection.close()

    async def queue(self, users: Collection[Owner] = (), *, ended: bool = False) -> list[QueueLine]:
        """All that slurmctld knows: there is no shorter list."""
        own, others = await self._connection.user(), {user.uid for user in users}
        found = shapes.queue_lines(await self._ask("jobs"))
        # Where it does not say whose a job is, the comment alone decides.
        return [line for name, line in found if name in (own, "") or line.uid in others]

    async def nodes(self) -> list[NodeLine]:
        """Nodes and partitions."""
        nodes, partitions = await asyncio.gather(self._ask("nodes"), self._ask("partitions"))
        return shapes.node_lines(nodes, partitions)

    async def config(self) -> dict[str, str]:
        """Is not told."""
        return {}

    async def version(self) -> str:
        """Out of an answer to ping."""
        told = await self._ask("ping")
        pings = [one for one in told.get("pings") or [] if isinstance(one, dict)]
        if pings and not any("UP" in shapes.words(one.get("ping", one.get("pinged"))) for one in pings):
            raise EngineUnavailable(self._says("no slurmctld answers its ping"))
        return f"slurm {shapes.release(told)}".strip()

    async def ended(self, jobs: Collection[str]) -> dict[str, str]:
        """One call each, of few: accounting's list of all jobs is long."""
        if not await self._connection.offers("slurmdb", "job/{job_id}"):
            return {}
        found: dict[str, str] = {}
        for job in jobs:
            with suppress(Refused, EngineUnavailable):
                states = shapes.final_states(await self._connection.get(f"job/{job}", "slurmdb"))
                if state := states.get(job.partition("_")[0]):
                    found[job] = state
        return found

    async def cancel(self, jobs: Collection[str], user: Owner | None = None) -> None:
        """One call each."""
        results = await asyncio.gather(
            *(self._connection.delete(f"job/{job}", _name(user)) for job in jobs), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, Refused):
                raise result

    async def submit(self, arguments: list[str], script: str, user: Owner | None = None) -> str:
        """The number of a job of this user; a token of Slurm's own user or root may submit for others."""
        version = await self._connection.version()
        environment = self._environment | (user.environment if user is not None else {})
        try:
            body = request(arguments, script, environment, version)
        except InvalidSettings as error:
            raise Refused(str(error)) from error
        told = await self._connection.post("job/submit", body, _name(user))
        job = shapes.submitted(told)
        if not job:
            raise Refused(f"slurmrestd said no number of a job: {str(told)[:200]}")
        return job

    async def associations(self) -> set[tuple[str, str]]:
        """Of slurmdbd, where slurmrestd has it."""
        if not await self._connection.offers("slurmdb", "associations"):
            raise Refused("slurmrestd has no accounting")
        return shapes.associations(await self._connection.get("associations", "slurmdb"))

    async def try_out(self, arguments: list[str], user: Owner | None = None) -> bool:
        """It has no word for it."""
        return False

    async def _ask(self, name: str) -> dict[str, Any]:
        try:
            told = await self._connection.get(name)
        except Refused as error:
            raise EngineUnavailable(self._says(str(error))) from error
        return told if isinstance(told, dict) else {}

    def _says(self, said: str) -> Reason:
        return Reason(ReasonCode.ENGINE_UNAVAILABLE, f"{self.place} says: {said}.", {"said": said[:500]})


def _name(user: Owner | None) -> str:
    return user.name if user is not None else ""
