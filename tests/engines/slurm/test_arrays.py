"""Many jobs that are alike: one array of Slurm's, whose elements take turns with them; each runs once all the same."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.engines.lab import Lab, eventually, mark, sleeper
from tests.engines.slurm.conftest import OnSite
from tests.engines.slurm.laboratory import losing_an_answer, run_on
from tests.engines.slurm.slurm_site import Site
from tests.engines.slurm.test_handing import STOP, mounts
from tests.engines.slurm.test_losses import next_attempt, running
from trainshed.engines.protocol import EngineView, GangResult, GangSpec
from trainshed.engines.slurm.commands import Commands
from trainshed.resources.reasons import ReasonCode

pytestmark = pytest.mark.slow

ALIKE = 100
SHARED = {"options": {"exclusive": "no"}, "memory_mib": 16}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the engine has run each of Slurm's commands."""
    counted: Counter[str] = Counter()
    run = Commands.run

    async def counting(commands: Commands, name: str, *arguments: str, **more: Any) -> str:
        counted[name] += 1
        return await run(commands, name, *arguments, **more)

    monkeypatch.setattr(Commands, "run", counting)
    return counted


async def hand_over(lab: Lab, gangs: list[GangSpec]) -> None:
    """At about the same time, as control does."""
    await asyncio.gather(*map(lab.engine.start_gang, gangs))


async def all_succeed(lab: Lab, gangs: list[GangSpec]) -> None:
    wanted = {gang.attempt_id for gang in gangs}

    def over(view: EngineView) -> bool | None:
        results = {g.attempt_id: g.result for g in view.gangs if g.attempt_id in wanted and g.result is not None}
        assert set(results.values()) <= {GangResult.SUCCEEDED}, view.gangs
        return len(results) == len(wanted) or None

    await lab.until(over, f"the success of {len(wanted)} gangs")


def runs(lab: Lab, cluster_uid: str) -> list[str]:
    return sorted((mounts(lab, cluster_uid) / "ran").read_text().split())


def test_many_alike_jobs_take_few_commands_and_run_once_each(
    slurm_site: Site, on_site: OnSite, calls: Counter[str]
) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster(**SHARED)
        nodes = await lab.add_nodes(1, cluster)
        gangs = [lab.gang(f"echo {n:03} >> $AZ_BATCHAI_MOUNT_ROOT/ran", nodes, cluster) for n in range(ALIKE)]
        calls.clear()
        begin = time.monotonic()
        await hand_over(lab, gangs)
        await all_succeed(lab, gangs)
        took = time.monotonic() - begin
        assert runs(lab, cluster.uid) == [f"{n:03}" for n in range(ALIKE)]
        assert calls["sbatch"] <= ALIKE / 2, "an array for each moment's jobs"
        # A look is one squeue, and a second one when jobs have left the queue; 0.2 s are between two.
        assert calls["squeue"] <= 4 + 2 * took / 0.2
        assert calls["scancel"] <= 2 + took / 0.2, "one for all elements that have nothing to do any more"
        assert calls.keys() <= {"sbatch", "squeue", "scancel", "sinfo", "scontrol", "sacct"}
        assert calls["scontrol"] <= 1 and calls["sacct"] <= 2 + took / 0.2
        await eventually(lambda: not slurm_site.states(), "an empty queue")

    on_site(body)


def occupy(site: Site, nodes: int) -> str:
    """A job of somebody else's on so many of the four nodes."""
    return site.run("sbatch", "--parsable", f"-N{nodes}", "--exclusive", "-o/dev/null", "--wrap=sleep 600")


def test_elements_that_wait_are_cancelled_one_by_one(slurm_site: Site, on_site: OnSite) -> None:
    """By the service, and by others; a service that is started again knows all of them."""

    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(1, cluster)
        other = occupy(slurm_site, 4)
        await eventually(lambda: slurm_site.states().get(other) == "RUNNING", "what takes all nodes")
        gangs = [lab.gang(f"echo {n} >> $AZ_BATCHAI_MOUNT_ROOT/ran", nodes, cluster) for n in range(4)]
        await hand_over(lab, gangs)
        waiting = await lab.until(lambda view: _jobs(view, 4), "why they wait")
        arrays = {job.partition("_")[0] for job in waiting.values()}
        assert len(arrays) == 1 and len(set(waiting.values())) == 4, waiting
        await lab.restart_service()
        slurm_site.run("scancel", waiting[gangs[2].attempt_id])
        cancelled = await lab.end_of(gangs[2].attempt_id)
        assert cancelled.reason is not None and cancelled.reason.code is ReasonCode.JOB_TERMINATED
        assert "scancel" in cancelled.reason.text
        await lab.engine.stop_gang(gangs[1].attempt_id, STOP, 0.2)
        stopped = await lab.end_of(gangs[1].attempt_id)
        assert (stopped.result, stopped.reason) == (GangResult.STOPPED, STOP)
        slurm_site.run("scancel", other)
        await all_succeed(lab, [gangs[0], gangs[3]])
        assert runs(lab, cluster.uid) == ["0", "3"]
        await eventually(lambda: not slurm_site.states(), "an empty queue")

    on_site(body)


