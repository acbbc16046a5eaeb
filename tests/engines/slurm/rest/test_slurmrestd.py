"""A real slurmrestd (22.05, v0.0.38, JWT) as the way to a real site."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engines.lab import Lab, eventually, living, mark, sleeper
from tests.engines.slurm.laboratory import engine, run_on, settings
from tests.engines.slurm.slurm_site import Site, why_no_rest
from trainshed.engines.protocol import EngineUnavailable, EngineView, GangResult, GangStatus, NodeCondition
from trainshed.engines.slurm.doctor import examine
from trainshed.resources.reasons import Reason, ReasonCode

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_no_rest()), reason=why_no_rest())]

STOP = Reason(ReasonCode.JOB_TERMINATED, "The test wants it so.")
OnRest = Callable[..., None]


@pytest.fixture
def on_rest(slurm_site: Site, tmp_path: Path) -> OnRest:
    """Runs a coroutine with an engine that has no commands of Slurm's, and no way to the controller but slurmrestd."""
    (tmp_path / "token").write_text(slurm_site.token())
    (tmp_path / "token").chmod(0o600)

    def run(body: Callable[[Lab], Awaitable[None]], **more: str) -> None:
        given = {"rest_url": slurm_site.start_rest(), "token_file": str(tmp_path / "token"), **more}
        run_on(slurm_site, tmp_path, body, **{name: text for name, text in given.items() if text})

    return run


def mounts(lab: Lab, uid: str) -> Path:
    return Path(str(lab.engine.mount_root(uid)))


def test_gangs_run_and_what_slurm_refuses_is_said(on_rest: OnRest, slurm_site: Site) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster(gpus=2, options={"exclude": "n4", "partition": "low"})
        nodes = await lab.add_nodes(2, cluster)
        view = await lab.engine.view()
        by_name = {node.host_name: node for node in view.nodes}
        assert sorted(by_name) == ["n1", "n2", "n3", "n4"] and len({node.address for node in view.nodes}) == 4
        assert by_name["n1"].condition is NodeCondition.READY
        look = "echo $(hostname) $CUDA_VISIBLE_DEVICES >> $AZ_BATCHAI_MOUNT_ROOT/gpus"
        wide = lab.gang("true", nodes, cluster, preparation=look, wall_clock_seconds=600.0)
        single = lab.gang(f"echo $PATH > $AZ_BATCHAI_MOUNT_ROOT/path; {sleeper(mark())}", nodes[:1], cluster)
        for gang in (wide, single):
            await lab.engine.start_gang(gang)
        status = await lab.end_of(wide.attempt_id)
        assert status.result is GangResult.SUCCEEDED and len(status.hosts) == 2, status
        found = sorted((mounts(lab, cluster.uid) / "gpus").read_text().splitlines())
        assert [line.split()[1] for line in found] == ["0,1"] * 2 and len({line.split()[0] for line in found}) == 2
        await eventually((mounts(lab, cluster.uid) / "path").exists, "the single one")
        shown = slurm_site.run("scontrol", "show", "job", max(slurm_site.states(), key=int)).split()
        assert {"Partition=low", "ExcNodeList=n4", "OverSubscribe=NO", "TresPerNode=gres:gpu:2"} <= set(shown), shown
        await lab.engine.stop_gang(single.attempt_id, STOP, 0.2)
        assert (await lab.end_of(single.attempt_id)).reason == STOP

        nowhere = lab.cluster(options={"partition": "no-such"})
        await lab.engine.ensure_cluster(nowhere)
        refused = await lab.end_of(await lab.run("true", ("any",), nowhere))
        assert refused.result is GangResult.FAILED and "nvalid partition" in str(refused.reason)

    on_rest(body)


def test_jobs_that_are_alike_are_an_array(on_rest: OnRest, slurm_site: Site) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(1, cluster)
        ran = "echo $TRAINSHED_SLURM_JOB_ID >> $AZ_BATCHAI_MOUNT_ROOT/ran"
        gangs = [lab.gang(ran, nodes, cluster) for _ in range(6)]
        await asyncio.gather(*map(lab.engine.start_gang, gangs))
        for gang in gangs:
            assert (await lab.end_of(gang.attempt_id)).result is GangResult.SUCCEEDED
        jobs = (mounts(lab, cluster.uid) / "ran").read_text().split()
        assert len(jobs) == 6 and any("_" in job for job in jobs)
        await eventually(lambda: not slurm_site.states(), "an empty queue")

    on_rest(body)


def test_one_that_waits_says_why_and_a_requeue_is_the_next_attempt(on_rest: OnRest, slurm_site: Site) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(1, cluster)
        runs = mounts(lab, cluster.uid) / "runs"
        command = f"echo $TRAINSHED_ATTEMPT >> {runs}; [ $TRAINSHED_ATTEMPT = 2 ] || {sleeper(mark())}"
        gang = lab.gang(command, nodes, cluster)
        await lab.engine.start_gang(gang)
        await eventually(runs.exists, "the job")
        urgent = ("-phigh", "-N4", "--exclusive", "-o/dev/null", "--wrap=sleep 9")
        blocking = slurm_site.run("sbatch", "--parsable", *urgent)
        slurm_site.run("scontrol", "requeue", *(job for job in slurm_site.states() if job != blocking))
        status = await lab.end_of(gang.attempt_id)
        assert (status.result, status.again) == (GangResult.STOPPED, True), status
        second = replace(gang, attempt_id=f"{gang.attempt_id}-2", attempt_number=2)
        await lab.engine.start_gang(second)

        def waits(view: EngineView) -> GangStatus | None:
            return next((g for g in view.gangs if g.attempt_id == second.attempt_id and g.waiting), None)

        assert "slurmReason" in (await lab.until(waits, "why it waits")).waiting.details  # type: ignore[union-attr]
        assert (await lab.end_of(second.attempt_id)).result is GangResult.SUCCEEDED
        assert runs.read_text().split() == ["1", "2"]

    on_rest(body)


