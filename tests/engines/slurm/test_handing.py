"""Handing over to Slurm: answers that are lost, a controller that is away, refusals, priorities, secrets."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engines.lab import Lab, eventually, living, mark, sleeper
from tests.engines.slurm.conftest import OnSite
from tests.engines.slurm.laboratory import PATIENCE, losing_an_answer, run_on
from tests.engines.slurm.slurm_site import Site
from trainshed.engines.protocol import EngineError, EngineUnavailable, EngineView, GangResult, GangStatus, NodeCondition
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.resources.users import JobUser

pytestmark = pytest.mark.slow

STOP = Reason(ReasonCode.JOB_TERMINATED, "The test wants it so.")


def mounts(lab: Lab, uid: str) -> Path:
    root = lab.engine.mount_root(uid)
    assert root is not None
    return Path(root)


@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_lost_answer_of_sbatch_runs_the_job_once(slurm_site: Site, tmp_path: Path, times: int) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(1, cluster)
        attempt = await lab.run("echo run >> $AZ_BATCHAI_MOUNT_ROOT/runs", nodes, cluster)
        assert lost.exists()
        status = await lab.end_of(attempt)
        assert status.result is GangResult.SUCCEEDED, status
        await eventually(lambda: not slurm_site.states(), "an empty queue")
        assert (mounts(lab, cluster.uid) / "runs").read_text() == "run\n"

    with losing_an_answer(slurm_site, tmp_path, times) as lost:
        run_on(slurm_site, tmp_path, body)


def test_an_absent_controller_loses_nothing(slurm_site: Site, on_site: OnSite) -> None:
    """Jobs end meanwhile, one is handed over meanwhile, the service is started again meanwhile."""

    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(1, cluster)
        root = "$AZ_BATCHAI_MOUNT_ROOT"
        ending = await lab.run(f"touch {root}/up; until [ -e {root}/go ]; do sleep 0.02; done; exit 4", nodes, cluster)
        name = mark()
        staying = await lab.run(sleeper(name), nodes, cluster)
        await eventually(lambda: living(name) and (mounts(lab, cluster.uid) / "up").exists(), "both jobs")
        await lab.until(lambda view: _started(view, ending) and _started(view, staying), "both starts")
        slurm_site.kill("slurmctld")
        (mounts(lab, cluster.uid) / "go").touch()
        # The runner's word is enough: nobody has to ask Slurm.
        await eventually(lambda: [s for s in lab.told if s.attempt_id == ending], "the end of the first")
        assert (await _away(lab)).code is ReasonCode.ENGINE_UNAVAILABLE
        late = await lab.run("true", nodes, cluster)
        await lab.restart_service()
        await lab.engine.stop_gang(staying, STOP, 0.2)
        await eventually(lambda: not living(name), "the end of the second")
        slurm_site.start_controller()
        assert (await lab.end_of(ending)).exit_code == 4
        assert (await lab.end_of(staying)).reason == STOP
        assert (await lab.end_of(late)).result is GangResult.SUCCEEDED

    on_site(body)


async def _away(lab: Lab) -> Reason:
    """Why the engine cannot be reached, once it cannot."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await lab.engine.view()
            except EngineUnavailable as error:
                return error.reason
            # What Slurm said a moment ago is still taken for true.
            await asyncio.sleep(0.05)


def _started(view: EngineView, attempt_id: str) -> GangStatus | None:
    return next((g for g in view.gangs if g.attempt_id == attempt_id and g.started_at), None)


def test_what_slurm_refuses_fails_with_its_words(on_site: OnSite) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster(options={"partition": "no-such-partition"})
        await lab.engine.ensure_cluster(cluster)
        status = await lab.end_of(await lab.run("true", ("any",), cluster))
        assert status.result is GangResult.FAILED
        assert status.reason is not None and status.reason.code is ReasonCode.JOB_LAUNCH_FAILED
        assert "invalid partition" in status.reason.text

    on_site(body)


def test_what_cannot_be_on_slurm_is_refused_before_anything_happens(on_site: OnSite) -> None:
    async def body(lab: Lab) -> None:
        with pytest.raises(EngineError, match="no option 'queue'; there are account"):
            await lab.engine.ensure_cluster(lab.cluster(options={"queue": "x"}))
        cluster = lab.cluster()
        await lab.engine.ensure_cluster(cluster)
        gang = replace(lab.gang("true", ("any",), cluster), user=JobUser(1900001000, 1900001001))
        with pytest.raises(EngineError, match="share_user"):
            await lab.engine.start_gang(gang)
        view = await lab.engine.view()
        assert (view.gangs, view.clusters) == ((), (cluster.uid,))

    on_site(body)


def test_nothing_secret_is_in_the_script_or_stays_on_disk(slurm_site: Site, on_site: OnSite, tmp_path: Path) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(2, cluster)
        up, secret = "$AZ_BATCHAI_MOUNT_ROOT/up", f"s3cr3t-{mark()}"
        gang = lab.gang(f"echo ${{#KEY}} > {up}; {sleeper(mark())}", nodes, cluster, secrets={"KEY": secret})
        gang.properties["secrets"] = [{"name": "KEY"}]
        await lab.engine.start_gang(gang)
        await eventually((mounts(lab, cluster.uid) / "up").exists, "the job")
        (job,) = slurm_site.states()
        script = slurm_site.run("scontrol", "write", "batch_script", job, "-")
        assert "start.py" in script and secret not in script
        assert (mounts(lab, cluster.uid) / "up").read_text().strip() == str(len(secret))
        assert _files_with(secret, tmp_path, slurm_site.root / "state") == []
        assert not [pid for pid in _pids() if secret.encode() in _command_line(pid)]
        await lab.engine.stop_gang(gang.attempt_id, STOP, 0.2)
        await lab.end_of(gang.attempt_id)

    on_site(body)