def _jobs(view: EngineView, count: int) -> dict[str, str] | None:
    found = {g.attempt_id: g.waiting.details["slurmJob"] for g in view.gangs if g.waiting}
    return found if len(found) == count else None


def test_a_requeued_element_goes_on_with_what_it_carried_out(slurm_site: Site, on_site: OnSite) -> None:
    """Its own job was over by then, and stays so; that of another element runs once more, there."""

    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(1, cluster)
        other = occupy(slurm_site, 3)
        await eventually(lambda: slurm_site.states().get(other) == "RUNNING", "what takes three nodes")
        ran, name = "$AZ_BATCHAI_MOUNT_ROOT/ran", mark()
        short = lab.gang(f"echo short >> {ran}", nodes, cluster)
        long = lab.gang(
            f"echo long$TRAINSHED_ATTEMPT >> {ran}; [ $TRAINSHED_ATTEMPT = 2 ] || {sleeper(name)}", nodes, cluster
        )
        await hand_over(lab, [short, long])
        await all_succeed(lab, [short])
        await running(lab, long.attempt_id)
        # The one node carries out both: nothing of theirs waits in Slurm's queue any more.
        await eventually(lambda: len(slurm_site.states()) == 2, "an element without work is cancelled")
        (job,) = slurm_site.states().keys() - {other}
        await lab.engine.forget_gang((short.attempt_id,))
        slurm_site.run("scontrol", "requeue", job)
        status = await lab.end_of(long.attempt_id)
        assert (status.result, status.again) == (GangResult.STOPPED, True), status
        await lab.restart_service()
        second = next_attempt(long)
        await lab.engine.start_gang(second)
        await all_succeed(lab, [second])
        assert runs(lab, cluster.uid) == ["long1", "long2", "short"]
        slurm_site.run("scancel", other)

    on_site(body)


def test_gangs_of_several_nodes_are_an_array_too(on_site: OnSite, calls: Counter[str]) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(2, cluster)
        ran = "echo $TRAINSHED_SLURM_JOB_ID >> $AZ_BATCHAI_MOUNT_ROOT/ran"
        gangs = [lab.gang("true", nodes, cluster, preparation=ran) for _ in range(2)]
        calls.clear()
        await hand_over(lab, gangs)
        await all_succeed(lab, gangs)
        first, second = sorted(Counter(runs(lab, cluster.uid)).items())
        assert (first[1], second[1], calls["sbatch"]) == (2, 2, 1)
        assert (first[0].partition("_")[2], second[0].partition("_")[2]) == ("0", "1")

    on_site(body)


@pytest.mark.parametrize("times", [0, 2])
def test_a_lost_answer_for_an_array_runs_each_once(slurm_site: Site, tmp_path: Path, times: int) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(1, cluster)
        gangs = [lab.gang(f"echo {n} >> $AZ_BATCHAI_MOUNT_ROOT/ran", nodes, cluster) for n in range(3)]
        await hand_over(lab, gangs)
        await all_succeed(lab, gangs)
        await eventually(lambda: not slurm_site.states(), "an empty queue")
        assert runs(lab, cluster.uid) == ["0", "1", "2"]

    with losing_an_answer(slurm_site, tmp_path, times):
        run_on(slurm_site, tmp_path, body)


def test_a_site_without_arrays_gets_single_jobs(slurm_site: Site, tmp_path: Path, calls: Counter[str]) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster(**SHARED)
        nodes = await lab.add_nodes(1, cluster)
        calls.clear()
        gangs = [lab.gang("true", nodes, cluster) for _ in range(3)]
        await hand_over(lab, gangs)
        await all_succeed(lab, gangs)
        assert calls["sbatch"] == 3

    run_on(slurm_site, tmp_path, body, arrays="no")
