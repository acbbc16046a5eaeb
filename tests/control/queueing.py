"""A service with an engine that queues by itself, for tests of what goes there and what comes back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from tests.support.factories import make_cluster, make_job
from tests.support.simulated_engine import SimulatedEngine
from trainshed.resources.lifecycle import JobState
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import attempts, jobs
from trainshed.store.records import AttemptRecord, ClusterRecord, JobRecord

if TYPE_CHECKING:
    from tests.control.conftest import World

HPC = {"name": "hpc", "options": {"partition": "gpu"}}
NODE_FAIL = Reason(ReasonCode.NODE_LOST, "Slurm: NODE_FAIL.")


class Site:
    """A service with its own engine and one that queues, and a cluster there."""

    def __init__(self, world: World, hpc: SimulatedEngine) -> None:
        self.world = world
        self.hpc = hpc

    async def cluster(self, *, limit: str = "job", **properties: Any) -> ClusterRecord:
        engine = {**HPC, "nodeLimit": limit}
        made = await self.world.write(lambda tx: make_cluster(tx, "big", engine=engine, **properties))
        await self.world.until(lambda tx: made.uid in self.hpc.clusters)
        return made

    async def job(self, cluster: ClusterRecord, name: str = "job", **members: Any) -> JobRecord:
        return await self.world.write(lambda tx: make_job(tx, cluster, name, **members))

    async def handed(self, job: JobRecord, number: int = 1) -> AttemptRecord:
        """The attempt, once the engine has it."""

        def found(tx: Connection) -> AttemptRecord | None:
            live = attempts.live_of_job(tx, job.id)
            return live if live and live.number == number and live.id in self.hpc.gangs else None

        attempt = await self.world.until(found)
        assert attempt is not None
        return attempt

    async def now(self, job: JobRecord) -> JobRecord:
        return await self.world.db.read(lambda tx: jobs.get_by_id(tx, job.id))

    async def why(self, job: JobRecord) -> Reason:
        return await self.world.db.read(lambda tx: self.world.controller.explain(tx, jobs.get_by_id(tx, job.id)))

    async def until_state(self, job: JobRecord, state: JobState) -> JobRecord:
        await self.world.until(lambda tx: jobs.get_by_id(tx, job.id).execution is state)
        return await self.now(job)


Scenario = Callable[[Site], Awaitable[None]]
