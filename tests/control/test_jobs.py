"""The life of a job under the control loops: placed once, ended once, queued again with a reason."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sqlalchemy import Connection

from tests.control.conftest import World
from tests.support.factories import make_cluster, make_job
from trainshed.engines.protocol import GangResult
from trainshed.resources.lifecycle import AttemptState, JobState
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import attempts, jobs
from trainshed.store.errors import or_none
from trainshed.store.records import AttemptRecord, JobRecord

Run = Callable[[Callable[[World], Awaitable[None]]], None]

LOST = Reason(ReasonCode.NODE_LOST, "Node n1 is gone.")


def found_job(tx: Connection, job_id: int) -> JobRecord | None:
    return or_none(jobs.get_by_id, tx, job_id)


def in_state(job: JobRecord, *states: JobState) -> Callable[[Connection], JobRecord | None]:
    def check(tx: Connection) -> JobRecord | None:
        found = found_job(tx, job.id)
        return found if found is not None and found.execution in states else None

    return check


async def one_job(world: World, **more: object) -> JobRecord:
    async def both() -> JobRecord:
        return await world.write(lambda tx: make_job(tx, make_cluster(tx), **more))

    return await both()


async def started(world: World, job: JobRecord) -> AttemptRecord:
    """The live attempt, once the engine runs it."""

    def check(tx: Connection) -> AttemptRecord | None:
        attempt = attempts.live_of_job(tx, job.id)
        return attempt if attempt is not None and attempt.id in world.engine.live() else None

    found = await world.until(check)
    assert found is not None
    return found


def test_a_job_runs_and_succeeds_once(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await one_job(world, nodes=2)
        attempt = await started(world, job)
        assert len(attempt.node_ids) == 2
        world.engine.end(attempt.id, GangResult.SUCCEEDED, exit_code=0)
        done = await world.until(in_state(job, JobState.SUCCEEDED))
        assert done is not None and done.exit_code == 0 and done.attempts == 1
        await world.until(lambda tx: attempt.id in world.engine.forgotten)
        assert set(world.engine.started) == {attempt.id}

    run(scenario)


def test_the_start_is_recorded_as_running(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await one_job(world)
        attempt = await started(world, job)
        await world.until(lambda tx: attempts.get(tx, attempt.id).state is AttemptState.RUNNING)

    run(scenario)


def test_failure_keeps_exit_code_and_error(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await one_job(world)
        attempt = await started(world, job)
        error = Reason(ReasonCode.JOB_FAILED, "Job failed with non-zero exit code")
        world.engine.end(attempt.id, GangResult.FAILED, exit_code=3, reason=error)
        done = await world.until(in_state(job, JobState.FAILED))
        assert done is not None and done.exit_code == 3 and done.errors == (error,)

    run(scenario)


def test_a_lost_message_is_made_good_by_the_view(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await one_job(world)
        attempt = await started(world, job)
        world.engine.end(attempt.id, GangResult.SUCCEEDED, exit_code=0, tell=False)
        await world.until(in_state(job, JobState.SUCCEEDED))

    run(scenario)


def test_a_doubled_message_changes_nothing(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await one_job(world)
        attempt = await started(world, job)
        world.engine.end(attempt.id, GangResult.LOST, reason=LOST)
        world.engine.end(attempt.id, GangResult.LOST, reason=LOST)
        second = await started(world, job)
        assert second.id != attempt.id
        world.engine.end(attempt.id, GangResult.FAILED, exit_code=1)  # A straggler of the first attempt.
        world.engine.end(second.id, GangResult.SUCCEEDED, exit_code=0)
        done = await world.until(in_state(job, JobState.SUCCEEDED))
        assert done is not None and done.attempts == 2 and done.lost_attempts == 1

    run(scenario)


def test_a_lost_attempt_queues_the_job_again_with_the_reason(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await one_job(world)
        attempt = await started(world, job)
        world.engine.end(attempt.id, GangResult.LOST, reason=LOST)
        second = await started(world, job)
        record = await world.db.read(lambda tx: found_job(tx, job.id))
        assert second.number == 2
        assert record is not None and record.requeue_reason == LOST

    run(scenario)


def test_a_job_that_loses_every_attempt_is_given_up(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await one_job(world)
        for _ in range(3):
            attempt = await started(world, job)
            world.engine.end(attempt.id, GangResult.LOST, reason=LOST)
            await world.until(lambda tx, a=attempt: attempts.get(tx, a.id).state is AttemptState.LOST)
        done = await world.until(in_state(job, JobState.FAILED))
        assert done is not None and done.errors[0].code is ReasonCode.TOO_MANY_LOST_ATTEMPTS

    run(scenario)


def test_a_start_that_never_reached_the_engine_is_repeated_with_the_same_id(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.engine.ignore_starts = True
        job = await one_job(world)
        attempt = await world.until(lambda tx: attempts.live_of_job(tx, job.id))
        assert attempt is not None
        world.engine.ignore_starts = False
        assert (await started(world, job)).id == attempt.id

    run(scenario)


def test_a_start_that_the_engine_refuses_queues_the_job_again(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.engine.start_refusal = LOST
        job = await one_job(world)
        await world.until(lambda tx: (found := found_job(tx, job.id)) and found.lost_attempts >= 1)
        world.engine.start_refusal = None
        found = await world.until(in_state(job, JobState.RUNNING, JobState.FAILED))
        assert found is not None

    run(scenario)


def test_terminate_while_queued(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await world.write(lambda tx: make_job(tx, make_cluster(tx, nodes=0)))
        world.clock.now += 5
        await world.write(lambda tx: jobs.request_termination(tx, job.id, world.clock.now))
        done = await world.until(in_state(job, JobState.FAILED))
        assert done is not None
        assert done.errors[0].code is ReasonCode.JOB_TERMINATED
        assert done.exit_code is None
        assert done.started_at == world.clock.now and done.ended_at == world.clock.now

    run(scenario)


def test_terminate_while_running(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await one_job(world)
        attempt = await started(world, job)
        await world.write(lambda tx: jobs.request_termination(tx, job.id, world.clock.now))
        done = await world.until(in_state(job, JobState.FAILED))
        assert done is not None and done.errors[0].code is ReasonCode.JOB_TERMINATED and done.exit_code is None
        assert world.engine.stopped[0][0] == attempt.id

    run(scenario)


def test_a_terminated_job_whose_node_dies_is_not_run_again(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.engine.ignore_stops = True
        job = await one_job(world)
        attempt = await started(world, job)
        await world.write(lambda tx: jobs.request_termination(tx, job.id, world.clock.now))
        await world.until(lambda tx: bool(world.engine.stopped))
        world.engine.end(attempt.id, GangResult.LOST, reason=LOST)
        done = await world.until(in_state(job, JobState.FAILED))
        assert done is not None and done.errors[0].code is ReasonCode.JOB_TERMINATED and done.attempts == 1

    run(scenario)


def test_success_that_beats_the_stop_counts(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.engine.ignore_stops = True
        job = await one_job(world)
        attempt = await started(world, job)
        await world.write(lambda tx: jobs.request_termination(tx, job.id, world.clock.now))
        await world.until(in_state(job, JobState.TERMINATING))
        world.engine.end(attempt.id, GangResult.SUCCEEDED, exit_code=0)
        await world.until(in_state(job, JobState.SUCCEEDED))

    run(scenario)


def test_delete_while_running_stops_it_first(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await one_job(world)
        attempt = await started(world, job)
        await world.write(lambda tx: jobs.request_deletion(tx, job.id, world.clock.now))
        await world.until(lambda tx: found_job(tx, job.id) is None)
        assert attempt.id not in world.engine.live()

    run(scenario)


def test_an_overdue_attempt_is_stopped_and_the_job_fails(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await one_job(world, wall_clock_seconds=10)
        await started(world, job)
        world.clock.now += 71_000
        done = await world.until(in_state(job, JobState.FAILED))
        assert done is not None and done.errors[0].code is ReasonCode.JOB_WALL_CLOCK_EXCEEDED

    run(scenario)


def test_a_new_controller_finds_running_gangs_again(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await one_job(world)
        attempt = await started(world, job)
        await world.controller.stop()
        world.engine.end(attempt.id, GangResult.SUCCEEDED, exit_code=0)  # Nobody listens.
        world.controller = world.make_controller()
        await world.controller.start()
        done = await world.until(in_state(job, JobState.SUCCEEDED))
        assert done is not None and done.attempts == 1

    run(scenario)


def test_an_engine_that_is_down_loses_nothing(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.engine.down = True
        job = await one_job(world)
        await world.until(lambda tx: not world.controller.engine_available)
        world.engine.down = False
        attempt = await started(world, job)
        world.engine.end(attempt.id, GangResult.SUCCEEDED, exit_code=0)
        await world.until(in_state(job, JobState.SUCCEEDED))

    run(scenario)