def _files_with(text: str, *folders: Path) -> list[Path]:
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return [path for path in files if text.encode() in path.read_bytes()]


def _pids() -> list[str]:
    return [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _command_line(pid: str) -> bytes:
    try:
        return Path("/proc", pid, "cmdline").read_bytes()
    except OSError:
        return b""


def test_nodes_are_seen_with_slurm_s_states(slurm_site: Site, on_site: OnSite) -> None:
    async def body(lab: Lab) -> None:
        first, second = lab.cluster(pool=1), lab.cluster(pool=2, options={"partition": "low"})
        slurm_site.run("scontrol", "update", "NodeName=n2", "State=DRAIN", "Reason=a fan is | broken")
        await lab.engine.ensure_cluster(first)
        await lab.engine.ensure_cluster(second)
        view = await lab.until(lambda view: view if len(view.nodes) == 8 else None, "the nodes of both clusters")
        assert len({node.node_id for node in view.nodes}) == 8
        assert len({node.address for node in view.nodes}) == 4
        by_name = {node.host_name: node for node in view.nodes if node.cluster_uid == second.uid}
        assert by_name["n1"].condition is NodeCondition.READY
        drained = by_name["n2"]
        assert drained.condition is NodeCondition.UNUSABLE and drained.reason is not None
        assert "a fan is | broken" in drained.reason.text and "State=RESUME" in drained.reason.text

    on_site(body)


def test_priority_becomes_nice_and_names_are_those_of_the_job(slurm_site: Site, on_site: OnSite) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(1, cluster)
        blocking = slurm_site.run("sbatch", "--parsable", "-N4", "--exclusive", "-o/dev/null", "--wrap=sleep 600")
        await eventually(lambda: slurm_site.states().get(blocking) == "RUNNING", "what takes all nodes")
        gangs = [replace(lab.gang("true", nodes, cluster), priority=priority) for priority in (-1000, 0, 1000)]
        for gang in gangs:
            await lab.engine.start_gang(gang)
        told = slurm_site.run("squeue", "-h", "-t", "PENDING", "-O", "Name:32,Nice:12").splitlines()
        # An ordinary user of Slurm cannot raise a job above others.
        assert {tuple(line.split()) for line in told} == {
            (gangs[0].job, "1000"),
            (gangs[1].job, "0"),
            (gangs[2].job, "0"),
        }
        slurm_site.run("scancel", blocking)
        for gang in gangs:
            assert (await lab.end_of(gang.attempt_id)).result is GangResult.SUCCEEDED

    on_site(body)


@pytest.mark.parametrize("exclusive", ["yes", "no"])
def test_gpus_of_the_vm_size_are_asked_for_and_given_to_ranks(on_site: OnSite, exclusive: str) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster(gpus=2, options={"exclusive": exclusive})
        nodes = await lab.add_nodes(2, cluster)
        told = "$AZ_BATCHAI_MOUNT_ROOT/gpus"
        look = f"echo $(hostname) $CUDA_VISIBLE_DEVICES $AZ_BATCHAI_NUM_GPUS >> {told}"
        status = await lab.end_of(await lab.run("true", nodes, cluster, preparation=look))
        assert status.result is GangResult.SUCCEEDED, status
        found = sorted((mounts(lab, cluster.uid) / "gpus").read_text().splitlines())
        assert [line.split()[1:] for line in found] == [["0,1", "2"]] * 2
        assert len({line.split()[0] for line in found}) == 2

    on_site(body)


#: Stands in for ssh to a login node (a double): notes whom it was to reach and runs what it was given with a shell, as
#: sshd does, in an environment of its own.
SSH = """#!/bin/bash
while [[ $1 == -o* ]]; do shift; done
echo "$1" >> {folder}/reached; shift
[ "$1" = -- ] && shift
[ -e {folder}/down ] && {{ echo "ssh: connect to host login port 22: No route to host" >&2; exit 255; }}
exec env -i PATH=/usr/bin:/bin HOME=/root USER=root SLURM_CONF={conf} bash -c "$*"
"""


def test_commands_run_on_a_login_node(slurm_site: Site, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "ssh").write_text(SSH.format(folder=tools, conf=slurm_site.conf))
    (tools / "ssh").chmod(0o755)
    environment = slurm_site.environment
    slurm_site.environment = {"PATH": f"{tools}:/bin", "HOME": "/root"}

    async def body(lab: Lab) -> None:
        cluster = lab.cluster(options={"constraint": "[a|b]"})
        await lab.engine.ensure_cluster(cluster)
        refused = await lab.end_of(await lab.run("true", ("any",), cluster))
        # What a shell would take for its own has come as it is.
        assert refused.reason is not None and "feature" in refused.reason.text.lower()
        cluster = lab.cluster()
        nodes = await lab.add_nodes(1, cluster)
        assert (await lab.end_of(await lab.run("true", nodes, cluster))).result is GangResult.SUCCEEDED
        (tools / "down").touch()
        await lab.run("true", nodes, cluster)
        text = (await _away(lab)).text
        assert "from me@login" in text and "No route to host" in text
        (tools / "down").unlink()
        await lab.until(lambda view: True if all(gang.result for gang in view.gangs) else None, "all ends")
        assert set((tools / "reached").read_text().split()) == {"me@login"}

    def with_all_commands() -> None:
        slurm_site.environment = environment

    try:
        run_on(slurm_site, tmp_path, body, finally_=with_all_commands, ssh="me@login")
    finally:
        with_all_commands()
