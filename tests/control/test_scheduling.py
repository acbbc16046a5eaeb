"""The scheduler under the control loops: backfill, fair share and limits, with what they say to those who wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import Connection

from tests.control.conftest import World
from tests.support.factories import WORKSPACE_KEY, make_cluster, make_job
from trainshed.engines.protocol import GangResult
from trainshed.resources.lifecycle import JobState, ProvisioningState
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import attempts, clusters, jobs, nodes, principals, usage, workspaces
from trainshed.store.records import JobRecord, PrincipalRecord

pytestmark = pytest.mark.slow

Run = Callable[[Callable[[World], Awaitable[None]]], None]
ANN, BOB = "ann-id", "bob-id"


def make_people(tx: Connection) -> None:
    for id, name in ((ANN, "ann@example.org"), (BOB, "bob@example.org")):
        principals.insert(tx, PrincipalRecord(id, "User", name, name, None, None, None, 1))


def set_rules(tx: Connection, **rules: Any) -> None:
    workspaces.set_scheduling(tx, WORKSPACE_KEY, rules, 1)


async def running(world: World, *names: str) -> None:
    """Waits until exactly these jobs run."""

    def check(tx: Connection) -> bool:
        found = {jobs.get_by_id(tx, attempt.job_id).name for attempt in attempts.live(tx)}
        return found == set(names)

    await world.until(check)
    await world.controller._full_pass()
    assert await world.db.read(check), "and no other starts"


async def why(world: World, job: JobRecord) -> Reason:
    return await world.db.read(lambda tx: world.controller.explain(tx, jobs.get_by_id(tx, job.id)))


async def finish(world: World, job: JobRecord) -> None:
    def live(tx: Connection) -> str | None:
        attempt = attempts.live_of_job(tx, job.id)
        return attempt.id if attempt and attempt.id in world.engine.live() else None

    attempt_id = await world.until(live)
    assert attempt_id is not None
    world.engine.end(attempt_id, GangResult.SUCCEEDED, exit_code=0)
    await world.until(lambda tx: jobs.get_by_id(tx, job.id).execution is JobState.SUCCEEDED)


def test_a_short_job_passes_a_wide_one_that_waits(run: Run) -> None:
    async def scenario(world: World) -> None:
        def fill(tx: Connection) -> list[JobRecord]:
            cluster = make_cluster(tx, nodes=2)
            return [
                make_job(tx, cluster, "long", wall_clock_seconds=100),
                make_job(tx, cluster, "wide", nodes=2),
                make_job(tx, cluster, "slow", wall_clock_seconds=101),
                make_job(tx, cluster, "short", wall_clock_seconds=100),
            ]

        long, wide, slow, short = await world.write(fill)
        await running(world, "long", "short")
        assert (await why(world, wide)).code is ReasonCode.WAITING_FOR_NODES
        await finish(world, short)
        await running(world, "long")
        reason = await why(world, slow)
        assert reason.code is ReasonCode.WAITING_FOR_RESERVATION
        assert "maxWallClockTime of PT1M40S or less (it has PT1M41S)" in reason.text
        await finish(world, long)
        await running(world, "wide")

    run(scenario)


def test_backfill_can_be_turned_off(run: Run) -> None:
    async def scenario(world: World) -> None:
        def fill(tx: Connection) -> None:
            cluster = make_cluster(tx, nodes=2, backfill=False)
            make_job(tx, cluster, "long", wall_clock_seconds=100)
            make_job(tx, cluster, "wide", nodes=2)
            make_job(tx, cluster, "short", wall_clock_seconds=1)

        await world.write(fill)
        await running(world, "long")

    run(scenario)


def test_users_take_turns_under_fair_share(run: Run) -> None:
    async def scenario(world: World) -> None:
        def fill(tx: Connection) -> list[JobRecord]:
            make_people(tx)
            set_rules(tx, fairShare={"halfLife": "P1D"})
            cluster = make_cluster(tx, nodes=2)
            return [make_job(tx, cluster, f"ann{n}", submitted_by=ANN) for n in range(3)] + [
                make_job(tx, cluster, "bob0", submitted_by=BOB)
            ]

        first, _, last, _ = await world.write(fill)
        await running(world, "ann0", "bob0")
        reason = await why(world, last)
        assert reason.code is ReasonCode.WAITING_BEHIND_JOBS
        assert reason.details["jobsAhead"] == "1"
        world.clock.now += 3_600_000
        await finish(world, first)
        used = await world.db.read(lambda tx: usage.since(tx, WORKSPACE_KEY, 0))
        assert [(entry.user, entry.vm_size) for entry in used] == [(ANN, "STANDARD_D1")]

    run(scenario)


def test_a_limit_of_each_user(run: Run) -> None:
    async def scenario(world: World) -> None:
        def fill(tx: Connection) -> list[JobRecord]:
            make_people(tx)
            set_rules(tx, limits=[{"scope": "user", "measure": "nodes", "amount": 1, "hard": True}])
            cluster = make_cluster(tx, nodes=4)
            return [
                make_job(tx, cluster, "a0", submitted_by=ANN),
                make_job(tx, cluster, "a1", submitted_by=ANN),
                make_job(tx, cluster, "b0", submitted_by=BOB),
                make_job(tx, cluster, "b1", nodes=2, submitted_by=BOB),
            ]

        a0, a1, _, b1 = await world.write(fill)
        await running(world, "a0", "b0")
        reason = await why(world, a1)
        assert reason.code is ReasonCode.LIMIT_REACHED
        assert reason.text.startswith("User ann@example.org may use 1 node at once and uses 1; the job needs 1 node.")
        assert "never starts" in (await why(world, b1)).text
        await finish(world, a0)
        await running(world, "a1", "b0")

    run(scenario)


def test_limits_hold_across_the_clusters_of_a_workspace(run: Run) -> None:
    async def scenario(world: World) -> None:
        def fill(tx: Connection) -> None:
            set_rules(tx, limits=[{"scope": "workspace", "measure": "runningJobs", "amount": 1, "hard": True}])
            make_job(tx, make_cluster(tx, "c1"), "one")
            make_job(tx, make_cluster(tx, "c2"), "two")

        await world.write(fill)
        await world.until(lambda tx: len(attempts.live(tx)) == 1)
        await world.controller._full_pass()
        assert len(await world.db.read(attempts.live)) == 1

    run(scenario)


def test_a_spent_budget_holds_back_until_the_next_period(run: Run) -> None:
    async def scenario(world: World) -> None:
        day = 86_400_000
        rule = {
            "scope": "experiment",
            "name": "EXP",
            "measure": "nodeHours",
            "amount": 1,
            "period": "P1D",
            "hard": True,
        }

        def fill(tx: Connection) -> list[JobRecord]:
            set_rules(tx, limits=[rule])
            cluster = make_cluster(tx, nodes=1)
            usage.add(
                tx,
                workspace_key=WORKSPACE_KEY,
                user="",
                experiment_key=f"{WORKSPACE_KEY}/exp",
                vm_size="STANDARD_D1",
                vm_priority="dedicated",
                ended_at=world.clock.now,
                node_ms=3_600_000,
            )
            return [make_job(tx, cluster, "a")]

        [job] = await world.write(fill)
        await world.until(lambda tx: bool(clusters.all(tx)))
        await world.controller._full_pass()
        reason = await why(world, job)
        assert reason.code is ReasonCode.BUDGET_SPENT
        assert "experiment exp is spent: 1 of 1 node-hours" in reason.text
        world.clock.now += day
        world.controller.wake()
        await running(world, "a")

    run(scenario)


def test_the_queue_is_listed_in_its_order_with_reasons(run: Run) -> None:
    async def scenario(world: World) -> None:
        def fill(tx: Connection) -> None:
            cluster = make_cluster(tx, nodes=1)
            make_job(tx, cluster, "runs")
            make_job(tx, cluster, "later")
            make_job(tx, cluster, "urgent", priority=1000, nodes=2)
            make_job(tx, cluster, "first", priority=1000)

        await world.write(fill)
        await world.until(lambda tx: bool(attempts.live(tx)))
        [cluster] = await world.db.read(clusters.all)
        listed = await world.db.read(lambda tx: world.controller.queue(tx, cluster, 10))
        assert [(one.position, one.job.name, one.reason.code.value) for one in listed][1:] == [
            (2, "runs", "WaitingBehindJobs"),
            (3, "later", "WaitingBehindJobs"),
        ]
        assert listed[0].job.name == "urgent"
        assert listed[0].reason.code is ReasonCode.CLUSTER_TOO_SMALL
        assert len(await world.db.read(lambda tx: world.controller.queue(tx, cluster, 2))) == 2

    run(scenario)


def test_a_waiting_job_is_told_when_it_starts(run: Run) -> None:
    async def scenario(world: World) -> None:
        def fill(tx: Connection) -> list[JobRecord]:
            cluster = make_cluster(tx, nodes=1)
            return [make_job(tx, cluster, name, wall_clock_seconds=1000) for name in ("runs", "next", "last")]

        runs, following, last = await world.write(fill)
        await running(world, "runs")
        told = await world.db.read(lambda tx: world.controller.explain_fully(tx, jobs.get_by_id(tx, following.id)))
        now = world.clock.now
        assert told.estimate is not None and told.estimate.latest is not None
        assert now <= told.estimate.earliest <= told.estimate.latest <= now + 1_100_000
        await finish(world, runs)
        await running(world, "next")
        [cluster] = await world.db.read(clusters.all)
        [listed] = await world.db.read(lambda tx: world.controller.queue(tx, cluster, 10))
        assert listed.job.name == last.name
        assert listed.estimate is not None

    run(scenario)


def test_a_higher_priority_takes_nodes_and_the_victim_returns_first(run: Run) -> None:
    async def scenario(world: World) -> None:
        def fill(tx: Connection) -> list[JobRecord]:
            cluster = make_cluster(tx, nodes=2, preemption={"enabled": True})
            return [make_job(tx, cluster, name, priority=-1000) for name in ("old", "young", "waits")]

        old, young, waits = await world.write(fill)
        await running(world, "old", "young")
        [cluster] = await world.db.read(clusters.all)
        urgent = await world.write(lambda tx: make_job(tx, cluster, "urgent", priority=1000))

        def warned(tx: Connection) -> str | None:
            attempt = attempts.live_of_job(tx, young.id)
            return attempt.id if attempt and attempt.stop_warning else None

        victim = await world.until(warned)
        assert victim is not None
        assert (await why(world, urgent)).code is ReasonCode.WAITING_FOR_PREEMPTION
        world.engine.end(victim, GangResult.STOPPED)
        await running(world, "old", "urgent")
        returned = await world.db.read(lambda tx: jobs.get_by_id(tx, young.id))
        assert (returned.execution, returned.preemptions, returned.lost_attempts) == (JobState.QUEUED, 1, 0)
        assert returned.requeue_reason is not None
        assert "urgent" in returned.requeue_reason.text
        assert (await why(world, waits)).details["jobsAhead"] == "1"
        await finish(world, old)
        await running(world, "urgent", "young")

    run(scenario)


def test_nobody_is_stopped_where_the_cluster_does_not_allow_it(run: Run) -> None:
    async def scenario(world: World) -> None:
        def fill(tx: Connection) -> None:
            cluster = make_cluster(tx, nodes=1)
            make_job(tx, cluster, "low", priority=-1000)

        await world.write(fill)
        await running(world, "low")
        [cluster] = await world.db.read(clusters.all)
        await world.write(lambda tx: make_job(tx, cluster, "urgent", priority=1000))
        await running(world, "low")
        assert not world.engine.stopped

    run(scenario)


def test_a_job_that_never_fits_makes_no_nodes(run: Run) -> None:
    async def scenario(world: World) -> None:
        scale = {"autoScale": {"minimumNodeCount": 0, "maximumNodeCount": 2, "initialNodeCount": 0}}

        def fill(tx: Connection) -> None:
            make_job(tx, make_cluster(tx, scale=scale), "wide", nodes=3)

        await world.write(fill)
        await world.until(lambda tx: clusters.all(tx)[0].state is ProvisioningState.SUCCEEDED)
        await world.controller._full_pass()
        [cluster] = await world.db.read(clusters.all)
        assert await world.db.read(lambda tx: nodes.of_cluster(tx, cluster.uid)) == []

    run(scenario)
