"""Jobs of an array take turns under the control loops."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import Connection, update

from tests.control.conftest import World
from tests.control.test_jobs import in_state, started
from tests.support.factories import EXPERIMENT_KEY, make_cluster, make_job
from trainshed.engines.protocol import GangResult
from trainshed.resources.conditions import Condition
from trainshed.resources.lifecycle import JobState, ProvisioningEvent
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import clusters, dependencies, experiments, job_arrays, jobs, tables
from trainshed.store.errors import or_none
from trainshed.store.records import JobRecord

pytestmark = pytest.mark.slow

Run = Callable[[Callable[[World], Awaitable[None]]], None]
LOST = Reason(ReasonCode.NODE_LOST, "Node n1 is gone.")


def array_of(tx: Connection, count: int, limit: int | None, nodes: int = 4) -> list[JobRecord]:
    """An array as the API stores it."""
    cluster = make_cluster(tx, nodes=nodes)
    key = f"{EXPERIMENT_KEY}/sweep"
    array = job_arrays.insert(
        tx, key=key, experiment_key=EXPERIMENT_KEY, name="sweep", definition={}, limit=limit, now=1
    )
    lines = [int(limit is not None and index >= limit) for index in range(count)]
    return [
        make_job(tx, cluster, f"sweep-{index}", array_id=array.id, waits_turn=in_line)
        for index, in_line in enumerate(lines)
    ]


def running(tx: Connection) -> int:
    return jobs.counts_by_state(tx)[JobState.RUNNING]


async def end(world: World, job: JobRecord, result: GangResult) -> None:
    attempt = await started(world, job)
    reason = LOST if result is GangResult.LOST else None
    world.engine.end(attempt.id, result, exit_code=None if reason else 0, reason=reason)


def test_no_more_than_it_says_run_at_once_and_all_come_to_run(run: Run) -> None:
    async def scenario(world: World) -> None:
        members = await world.write(lambda tx: array_of(tx, 6, 2))
        for number, job in enumerate(members):
            attempt = await started(world, job)
            if number + 1 < len(members):
                await started(world, members[number + 1])
                assert await world.db.read(running) == 2
            world.engine.end(attempt.id, GangResult.SUCCEEDED, exit_code=0)
            await world.until(in_state(job, JobState.SUCCEEDED))

    run(scenario)


def test_without_a_limit_all_run_at_once(run: Run) -> None:
    async def scenario(world: World) -> None:
        for job in await world.write(lambda tx: array_of(tx, 4, None)):
            await started(world, job)

    run(scenario)


def test_one_that_is_tried_again_keeps_its_turn(run: Run) -> None:
    async def scenario(world: World) -> None:
        first, second = await world.write(lambda tx: array_of(tx, 2, 1))
        await end(world, first, GangResult.LOST)
        await world.until(lambda tx: jobs.get_by_id(tx, first.id).attempts == 2)
        waiting = await world.db.read(lambda tx: jobs.get_by_id(tx, second.id))
        assert (waiting.execution, waiting.waits_turn) == (JobState.QUEUED, 1)
        why = await world.db.read(lambda tx: world.controller.explain(tx, waiting))
        assert why.code is ReasonCode.WAITING_FOR_ARRAY and "Array sweep lets 1 of its jobs" in why.text
        await end(world, first, GangResult.SUCCEEDED)
        await started(world, second)

    run(scenario)


@pytest.mark.parametrize("ending", [jobs.request_termination, jobs.request_deletion])
def test_the_turn_passes_on_when_one_is_taken_away(
    run: Run, ending: Callable[[Connection, int, int], JobRecord]
) -> None:
    async def scenario(world: World) -> None:
        first, second, third = await world.write(lambda tx: array_of(tx, 3, 1))
        await started(world, first)
        # The next in line goes, then the one that runs: the last one's turn has come.
        await world.write(lambda tx: ending(tx, second.id, 1))
        await world.until(lambda tx: (found := or_none(jobs.get_by_id, tx, second.id)) is None or found.ended_at)
        assert await world.db.read(lambda tx: jobs.get_by_id(tx, third.id).waits_turn) == 1
        await world.write(lambda tx: ending(tx, first.id, 1))
        await started(world, third)

    run(scenario)


def test_a_turn_that_was_not_given_is_given_by_the_next_full_pass(run: Run) -> None:
    async def scenario(world: World) -> None:
        def make(tx: Connection) -> list[JobRecord]:
            members = array_of(tx, 2, 1)
            # As if the first one's end had been recorded without it.
            values = {"execution": JobState.FAILED.value, "ended_at": 1}
            tx.execute(update(tables.jobs).where(tables.jobs.c.id == members[0].id).values(**values))
            return members

        _, second = await world.write(make)
        await started(world, second)

    run(scenario)


def test_an_array_is_terminated_while_jobs_wait_for_their_turn(run: Run) -> None:
    """None of the line starts in between."""

    async def scenario(world: World) -> None:
        members = await world.write(lambda tx: array_of(tx, 5, 2))
        for job in members[:2]:
            await started(world, job)
        await world.write(lambda tx: [jobs.request_termination(tx, job.id, 1) for job in members])
        for job in members:
            ended = await world.until(in_state(job, JobState.FAILED))
            assert ended is not None and ended.errors[0].code is ReasonCode.JOB_TERMINATED
        assert len(world.engine.started) == 2

    run(scenario)


def test_an_array_is_deleted_while_jobs_wait_for_their_turn(run: Run) -> None:
    """Those that run are stopped, none of the line starts, and one that waits for all of them goes on."""

    async def scenario(world: World) -> None:
        members = await world.write(lambda tx: array_of(tx, 4, 1))
        await started(world, members[0])

        def delete(tx: Connection) -> JobRecord:
            cluster = clusters.get(tx, members[0].cluster_key)
            last = make_job(tx, cluster, "report")
            dependencies.insert(tx, last.id, [(job.id, Condition.AFTER_ANY, job.name) for job in members])
            for job in members:
                jobs.request_deletion(tx, job.id, 1)
            job_arrays.delete(tx, job_arrays.get(tx, f"{EXPERIMENT_KEY}/sweep").id)
            return last

        await started(world, await world.write(delete))
        assert len(world.engine.started) == 2 and not await world.db.read(job_arrays.with_line)
        assert [await world.db.read(lambda tx, id=job.id: or_none(jobs.get_by_id, tx, id)) for job in members] == [
            None
        ] * 4

    run(scenario)


def test_an_array_goes_with_its_experiment(run: Run) -> None:
    async def scenario(world: World) -> None:
        await world.write(lambda tx: array_of(tx, 3, 1))
        await world.write(lambda tx: experiments.apply(tx, EXPERIMENT_KEY, ProvisioningEvent.DELETE_REQUESTED, 1))
        await world.until(lambda tx: or_none(experiments.get, tx, EXPERIMENT_KEY) is None)
        assert await world.db.read(lambda tx: or_none(job_arrays.get, tx, f"{EXPERIMENT_KEY}/sweep")) is None

    run(scenario)
