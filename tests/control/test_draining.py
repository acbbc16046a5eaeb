"""Finishing what runs and starting nothing more."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from tests.control.conftest import World
from tests.support.factories import make_cluster, make_job
from trainshed.engines.protocol import GangResult
from trainshed.resources.lifecycle import JobState
from trainshed.resources.reasons import ReasonCode
from trainshed.store import attempts, draining, jobs, nodes

pytestmark = pytest.mark.slow


def test_running_jobs_go_on_to_their_end_and_no_other_starts(run: Callable[..., None]) -> None:
    async def scenario(world: World) -> None:
        cluster = await world.write(lambda tx: make_cluster(tx, nodes=2))
        one = await world.write(lambda tx: make_job(tx, cluster, "one", nodes=2))
        attempt = await world.until(lambda tx: attempts.live_of_job(tx, one.id))
        await world.db.write(lambda tx: draining.request(tx, "d"))
        two = await world.write(lambda tx: make_job(tx, cluster, "two"))
        reason = await world.db.read(lambda tx: world.controller.explain(tx, two))
        assert reason.code is ReasonCode.SERVICE_DRAINING
        assert "--no-drain" in reason.text
        assert not await world.db.read(lambda tx: draining.last(tx).done)
        world.engine.end(attempt.id, GangResult.SUCCEEDED)
        drain = await world.until(lambda tx: (last := draining.last(tx)) and last.done and last)
        # Done, but this process was there before: it starts nothing, whatever else it looks at, until it leaves.
        world.controller.wake()
        await world.until(nodes.any_idle)
        assert await world.db.read(lambda tx: jobs.get_by_id(tx, one.id).execution) is JobState.SUCCEEDED
        assert await world.db.read(lambda tx: attempts.of_job(tx, two.id)) == []
        await world.controller.stop()
        world.settings = dataclasses.replace(world.settings, drain_known=drain.id)
        world.controller = type(world.controller)(world.db, world.engine, lambda *_: "", world.settings)
        await world.controller.start()
        assert await world.until(lambda tx: attempts.live_of_job(tx, two.id))

    run(scenario)


def test_taken_back_jobs_start_again(run: Callable[..., None]) -> None:
    async def scenario(world: World) -> None:
        cluster = await world.write(lambda tx: make_cluster(tx, nodes=2))
        one = await world.write(lambda tx: make_job(tx, cluster, "one"))
        await world.until(lambda tx: attempts.live_of_job(tx, one.id))
        await world.db.write(lambda tx: draining.request(tx, "d"))
        two = await world.write(lambda tx: make_job(tx, cluster, "two"))
        await world.until(nodes.any_idle)
        # Quick looks at the queue find nothing to do meanwhile, and must not conclude that there are no nodes.
        world.controller.wake_queue()
        await world.db.write(draining.take_back)
        world.controller.wake_queue()
        assert await world.until(lambda tx: attempts.live_of_job(tx, two.id))

    run(scenario)
