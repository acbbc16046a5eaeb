"""What Slurm does to jobs by itself: pre-emption, requeues, cancelling from outside; dead nodes are every engine's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.engines.lab import Lab, eventually, living, mark, sleeper
from tests.engines.slurm.conftest import OnSite
from tests.engines.slurm.slurm_site import Site
from trainshed.engines.protocol import EngineView, GangResult, GangSpec, GangStatus
from trainshed.resources.reasons import Reason, ReasonCode

pytestmark = pytest.mark.slow

STOP = Reason(ReasonCode.JOB_TERMINATED, "The test wants it so.")


def mounts(lab: Lab, uid: str) -> Path:
    root = lab.engine.mount_root(uid)
    assert root is not None
    return Path(root)


def next_attempt(gang: GangSpec) -> GangSpec:
    """As control starts it when the engine has queued the work again."""
    return replace(gang, attempt_id=f"{gang.attempt_id}-2", attempt_number=2)


async def running(lab: Lab, attempt_id: str) -> GangStatus:
    def found(view: EngineView) -> GangStatus | None:
        return next((g for g in view.gangs if g.attempt_id == attempt_id and g.started_at and not g.result), None)

    return await lab.until(found, f"start of {attempt_id}")


def test_a_pre_empted_job_is_queued_again_with_the_reason(slurm_site: Site, on_site: OnSite) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster(options={"partition": "low"})
        nodes = await lab.add_nodes(1, cluster)
        name = mark()
        gang = lab.gang(f"[ $TRAINSHED_ATTEMPT = 2 ] || {sleeper(name)}", nodes, cluster)
        await lab.engine.start_gang(gang)
        await running(lab, gang.attempt_id)
        urgent = slurm_site.run(
            "sbatch", "--parsable", "-p", "high", "-N4", "--exclusive", "-o/dev/null", "--wrap=sleep 1"
        )
        status = await lab.end_of(gang.attempt_id)
        assert (status.result, status.again) == (GangResult.STOPPED, True), status
        assert status.reason is not None and status.reason.code is ReasonCode.PREEMPTED
        assert living(name) == []
        second = next_attempt(gang)
        await lab.engine.start_gang(second)

        def waits(view: EngineView) -> GangStatus | None:
            return next((g for g in view.gangs if g.attempt_id == second.attempt_id and g.waiting), None)

        waiting = (await lab.until(waits, "why it waits")).waiting
        assert waiting is not None and waiting.details["slurmJob"] == status.reason.details["slurmJob"] != urgent
        assert (await lab.end_of(second.attempt_id)).result is GangResult.SUCCEEDED

    on_site(body)


def test_cancelled_from_outside_is_terminated_and_says_so(slurm_site: Site, on_site: OnSite) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(2, cluster)
        name = mark()
        attempt = await lab.run(sleeper(name), nodes, cluster)
        await eventually(lambda: living(name), "the job")
        slurm_site.run("scancel", *slurm_site.states())
        status = await lab.end_of(attempt)
        assert (status.result, status.again) == (GangResult.FAILED, False)
        assert status.reason is not None and status.reason.code is ReasonCode.JOB_TERMINATED
        assert "scancel" in status.reason.text and status.reason.details["slurmState"] == "CANCELLED"
        assert living(name) == []

    on_site(body)


@pytest.mark.parametrize("how", ["stopped", "forgotten and stopped", "its cluster is removed"])
def test_a_requeued_job_that_nobody_wants_never_runs(slurm_site: Site, on_site: OnSite, how: str) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(1, cluster)
        gang = lab.gang(f"echo run >> $AZ_BATCHAI_MOUNT_ROOT/runs; {sleeper(mark())}", nodes, cluster)
        await lab.engine.start_gang(gang)
        await eventually((mounts(lab, cluster.uid) / "runs").exists, "the job")
        slurm_site.run("scontrol", "requeue", *slurm_site.states())
        status = await lab.end_of(gang.attempt_id)
        assert (status.result, status.again) == (GangResult.STOPPED, True), status
        if how.startswith("forgotten"):
            await lab.engine.forget_gang((gang.attempt_id,))
        if how.endswith("stopped"):
            await lab.engine.stop_gang(gang.attempt_id, STOP, 0.1)
        else:
            await lab.engine.remove_cluster(cluster.uid)
        assert not any(known.again for known in (await lab.engine.view()).gangs)
        await eventually(lambda: not slurm_site.states(), "a queue without it")
        assert (mounts(lab, cluster.uid) / "runs").read_text() == "run\n"

    on_site(body)


@pytest.mark.parametrize("nodes", [1, 2])
def test_slurm_s_own_warning_reaches_the_job_as_it_wants_it(slurm_site: Site, on_site: OnSite, nodes: int) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        some = await lab.add_nodes(nodes, cluster)
        root = "$AZ_BATCHAI_MOUNT_ROOT"
        command = f"trap 'touch {root}/warned; exit 3' USR1; touch {root}/up; while :; do sleep 0.02; done"
        gang = lab.gang(command, some, cluster)
        gang.properties["preemption"] = {"signal": "SIGUSR1", "gracePeriod": "PT1M"}
        await lab.engine.start_gang(gang)
        await eventually((mounts(lab, cluster.uid) / "up").exists, "the job")
        (job,) = slurm_site.states()
        slurm_site.run("scancel", "--batch", "--signal=USR2", job)
        status = await lab.end_of(gang.attempt_id)
        assert (mounts(lab, cluster.uid) / "warned").exists()
        assert (status.result, status.again) == (GangResult.STOPPED, False), status
        assert status.reason is not None and status.reason.code is ReasonCode.PREEMPTED

    on_site(body)
