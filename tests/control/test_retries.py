"""retryPolicy under the control loops: who is tried again, when, and what it says meanwhile and in the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, update

from tests.control.conftest import World
from tests.control.test_jobs import LOST, in_state, started
from tests.support.factories import make_cluster, make_job
from trainshed.control.controller import Controller
from trainshed.control.settings import ControlSettings
from trainshed.engines.protocol import GangResult
from trainshed.resources.lifecycle import JobState
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import attempts, events, jobs, tables
from trainshed.store.encoding import to_json
from trainshed.store.records import ClusterRecord, JobRecord

pytestmark = pytest.mark.slow

Run = Callable[[Callable[[World], Awaitable[None]]], None]
FAILED = Reason(ReasonCode.JOB_FAILED, "Job failed with non-zero exit code")


def retrying(
    tx: Connection, cluster: ClusterRecord, name: str = "job", /, *, delay: str = "PT10S", **more: Any
) -> JobRecord:
    """A queued job with a retryPolicy."""
    backoff = {"initialDelay": delay, "multiplier": 2.0, "maxDelay": "PT10M"}
    job = make_job(tx, cluster, name)
    definition = {**job.definition, "retryPolicy": {"maxRetries": 2, "backoff": backoff, **more}}
    tx.execute(update(tables.jobs).where(tables.jobs.c.id == job.id).values(definition=to_json(definition)))
    return replace(job, definition=definition)


async def one(world: World, **more: Any) -> JobRecord:
    return await world.write(lambda tx: retrying(tx, make_cluster(tx, nodes=1), **more))


async def fail(world: World, job: JobRecord, exit_code: int | None = 3, reason: Reason = FAILED) -> None:
    attempt = await started(world, job)
    world.engine.end(attempt.id, GangResult.FAILED, exit_code=exit_code, reason=reason)


def test_a_failure_within_the_policy_waits_and_is_tried_again(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await one(world)
        await fail(world, job)
        queued = await world.until(in_state(job, JobState.QUEUED))
        assert queued is not None and queued.requeue_reason is not None
        assert (queued.retries, queued.lost_attempts, queued.attempts) == (1, 0, 1)
        assert queued.not_before == world.clock.now + 10_000
        assert queued.requeue_reason.code is ReasonCode.JOB_RETRIED
        assert "exit code 3" in queued.requeue_reason.text and "in 10 s" in queued.requeue_reason.text
        waiting = await world.db.read(lambda tx: world.controller.explain(tx, queued))
        assert waiting.code is ReasonCode.WAITING_FOR_RETRY and "in 10 s" in waiting.text
        world.clock.now += 10_000
        await started(world, job)

    run(scenario)


def test_it_is_not_placed_a_moment_before(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await one(world)
        await fail(world, job)
        await world.until(in_state(job, JobState.QUEUED))
        world.clock.now += 9_999
        # Another job takes the node, though it came later: so the scheduler has looked, and passed the first over.
        other = await world.write(lambda tx: make_job(tx, _cluster_of(tx, job), "other"))
        attempt = await started(world, other)
        found = await world.db.read(lambda tx: jobs.get_by_id(tx, job.id))
        assert found.execution is JobState.QUEUED
        ahead = await world.db.read(lambda tx: jobs.queue_ahead(tx, other, world.clock.now))
        assert ahead == (0, None)
        world.clock.now += 1
        world.engine.end(attempt.id, GangResult.SUCCEEDED, exit_code=0)
        await started(world, job)

    run(scenario)


def test_the_controller_wakes_itself(run: Run) -> None:
    async def scenario(world: World) -> None:
        await world.controller.stop()
        world.controller = Controller(
            world.db, world.engine, lambda sealed, owner: sealed.decode(), ControlSettings(slow_clock_seconds=3600)
        )
        await world.controller.start()
        job = await one(world, delay="PT0.2S")
        await fail(world, job)
        await world.until(in_state(job, JobState.QUEUED))
        second = await started(world, job)
        assert second.number == 2

    run(scenario)


def test_a_new_service_wakes_itself_for_an_old_ones_job(run: Run) -> None:
    async def scenario(world: World) -> None:
        settings = ControlSettings(slow_clock_seconds=3600)
        await world.controller.stop()
        world.controller = Controller(world.db, world.engine, lambda sealed, owner: sealed.decode(), settings)
        await world.controller.start()
        job = await one(world, delay="PT0.5S")
        await fail(world, job)
        await world.until(in_state(job, JobState.QUEUED))
        await world.controller.stop()
        world.controller = Controller(world.db, world.engine, lambda sealed, owner: sealed.decode(), settings)
        await world.controller.start()
        assert (await started(world, job)).number == 2

    run(scenario)


def test_the_last_failure_is_final_and_mentions_the_retries(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await one(world, delay="PT0S")
        for _ in range(3):
            await fail(world, job)
        done = await world.until(in_state(job, JobState.FAILED))
        assert done is not None
        assert (done.exit_code, done.attempts, done.retries) == (3, 3, 2)
        assert [error.code for error in done.errors] == [ReasonCode.JOB_FAILED, ReasonCode.RETRIES_EXHAUSTED]
        assert "tried again 2 times" in done.errors[1].text
        story = await world.db.read(lambda tx: events.page(tx, resource_key=job.key))
        assert [event.reason.code for event in story if event.event == "requeued" and event.reason] == [
            ReasonCode.JOB_RETRIED,
            ReasonCode.JOB_RETRIED,
        ]

    run(scenario)


def test_another_exit_code_after_a_retry_is_final_at_once(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await one(world, delay="PT0S", exitCodes=[3])
        await fail(world, job, 3)
        await fail(world, job, 4)
        done = await world.until(in_state(job, JobState.FAILED))
        assert done is not None and [error.code for error in done.errors] == [ReasonCode.JOB_FAILED]
        assert done.errors[0].details["retries"] == "1"

    run(scenario)


@pytest.mark.parametrize(
    ("exit_code", "code"),
    [(None, ReasonCode.JOB_WALL_CLOCK_EXCEEDED), (None, ReasonCode.JOB_LAUNCH_FAILED), (4, ReasonCode.JOB_FAILED)],
)
def test_what_the_policy_does_not_cover_is_final(run: Run, exit_code: int | None, code: ReasonCode) -> None:
    async def scenario(world: World) -> None:
        job = await one(world, exitCodes=[3])
        await fail(world, job, exit_code, Reason(code, "x"))
        done = await world.until(in_state(job, JobState.FAILED))
        assert done is not None and done.retries == 0 and [error.code for error in done.errors] == [code]

    run(scenario)


def test_a_preparation_that_fails_is_tried_again(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await one(world, delay="PT0S")
        await fail(world, job, 7, Reason(ReasonCode.JOB_PREPARATION_FAILED, "preparation"))
        assert (await started(world, job)).number == 2

    run(scenario)


def test_a_lost_attempt_is_no_retry(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await one(world)
        world.engine.end((await started(world, job)).id, GangResult.LOST, reason=LOST)

        def second(tx: Connection) -> JobRecord | None:
            found = jobs.get_by_id(tx, job.id)
            return found if found.attempts == 2 else None

        again = await world.until(second)
        assert again is not None and (again.retries, again.lost_attempts, again.not_before) == (0, 1, None)

    run(scenario)


def test_who_is_terminated_is_not_tried_again(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await one(world, delay="PT0S")
        attempt = await started(world, job)
        world.engine.ignore_stops = True
        await world.write(lambda tx: jobs.request_termination(tx, job.id, world.clock.now))
        world.engine.end(attempt.id, GangResult.FAILED, exit_code=143, reason=FAILED)
        done = await world.until(in_state(job, JobState.FAILED))
        assert done is not None and done.attempts == 1

    run(scenario)


def test_who_waits_for_its_retry_can_be_terminated(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await one(world)
        await fail(world, job)
        await world.until(in_state(job, JobState.QUEUED))
        await world.write(lambda tx: jobs.request_termination(tx, job.id, world.clock.now))
        done = await world.until(in_state(job, JobState.FAILED))
        assert done is not None and [error.code for error in done.errors] == [ReasonCode.JOB_TERMINATED]

    run(scenario)


def test_nodes_are_not_kept_for_a_job_that_waits_for_its_retry(run: Run) -> None:
    async def scenario(world: World) -> None:
        scale = {"autoScale": {"minimumNodeCount": 0, "maximumNodeCount": 2, "initialNodeCount": 0,
                               "idleTimeBeforeScaleDown": "PT0S"}}  # fmt: skip
        job = await world.write(lambda tx: retrying(tx, make_cluster(tx, scale=scale), delay="PT10M"))
        await fail(world, job)
        await world.until(in_state(job, JobState.QUEUED))
        await world.until(lambda tx: not world.engine.nodes)
        world.clock.now += 600_000
        assert (await started(world, job)).number == 2
        assert await world.db.read(lambda tx: attempts.live_of_job(tx, job.id)) is not None

    run(scenario)


def _cluster_of(tx: Connection, job: JobRecord) -> ClusterRecord:
    from trainshed.store import clusters

    return clusters.get_by_uid(tx, job.cluster_uid)
