"""Jobs that wait for others under the control loops: when they join the queue, when they never can."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import pytest
from sqlalchemy import Connection

from tests.control.conftest import World
from tests.control.test_jobs import found_job, in_state, started
from tests.support.factories import EXPERIMENT_KEY, WORKSPACE_KEY, make_cluster, make_job, waiting_in
from trainshed.control import dependencies as rules
from trainshed.control.controller import Controller
from trainshed.control.settings import ControlSettings
from trainshed.engines.protocol import GangResult
from trainshed.resources.conditions import Condition
from trainshed.resources.lifecycle import JobState, ProvisioningEvent, ProvisioningState
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import clusters, dependencies, experiments, jobs
from trainshed.store.records import ClusterRecord, ExperimentRecord, JobRecord

pytestmark = pytest.mark.slow

Run = Callable[[Callable[[World], Awaitable[None]]], None]
FAILED = Reason(ReasonCode.JOB_FAILED, "Job failed with non-zero exit code")
LOST = Reason(ReasonCode.NODE_LOST, "Node n1 is gone.")


def waiting_job(
    tx: Connection,
    cluster: ClusterRecord,
    name: str,
    on: Sequence[tuple[JobRecord, Condition]],
    experiment: str = "exp",
) -> JobRecord:
    """A job that waits for others."""
    job = make_job(tx, cluster, name, experiment=experiment)
    dependencies.insert(tx, job.id, [(other.id, condition, other.name) for other, condition in on])
    return jobs.get_by_id(tx, job.id)


async def pair(world: World, condition: Condition, nodes: int = 2) -> tuple[JobRecord, JobRecord]:
    """Job ``first``, and ``second`` that waits for it, on a cluster with room for both."""

    def make(tx: Connection) -> tuple[JobRecord, JobRecord]:
        cluster = make_cluster(tx, nodes=nodes)
        first = make_job(tx, cluster, "first")
        return first, waiting_job(tx, cluster, "second", [(first, condition)])

    return await world.write(make)


async def end(world: World, job: JobRecord, result: GangResult, exit_code: int | None = None) -> None:
    attempt = await started(world, job)
    reason = {GangResult.FAILED: FAILED, GangResult.LOST: LOST}.get(result)
    world.engine.end(attempt.id, result, exit_code=exit_code, reason=reason)


async def passed_over(world: World, job: JobRecord) -> None:
    """The scheduler looked, with idle nodes, and the job did not start."""
    cluster = await world.db.read(lambda tx: clusters.get(tx, job.cluster_key))
    probe = await world.write(lambda tx: make_job(tx, cluster, f"probe-{job.name}"))
    attempt = await started(world, probe)
    found = await world.db.read(lambda tx: jobs.get_by_id(tx, job.id))
    assert (found.execution, found.attempts, found.blocked) == (JobState.QUEUED, 0, 1)
    world.engine.end(attempt.id, GangResult.SUCCEEDED, exit_code=0)
    await world.until(in_state(probe, JobState.SUCCEEDED))


def test_after_ok_starts_when_the_other_has_succeeded(run: Run) -> None:
    async def scenario(world: World) -> None:
        first, second = await pair(world, Condition.AFTER_OK)
        attempt = await started(world, first)
        await passed_over(world, second)
        why = await world.db.read(lambda tx: world.controller.explain(tx, second))
        assert why.code is ReasonCode.WAITING_FOR_DEPENDENCIES and "first to succeed (running)" in why.text
        world.engine.end(attempt.id, GangResult.SUCCEEDED, exit_code=0)
        await started(world, second)

    run(scenario)


def test_after_starts_beside_the_other(run: Run) -> None:
    async def scenario(world: World) -> None:
        first, second = await pair(world, Condition.AFTER)
        await started(world, second)
        assert await world.db.read(in_state(first, JobState.RUNNING))

    run(scenario)


def test_after_of_one_that_is_tried_again_is_met(run: Run) -> None:
    async def scenario(world: World) -> None:
        first, second = await pair(world, Condition.AFTER, nodes=1)
        await end(world, first, GangResult.LOST)
        # The first has its old place in the queue, before the second.
        await end(world, first, GangResult.SUCCEEDED, 0)
        await started(world, second)

    run(scenario)


def test_after_ok_waits_while_the_other_is_tried_again(run: Run) -> None:
    async def scenario(world: World) -> None:
        first, second = await pair(world, Condition.AFTER_OK)
        attempt = await started(world, first)
        world.engine.end(attempt.id, GangResult.LOST, reason=LOST)
        await world.until(lambda tx: jobs.get_by_id(tx, first.id).attempts == 2)
        await passed_over(world, second)

    run(scenario)


@pytest.mark.parametrize("condition", [Condition.AFTER_OK, Condition.AFTER_ANY])
def test_the_others_failure_fails_it_or_lets_it_go(run: Run, condition: Condition) -> None:
    async def scenario(world: World) -> None:
        first, second = await pair(world, condition)
        await end(world, first, GangResult.FAILED, 3)
        if condition is Condition.AFTER_ANY:
            await started(world, second)
            return
        failed = await world.until(in_state(second, JobState.FAILED))
        assert failed is not None and (failed.attempts, failed.blocked, failed.exit_code) == (0, 0, None)
        [error] = failed.errors
        assert error.code is ReasonCode.DEPENDENCY_FAILED and "job first" in error.text and "failed" in error.text

    run(scenario)


@pytest.mark.parametrize("condition", list(Condition))
def test_the_other_is_deleted_before_it_ran(run: Run, condition: Condition) -> None:
    async def scenario(world: World) -> None:
        def make(tx: Connection) -> tuple[JobRecord, JobRecord]:
            empty = make_cluster(tx, "empty", nodes=0)
            first = make_job(tx, empty, "first")
            return first, waiting_job(tx, make_cluster(tx), "second", [(first, condition)])

        first, second = await world.write(make)
        await world.write(lambda tx: jobs.request_deletion(tx, first.id, 1))
        if condition is Condition.AFTER_ANY:
            await started(world, second)
            return
        failed = await world.until(in_state(second, JobState.FAILED))
        assert failed is not None and "that one was deleted" in failed.errors[0].text

    run(scenario)


@pytest.mark.parametrize("condition", [Condition.AFTER, Condition.AFTER_ANY])
def test_the_other_is_terminated_before_it_ran(run: Run, condition: Condition) -> None:
    async def scenario(world: World) -> None:
        def make(tx: Connection) -> tuple[JobRecord, JobRecord]:
            first = make_job(tx, make_cluster(tx, "empty", nodes=0), "first")
            return first, waiting_job(tx, make_cluster(tx), "second", [(first, condition)])

        first, second = await world.write(make)
        await world.write(lambda tx: jobs.request_termination(tx, first.id, 1))
        if condition is Condition.AFTER_ANY:
            await started(world, second)
            return
        failed = await world.until(in_state(second, JobState.FAILED))
        assert failed is not None and "ended without having started" in failed.errors[0].text

    run(scenario)


def test_all_conditions_must_be_met(run: Run) -> None:
    async def scenario(world: World) -> None:
        def make(tx: Connection) -> list[JobRecord]:
            cluster = make_cluster(tx, nodes=3)
            one, two = (make_job(tx, cluster, name) for name in ("one", "two"))
            on = [(one, Condition.AFTER), (one, Condition.AFTER_OK), (two, Condition.AFTER_ANY)]
            return [one, two, waiting_job(tx, cluster, "both", on)]

        one, two, both = await world.write(make)
        assert both.blocked == 3
        await end(world, one, GangResult.SUCCEEDED, 0)
        await world.until(in_state(one, JobState.SUCCEEDED))
        await passed_over(world, both)
        await end(world, two, GangResult.FAILED, 1)
        await started(world, both)

    run(scenario)


def test_a_chain_of_a_thousand_fails_from_end_to_end(run: Run) -> None:
    """In one transaction and without recursion."""

    async def scenario(world: World) -> None:
        def make(tx: Connection) -> tuple[JobRecord, list[JobRecord]]:
            cluster = make_cluster(tx, nodes=1)
            chain = [first := make_job(tx, cluster, "first")]
            for number in range(1000):
                chain.append(waiting_job(tx, cluster, f"j{number}", [(chain[-1], Condition.AFTER_OK)]))
            return first, chain

        first, chain = await world.write(make)
        await end(world, first, GangResult.FAILED, 1)
        last = await world.until(in_state(chain[-1], JobState.FAILED), seconds=60)
        assert last is not None and last.errors[0].details["job"] == "j998"
        counts = await world.db.read(jobs.counts_by_state)
        assert counts[JobState.FAILED] == 1001 and counts[JobState.QUEUED] == 0

    run(scenario)


def test_more_than_one_transaction_may_take_are_failed_by_the_next(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "FAILED_AT_ONCE", 3)

    async def scenario(world: World) -> None:
        def make(tx: Connection) -> JobRecord:
            cluster = make_cluster(tx, nodes=1)
            first = make_job(tx, cluster, "first")
            for number in range(10):
                waiting_job(tx, cluster, f"j{number}", [(first, Condition.AFTER_OK)])
            return first

        await end(world, await world.write(make), GangResult.FAILED, 1)
        await world.until(lambda tx: jobs.counts_by_state(tx)[JobState.FAILED] == 11)

    run(scenario)


def test_one_that_ended_while_it_was_written_is_found_by_the_next_full_pass(run: Run) -> None:
    """As on PostgreSQL, where another process may store the job between a look at the other and its end."""

    async def scenario(world: World) -> None:
        first = await world.write(lambda tx: make_job(tx, make_cluster(tx), "first"))
        await end(world, first, GangResult.SUCCEEDED, 0)
        await world.until(in_state(first, JobState.SUCCEEDED))
        cluster = await world.db.read(lambda tx: clusters.get(tx, first.cluster_key))
        second = await world.db.write(lambda tx: waiting_job(tx, cluster, "second", [(first, Condition.AFTER_OK)]))
        await started(world, second)

    run(scenario)


def test_an_experiment_that_is_deleted_takes_what_waits_elsewhere_along(run: Run) -> None:
    async def scenario(world: World) -> None:
        def make(tx: Connection) -> tuple[JobRecord, JobRecord]:
            more = f"{WORKSPACE_KEY}/more"
            experiments.insert(tx, ExperimentRecord(more, WORKSPACE_KEY, "more", ProvisioningState.SUCCEEDED, 1, 1, 1))
            first = make_job(tx, make_cluster(tx, "empty", nodes=0), "first")
            cluster = make_cluster(tx)
            waiting_job(tx, cluster, "beside", [(first, Condition.AFTER_OK)])
            return first, waiting_job(tx, cluster, "elsewhere", [(first, Condition.AFTER_OK)], experiment="more")

        _, elsewhere = await world.write(make)
        await world.write(lambda tx: experiments.apply(tx, EXPERIMENT_KEY, ProvisioningEvent.DELETE_REQUESTED, 1))
        failed = await world.until(in_state(elsewhere, JobState.FAILED))
        assert failed is not None and failed.errors[0].code is ReasonCode.DEPENDENCY_FAILED
        assert await world.db.read(lambda tx: dependencies.decided(tx, 10)) == []

    run(scenario)


def test_a_waiting_job_is_terminated_and_deleted_like_a_queued_one(run: Run) -> None:
    async def scenario(world: World) -> None:
        def make(tx: Connection) -> list[JobRecord]:
            first = make_job(tx, make_cluster(tx, "empty", nodes=0), "first")
            cluster = make_cluster(tx)
            return [waiting_job(tx, cluster, name, [(first, Condition.AFTER_OK)]) for name in ("one", "two")]

        one, two = await world.write(make)
        await world.write(lambda tx: jobs.request_termination(tx, one.id, 1))
        await world.write(lambda tx: jobs.request_deletion(tx, two.id, 1))
        ended = await world.until(in_state(one, JobState.FAILED))
        assert ended is not None and ended.errors[0].code is ReasonCode.JOB_TERMINATED and ended.blocked == 0
        await world.until(lambda tx: found_job(tx, two.id) is None)

    run(scenario)


def test_the_cluster_is_deleted_under_a_chain(run: Run) -> None:
    """Each fails because its cluster is gone, also one whose own dependency fails with it."""

    async def scenario(world: World) -> None:
        first, second = await pair(world, Condition.AFTER_OK, nodes=0)
        await world.write(
            lambda tx: clusters.apply_provisioning(tx, first.cluster_key, ProvisioningEvent.DELETE_REQUESTED, 1)
        )
        failed = await world.until(in_state(second, JobState.FAILED))
        assert failed is not None and failed.errors[0].code is ReasonCode.CLUSTER_DELETED

    run(scenario)


def test_waiting_for_others_is_not_standing_in_the_queue(run: Run) -> None:
    """It asks for no nodes, is before nobody, and is listed last."""

    async def scenario(world: World) -> None:
        def make(tx: Connection) -> tuple[ClusterRecord, JobRecord, JobRecord]:
            cluster = make_cluster(tx, nodes=0)
            first = make_job(tx, cluster, "first")
            waiting_job(tx, cluster, "second", [(first, Condition.AFTER_OK)])
            return cluster, first, make_job(tx, cluster, "third")

        cluster, first, third = await world.write(make)

        def look(tx: Connection) -> None:
            assert [job.name for job in waiting_in(tx, cluster)] == ["first", "third"]
            ahead, before = jobs.queue_ahead(tx, third, 1)
            assert ahead == 1 and before is not None and before.id == first.id
            listed = world.controller.queue(tx, cluster, 10)
            assert [each.job.name for each in listed] == ["first", "third", "second"]
            assert listed[-1].reason.code is ReasonCode.WAITING_FOR_DEPENDENCIES

        await world.db.read(look)

    run(scenario)


def test_the_queue_is_looked_at_again_without_the_slow_clock(run: Run) -> None:
    async def scenario(world: World) -> None:
        await world.controller.stop()
        world.controller = Controller(
            world.db, world.engine, lambda sealed, owner: sealed.decode(), ControlSettings(slow_clock_seconds=3600)
        )
        await world.controller.start()
        _, second = await pair(world, Condition.AFTER)
        await started(world, second)
        await end(world, second, GangResult.SUCCEEDED, 0)

    run(scenario)
