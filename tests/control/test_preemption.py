"""Jobs that make room for others, under the control loops: warned, stopped, queued again and not blamed."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection

from tests.control.conftest import World
from tests.control.test_jobs import Run, in_state, one_job, started
from trainshed.control.actions import Actions
from trainshed.control.endings import stop_attempt
from trainshed.engines.protocol import GangResult
from trainshed.resources.lifecycle import AttemptState, JobState
from trainshed.resources.preemption import StopWarning
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import attempts, events, jobs
from trainshed.store.records import AttemptRecord, JobRecord

pytestmark = pytest.mark.slow

WANTED = Reason(ReasonCode.PREEMPTED, "somebody is more urgent")
FAILED = Reason(ReasonCode.JOB_FAILED, "Job failed with non-zero exit code")
WARNING = StopWarning("SIGUSR2", 30.0)


async def warned(world: World, job: JobRecord, warning: StopWarning | None = WARNING) -> AttemptRecord:
    """The job runs, and has been warned."""
    attempt = await started(world, job)
    await world.write(lambda tx: attempts.request_stop(tx, attempt.id, world.clock.now, WANTED, "requeue", warning))
    if warning is not None:
        await world.until(lambda tx: attempt.id in world.engine.warned)
    return attempt


@pytest.mark.parametrize(
    ("result", "code", "reason"),
    [
        (GangResult.STOPPED, None, WANTED),
        (GangResult.STOPPED, 1, WANTED),
        # The engine did not know yet that it was warned, or had forgotten it.
        (GangResult.FAILED, 1, FAILED),
        (GangResult.LOST, None, Reason(ReasonCode.NODE_LOST, "gone")),
    ],
)
def test_it_is_queued_again_and_not_blamed(run: Run, result: GangResult, code: int | None, reason: Reason) -> None:
    async def scenario(world: World) -> None:
        job = await one_job(world)
        attempt = await warned(world, job)
        assert world.engine.warned[attempt.id] == WARNING
        assert attempt.id in world.engine.live()
        world.engine.end(attempt.id, result, exit_code=code, reason=reason)
        again = await started_again(world, job, attempt)
        found = await world.db.read(lambda tx: jobs.get_by_id(tx, job.id))
        assert (found.preemptions, found.lost_attempts, found.retries, found.requeue_reason) == (1, 0, 0, WANTED)
        first = await world.db.read(lambda tx: attempts.get(tx, attempt.id))
        assert first.state is (AttemptState.LOST if result is GangResult.LOST else AttemptState.STOPPED)
        assert first.exit_code == code
        world.engine.end(again.id, GangResult.SUCCEEDED, exit_code=0)
        await world.until(in_state(job, JobState.SUCCEEDED))

    run(scenario)


async def started_again(world: World, job: JobRecord, before: AttemptRecord) -> AttemptRecord:
    def check(tx: Connection) -> AttemptRecord | None:
        attempt = attempts.live_of_job(tx, job.id)
        return attempt if attempt and attempt.id != before.id and attempt.id in world.engine.live() else None

    found = await world.until(check)
    assert found is not None and found.number == before.number + 1
    return found


def test_who_exits_with_0_has_done_its_work(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await one_job(world)
        attempt = await warned(world, job)
        world.engine.end(attempt.id, GangResult.SUCCEEDED, exit_code=0)
        done = await world.until(in_state(job, JobState.SUCCEEDED))
        assert done is not None and (done.preemptions, done.attempts) == (0, 1)

    run(scenario)


@pytest.mark.parametrize("code", [ReasonCode.JOB_WALL_CLOCK_EXCEEDED, ReasonCode.JOB_DISK_LIMIT_EXCEEDED])
def test_limits_are_not_excused(run: Run, code: ReasonCode) -> None:
    async def scenario(world: World) -> None:
        job = await one_job(world)
        attempt = await warned(world, job)
        world.engine.end(attempt.id, GangResult.FAILED, reason=Reason(code, "too much"))
        done = await world.until(in_state(job, JobState.FAILED))
        assert done is not None and [error.code for error in done.errors] == [code]

    run(scenario)


def test_terminating_it_does_not_wait_for_the_warning(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await one_job(world)
        attempt = await warned(world, job)
        await world.write(lambda tx: jobs.request_termination(tx, job.id, world.clock.now))
        done = await world.until(in_state(job, JobState.FAILED))
        assert done is not None and [error.code for error in done.errors] == [ReasonCode.JOB_TERMINATED]
        assert (await world.db.read(lambda tx: attempts.get(tx, attempt.id))).stop_warning is None

    run(scenario)


def test_a_service_that_comes_again_warns_again(run: Run) -> None:
    """The engine may not have heard the first time; if it has, hearing it again changes nothing."""

    async def scenario(world: World) -> None:
        job = await one_job(world)
        attempt = await started(world, job)
        await world.controller.stop()
        await world.db.write(
            lambda tx: attempts.request_stop(tx, attempt.id, world.clock.now, WANTED, "requeue", WARNING)
        )
        world.controller = world.make_controller()
        await world.controller.start()
        await world.until(lambda tx: world.engine.warned.get(attempt.id) == WARNING)

    run(scenario)


def test_without_a_warning_it_is_stopped_at_once(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await one_job(world)
        attempt = await warned(world, job, None)
        await started_again(world, job, attempt)
        assert world.engine.warned == {}
        assert (await world.db.read(lambda tx: jobs.get_by_id(tx, job.id))).preemptions == 1

    run(scenario)


def test_a_sooner_stop_is_told_to_the_engine_and_a_later_one_is_not(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await one_job(world)
        attempt = await started(world, job)
        await world.controller.stop()

        def stop(tx: Connection, warning: StopWarning | None) -> Any:
            actions = Actions()
            stop_attempt(tx, attempts.get(tx, attempt.id), WANTED, "requeue", actions, 1, warning)
            return actions.stops[0].warning, attempts.get(tx, attempt.id).stop_warning

        asked = [await world.db.write(lambda tx, w=w: stop(tx, w)) for w in (WARNING, WARNING, None, WARNING)]
        assert asked == [(WARNING, WARNING), (WARNING, WARNING), (None, None), (None, None)]

    run(scenario)


def test_the_story_says_what_happened(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await one_job(world)
        attempt = await warned(world, job)
        world.engine.end(attempt.id, GangResult.FAILED, exit_code=3, reason=FAILED)
        await started_again(world, job, attempt)
        story = await world.db.read(lambda tx: events.page(tx, resource_key=job.key))
        told = [(e.kind, e.event, e.reason and e.reason.code.value, e.details.get("exitCode")) for e in story]
        assert ("attempt", "stop-requested", "Preempted", None) in told
        assert ("attempt", "stopped", "Preempted", 3) in told
        assert ("job", "requeued", "Preempted", None) in told

    run(scenario)