def test_a_controller_and_a_slurmrestd_that_are_away_lose_nothing(on_rest: OnRest, slurm_site: Site) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(1, cluster)
        name = mark()
        staying = await lab.run(sleeper(name), nodes, cluster)
        await eventually(lambda: living(name), "the job")
        slurm_site.kill("slurmctld")
        late = lab.gang("true", nodes, cluster)
        await lab.engine.start_gang(late)
        assert "slurmrestd" in (await _away(lab)).text
        await lab.restart_service()
        slurm_site.kill("slurmrestd")
        assert (await _away(lab)).code is ReasonCode.ENGINE_UNAVAILABLE
        await lab.engine.stop_gang(staying, STOP, 0.2)
        await eventually(lambda: not living(name), "the end of the job")
        slurm_site.start_controller()
        slurm_site.start_rest()
        status = await lab.end_of(late.attempt_id)
        if status.again:
            # A controller that has just started may find a node unready, and queues the job again.
            again = replace(late, attempt_id=f"{late.attempt_id}-2", attempt_number=2)
            await lab.engine.start_gang(again)
            status = await lab.end_of(again.attempt_id)
        assert status.result is GangResult.SUCCEEDED
        assert (await lab.end_of(staying)).reason == STOP

    on_rest(body)


async def _away(lab: Lab) -> Reason:
    async with asyncio.timeout(60.0):
        while True:
            try:
                await lab.engine.view()
            except EngineUnavailable as error:
                return error.reason
            await asyncio.sleep(0.05)


#: A token_command: gives tokens of a moment, and counts how many.
COMMAND = """#!/bin/sh
echo token >> {folder}/given
exec scontrol token lifespan={life} username=root
"""


def test_a_token_is_renewed_before_its_end_and_one_that_is_refused_once(
    on_rest: OnRest, slurm_site: Site, tmp_path: Path
) -> None:
    tool = tmp_path / "give-token"
    tool.write_text(COMMAND.format(folder=tmp_path, life=4))
    tool.chmod(0o755)

    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(1, cluster)
        attempt = await lab.run("sleep 5", nodes, cluster)
        assert (await lab.end_of(attempt)).result is GangResult.SUCCEEDED
        assert len((tmp_path / "given").read_text().split()) > 1

    on_rest(body, token_file="", token_command=str(tool))

    # A file with a token that ended: the engine is away until somebody puts another one there.
    (tmp_path / "token").write_text(slurm_site.token(1))

    async def ended(lab: Lab) -> None:
        await asyncio.sleep(2.1)  # A token's own clock has seconds.
        with pytest.raises(EngineUnavailable):
            await lab.engine.ensure_cluster(cluster := lab.cluster())
            await lab.engine.view()
        (tmp_path / "token").write_text(slurm_site.token())
        nodes = await lab.add_nodes(1, cluster)
        assert (await lab.end_of(await lab.run("true", nodes, cluster))).result is GangResult.SUCCEEDED

    on_rest(ended)


def test_doctor_says_which_version_was_agreed_upon(slurm_site: Site, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(slurm_site.token())
    token.chmod(0o600)
    given = settings(tmp_path, rest_url=slurm_site.start_rest(), token_file=str(token))
    checks = {check.name: check for check in asyncio.run(examine(given, {"PATH": "/usr/bin:/bin"}))}
    assert [name for name, check in checks.items() if not check.ok and check.needed] == []
    assert f"slurm 22.05.8, slurmrestd at {given.rest_url}, v0.0.38 of v0.0.37, v0.0.38" in checks["slurm"].detail
    assert "sees" in checks["a node"].detail and "4 nodes, 4 ready" in checks["partition"].detail
    token.chmod(0o604)
    checks = {check.name: check for check in asyncio.run(examine(given, {"PATH": "/usr/bin:/bin"}))}
    assert not checks["slurm"].ok and "everybody may read the token file" in checks["slurm"].detail
    slurm_site.clear()


def test_an_engine_by_commands_finds_the_jobs_of_one_by_slurmrestd(
    slurm_site: Site, tmp_path: Path, on_rest: OnRest
) -> None:
    """An administrator may go from one to the other: tickets and jobs stay."""

    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(1, cluster)
        attempt = await lab.run(sleeper(mark()), nodes, cluster)
        await eventually(lambda: "RUNNING" in slurm_site.states().values(), "the job")
        await lab.engine.close()
        lab.engine = engine(slurm_site, tmp_path)
        await lab.start()
        await lab.engine.stop_gang(attempt, STOP, 0.2)
        assert (await lab.end_of(attempt)).reason == STOP

    on_rest(body)
