"""What holds jobs back before an engine that queues by itself gets them: limits, budgets, the cluster's size."""

from __future__ import annotations

from typing import Any

import pytest

from tests.control.queueing import NODE_FAIL, Site
from tests.control.test_clusters import scale_to
from tests.support.factories import WORKSPACE_KEY
from trainshed.engines.protocol import GangResult
from trainshed.resources.lifecycle import JobState
from trainshed.resources.reasons import ReasonCode
from trainshed.store import (
    clusters,
    workspaces,
)

pytestmark = pytest.mark.slow


def test_limits_of_the_workspace_hold_there_too(on_site: Any) -> None:
    async def scenario(site: Site) -> None:
        rules = {"limits": [{"scope": "workspace", "measure": "runningJobs", "amount": 1}]}
        await site.world.write(lambda tx: workspaces.set_scheduling(tx, WORKSPACE_KEY, rules, 1))
        cluster = await site.cluster()
        first = await site.job(cluster, "first")
        attempt = await site.handed(first)
        second = await site.job(cluster, "second")
        site.world.controller.wake()
        assert (await site.why(second)).code is ReasonCode.LIMIT_REACHED
        assert len(site.hpc.gangs) == 1
        site.hpc.begin(attempt.id)
        site.hpc.end(attempt.id, GangResult.SUCCEEDED, exit_code=0)
        await site.handed(second)

    on_site(scenario)


def test_what_others_used_is_known_before_a_job_is_taken_up(on_site: Any) -> None:
    """Two began since the engine was last asked; one of them ended and is queued again, the other spent the budget."""

    async def scenario(site: Site) -> None:
        cluster = await site.cluster(nodes=4)
        one, other = await site.job(cluster, "one"), await site.job(cluster, "other", nodes=2)
        first, spender = await site.handed(one), await site.handed(other)
        rules = {"limits": [{"scope": "workspace", "measure": "nodeHours", "amount": 1, "hard": True}]}
        now = site.world.clock.now = 2 * 3_600_000
        await site.world.db.write(lambda tx: workspaces.set_scheduling(tx, WORKSPACE_KEY, rules, 1))
        site.hpc.begin(spender.id, "n1", "n2", at=now - 3_600_000)
        site.hpc.end_again(first.id, NODE_FAIL)
        await site.world.until(lambda tx: first.id in site.hpc.forgotten)
        assert (await site.now(one)).execution is JobState.QUEUED
        assert (await site.why(one)).code is ReasonCode.BUDGET_SPENT
        assert site.hpc.taken_up == []
        assert (await site.now(other)).execution is JobState.RUNNING

    on_site(scenario)


def test_all_jobs_together_stay_within_the_cluster_where_it_says_so(on_site: Any) -> None:
    async def scenario(site: Site) -> None:
        cluster = await site.cluster(limit="cluster", nodes=3)
        two, one = await site.job(cluster, "two", nodes=2), await site.job(cluster, "one")
        first, second = await site.handed(two), await site.handed(one)
        third, fourth = await site.job(cluster, "third", nodes=2), await site.job(cluster, "fourth")
        why, behind = await site.why(third), await site.why(fourth)
        assert why.code is ReasonCode.WAITING_FOR_NODES and "have at most 3 nodes together" in why.text
        assert "1 job is before it" in behind.text and behind.details["jobsAhead"] == "1"
        site.hpc.begin(second.id, "n3")
        site.hpc.end(second.id, GangResult.SUCCEEDED, exit_code=0)
        await site.until_state(one, JobState.SUCCEEDED)
        # One node is free; the fourth job does not pass the third, which needs two.
        assert (await site.why(third)).code is ReasonCode.WAITING_FOR_NODES
        assert set(site.hpc.gangs) - set(site.hpc.forgotten) <= {first.id, second.id}
        # What the engine queues again is no more than there was.
        site.hpc.begin(first.id, "n1", "n2")
        site.hpc.end_again(first.id, NODE_FAIL)
        again = await site.handed(two, 2)
        site.hpc.begin(again.id, "n1", "n2")
        site.hpc.end(again.id, GangResult.SUCCEEDED, exit_code=0)
        await site.handed(third)
        await site.handed(fourth)

    on_site(scenario)


def test_what_is_queued_again_may_not_fit_any_more(on_site: Any) -> None:
    """The cluster was scaled down meanwhile."""

    async def scenario(site: Site) -> None:
        cluster = await site.cluster(limit="cluster", nodes=3)
        staying, going = await site.job(cluster, "staying", nodes=2), await site.job(cluster, "going")
        kept, lost = await site.handed(staying), await site.handed(going)
        for attempt in (kept, lost):
            site.hpc.begin(attempt.id, "n1")
        await site.until_state(going, JobState.RUNNING)
        await scale_to(site.world, cluster, 2)
        site.hpc.end_again(lost.id, NODE_FAIL)
        await site.world.until(lambda tx: lost.id in site.hpc.forgotten)
        assert (await site.why(going)).code is ReasonCode.WAITING_FOR_NODES
        site.hpc.end(kept.id, GangResult.SUCCEEDED, exit_code=0)
        await site.handed(going, 2)

    on_site(scenario)


def test_a_job_wider_than_the_cluster_is_kept(on_site: Any) -> None:
    async def scenario(site: Site) -> None:
        cluster = await site.cluster(nodes=2)
        wide, narrow = await site.job(cluster, "wide", nodes=3), await site.job(cluster, "narrow", nodes=2)
        await site.handed(narrow)
        assert (await site.why(wide)).code is ReasonCode.CLUSTER_TOO_SMALL
        scale = {"manual": {"targetNodeCount": 3, "nodeDeallocationOption": "requeue"}}
        await site.world.write(lambda tx: clusters.set_scale(tx, cluster.key, scale, 2))
        await site.handed(wide)

    on_site(scenario)
