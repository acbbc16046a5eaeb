"""Nodes that share no file system with the service: its directory is hidden from them, and each has its own disk."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.engines.lab import Lab, eventually, living, mark, sleeper
from tests.engines.slurm.gate import Gate
from tests.engines.slurm.laboratory import run_afar
from tests.engines.slurm.slurm_site import Site
from tests.engines.slurm.test_losses import next_attempt, running
from trainshed.engines.protocol import EngineView, GangResult, GangSpec, GangStatus
from trainshed.engines.slurm import delivery
from trainshed.engines.slurm.delivery import archive_digest
from trainshed.engines.slurm.node.runners import UNUSED_SECONDS
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.runner.code import blob_path

pytestmark = pytest.mark.slow

STOP = Reason(ReasonCode.JOB_TERMINATED, "The test wants it so.")
Afar = Callable[..., None]


@pytest.fixture
def afar(slurm_site: Site) -> Afar:
    """Runs a coroutine with an engine whose nodes reach it over HTTPS alone."""
    return partial(run_afar, slurm_site)


def mounts(lab: Lab, uid: str) -> Path:
    root = lab.engine.mount_root(uid)
    assert root is not None
    return Path(root)


def test_a_job_gets_its_code_and_secrets_and_its_logs_and_outputs_come_back(afar: Afar, slurm_site: Site) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(1, cluster)
        secret = f"s3cr3t-{mark()}"
        command = (
            "echo ${#KEY}; echo to stderr >&2; mkdir -p $AZ_BATCHAI_MOUNT_ROOT/out/deep; "
            "head -c 9000000 /dev/zero | tr '\\0' x > $AZ_BATCHAI_MOUNT_ROOT/out/deep/big; "
            "echo small > $AZ_BATCHAI_MOUNT_ROOT/out/small; ln -s /etc/passwd $AZ_BATCHAI_MOUNT_ROOT/out/link; "
            f"ls {slurm_site.hidden} | wc -l; env | grep -c TICKET_TOKEN"
        )
        gang = lab.gang(command, nodes, cluster, secrets={"KEY": secret})
        gang.properties["secrets"] = [{"name": "KEY"}]
        await lab.engine.start_gang(gang)
        ended = await lab.end_of(gang.attempt_id)
        folder = mounts(lab, cluster.uid)
        (stdout,) = folder.rglob("stdout.txt")
        assert stdout.read_text().split() == [str(len(secret)), "0", "0"], ended
        assert (stdout.parent / "stderr.txt").read_text() == "to stderr\n"
        assert "ended with exit code 1" in (stdout.parent / "execution.log").read_text()
        assert (ended.result, ended.exit_code) == (GangResult.FAILED, 1)  # grep found nothing
        assert (folder / "out/deep/big").stat().st_size == 9_000_000
        assert (folder / "out/small").read_text() == "small\n"
        assert not (folder / "out/link").exists()

    afar(body)


def test_two_nodes_with_code_are_one_gang_and_stop_when_told(afar: Afar, tmp_path: Path) -> None:
    setup = {"commandLine": "echo set $TOKEN", "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/setup"}

    async def body(lab: Lab) -> None:
        cluster = lab.cluster(node_setup={"setupTask": setup}, setup_suffix="s", setup_secrets={"TOKEN": "t0"})
        nodes = await lab.add_nodes(2, cluster)
        name = mark()
        store, manifest = code_of(tmp_path, {"train.sh": f"echo from code; {sleeper(name)}", "data/x": "x"})
        # Each node has a mount root of its own: nothing that the others wrote is there.
        prepare = "cd $AZ_BATCHAI_MOUNT_ROOT; hostname >> same; echo prepared > by-$(hostname)"
        gang = lab.gang("cat data/x; bash train.sh", nodes, cluster, preparation=prepare)
        gang = replace(gang, code_store=store, code_manifest=manifest)
        await lab.engine.start_gang(gang)
        started = await running(lab, gang.attempt_id)
        assert len(started.hosts) == 2
        folder = mounts(lab, cluster.uid)
        # Logs are here while the job runs.
        await eventually(lambda: [p for p in folder.rglob("stdout.txt") if "from code" in p.read_text()], "its log")
        assert len(living(name)) == 1
        await lab.engine.stop_gang(gang.attempt_id, STOP, 0.5)
        ended = await lab.end_of(gang.attempt_id)
        assert (ended.result, ended.reason) == (GangResult.STOPPED, STOP)
        assert living(name) == []
        hosts = {host.partition("-")[2] for host in started.hosts}
        assert {path.name for path in folder.glob("by-*")} == {f"by-{host}" for host in hosts}
        assert (folder / "same").read_text().split() in [[host] for host in hosts]
        assert [(folder / f"setup/s/stdout-{host}.txt").read_text() for host in hosts] == ["set t0\n"] * 2

    afar(body)


def test_ranks_of_mpi_start_on_nodes_that_do_not_see_each_other_s_directories(afar: Afar) -> None:
    programs = Path(sys.executable).parent
    if not (programs / "mpiexec.hydra").exists():
        pytest.skip("no MPICH beside the interpreter: pip install mpich")

    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(2, cluster)
        gang = lab.gang("", nodes, cluster)
        del gang.properties["customToolkitSettings"]
        command = "echo rank $PMI_RANK of $PMI_SIZE on $(hostname)"
        gang.properties["customMpiSettings"] = {"commandLine": command, "processCount": 2}
        path = {"name": "PATH", "value": f"{programs}:{os.environ['PATH']}"}
        gang.properties["environmentVariables"] = [path]
        await lab.engine.start_gang(gang)
        ended = await lab.end_of(gang.attempt_id)
        assert ended.result is GangResult.SUCCEEDED, ended
        (stdout,) = mounts(lab, cluster.uid).rglob("stdouterr/stdout.txt")
        names = [host.partition("-")[2] for host in ended.hosts]
        assert sorted(stdout.read_text().splitlines()) == [f"rank {n} of 2 on {name}" for n, name in enumerate(names)]

    afar(body)


def test_slurm_s_own_warning_reaches_all_nodes(afar: Afar, slurm_site: Site) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(2, cluster)
        command = "trap 'echo warned; exit 3' USR1; echo up; while :; do sleep 0.02; done"
        gang = lab.gang(command, nodes, cluster)
        gang.properties["preemption"] = {"signal": "SIGUSR1", "gracePeriod": "PT1M"}
        await lab.engine.start_gang(gang)
        folder = mounts(lab, cluster.uid)
        await eventually(lambda: [p for p in folder.rglob("stdout.txt") if "up" in p.read_text()], "the job")
        (job,) = slurm_site.states()
        slurm_site.run("scancel", "--batch", "--signal=USR2", job)
        status = await lab.end_of(gang.attempt_id)
        assert (status.result, status.again) == (GangResult.STOPPED, False), status
        assert status.reason is not None and status.reason.code is ReasonCode.PREEMPTED
        (stdout,) = folder.rglob("stdout.txt")
        assert stdout.read_text() == "up\nwarned\n"

    afar(body)


def code_of(folder: Path, files: dict[str, str]) -> tuple[str, dict[str, dict[str, object]]]:
    manifest: dict[str, dict[str, object]] = {}
    for path, text in files.items():
        digest = hashlib.sha256(text.encode()).hexdigest()
        blob = Path(blob_path(str(folder), digest))
        blob.parent.mkdir(exist_ok=True)
        blob.write_text(text)
        manifest[path] = {"sha256": digest, "mode": 0o644}
    return str(folder), manifest


def test_a_job_goes_on_while_the_service_is_away_and_all_of_it_is_told_later(afar: Afar, slurm_site: Site) -> None:
    """Away for longer than the lease: Slurm says that the run is the present one."""

    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(1, cluster)
        gang = lab.gang("echo one; sleep 14; echo two; echo kept > $AZ_BATCHAI_MOUNT_ROOT/kept", nodes, cluster)
        await lab.engine.start_gang(gang)
        await running(lab, gang.attempt_id)
        folder = mounts(lab, cluster.uid)
        await eventually(lambda: [p for p in folder.rglob("stdout.txt") if p.read_text()], "its log")
        await lab.engine.close()
        kept = [slurm_site.own_of(name) for name in slurm_site.names]
        await eventually(lambda: [path for own in kept for path in own.glob("*/*-afar/mounts/kept")], "its last file")
        await lab.restart_service()
        ended = await lab.end_of(gang.attempt_id)
        assert ended.result is GangResult.SUCCEEDED, ended
        (stdout,) = folder.rglob("stdout.txt")
        assert stdout.read_text() == "one\ntwo\n"
        assert (folder / "kept").read_text() == "kept\n"

    afar(body, lease=12)


def test_what_a_dead_node_ran_runs_once_more_elsewhere_and_never_twice_at_once(
    afar: Afar, slurm_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gang whose processes outlive a slurmd: the service tells them to end. A single one on a node that is cut off
    from the service too: it ends when its lease is over, since Slurm says that it is not the present run.

    It is also what the conformance suite has of a node's death, where there is more to it than with a shared directory.
    """

    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(2, cluster)
        names = {"wide": mark(), "single": mark()}
        mine = "[ -e $AZ_BATCHAI_MOUNT_ROOT/mine ] && echo not empty; touch $AZ_BATCHAI_MOUNT_ROOT/mine"
        command = f"echo attempt $TRAINSHED_ATTEMPT; {mine}; [ $TRAINSHED_ATTEMPT = 2 ] || {{}}"
        wide = lab.gang(command.format(sleeper(names["wide"])), nodes, cluster)
        single = lab.gang(command.format(sleeper(names["single"])), nodes[:1], cluster)
        died = []
        for gang in (wide, single):
            await lab.engine.start_gang(gang)
            died.append((await running(lab, gang.attempt_id)).hosts[0].partition("-")[2])
        await eventually(lambda: all(map(living, names.values())), "both jobs")
        logs = mounts(lab, cluster.uid)
        await eventually(lambda: sum("1" in p.read_text() for p in logs.rglob("stdout.txt")) == 2, "both logs")
        gate.cut_off(died[1])
        for node in died:
            slurm_site.kill(node)
        for gang in (wide, single):
            status = await lab.end_of(gang.attempt_id)
            assert status.result is GangResult.LOST and status.again, status
            assert status.reason is not None and status.reason.code is ReasonCode.NODE_LOST, status.reason
            await lab.restart_service()
            assert await lab.end_of(gang.attempt_id) == status
            await lab.engine.forget_gang((gang.attempt_id,))
            await lab.engine.start_gang(next_attempt(gang))

        async def second_run(gang: GangSpec, name: str) -> None:
            second = next_attempt(gang)
            await lab.until(partial(begun, second.attempt_id), "its second run")
            # It began when nothing of the first was left.
            assert living(name) == []
            status = await lab.end_of(second.attempt_id)
            assert status.result is GangResult.SUCCEEDED, status
            assert not {host.partition("-")[2] for host in status.hosts} & set(died)

        await asyncio.gather(second_run(wide, names["wide"]), second_run(single, names["single"]))
        for stdout in logs.rglob("stdout.txt"):
            assert stdout.read_text() == "attempt 1\nattempt 2\n"

    # Slurm starts a run some six seconds after it has taken the node for dead: the lease is longer.
    monkeypatch.setattr("trainshed.engines.slurm.relay.filing.LEASE_MARGIN", 6.0)
    with Gate() as gate:
        afar(body, gate=gate, lease=14)


def test_runners_go_when_nothing_uses_them_any_more(afar: Afar, slurm_site: Site, renewed: Callable[[], None]) -> None:
    """With a service that is renewed while a job waits, and one that begins an hour later."""

    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(4, cluster)
        former = archive_digest()
        busy = slurm_site.run("sbatch", "--parsable", "-N4", "--exclusive", "-o/dev/null", "--wrap=sleep 1000")
        await eventually(lambda: slurm_site.states()[busy] == "RUNNING", "busy nodes")
        waiting = await lab.run("true", nodes[:1], cluster)
        renewed()
        await lab.restart_service()
        # The service's side: while the job waits, and a start later.
        archives = mounts(lab, cluster.uid).parents[2] / "runner"
        assert former != archive_digest() and [path.name for path in archives.iterdir()] == [f"{former}.tar.xz"]
        slurm_site.run("scancel", busy)
        ended = await lab.end_of(waiting)
        assert ended.result is GangResult.SUCCEEDED, ended
        await eventually(lambda: list(archives.iterdir()) == [], "an end of the archive")
        # The nodes' side: a job of another version, soon afterwards and after more than an hour.
        places = [own / f"trainshed-{os.geteuid()}" / "runner" for own in map(slurm_site.own_of, slurm_site.names)]
        olds = [place / former[:16] for place in places if (place / former[:16]).exists()]
        assert olds
        for age in (0.0, 2 * UNUSED_SECONDS):
            for old in olds:
                os.utime(old, (time.time() - age,) * 2)
            ended = await lab.end_of(await lab.run("true", nodes, cluster))
            assert ended.result is GangResult.SUCCEEDED, ended
            assert all((place / archive_digest()[:16]).is_dir() for place in places)
            assert [old.exists() for old in olds] == [age == 0.0] * len(olds)

    afar(body)


@pytest.fixture
def renewed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Makes another version of what the service sends."""

    def forget() -> None:
        for cached in (delivery.archive_digest, delivery._archive, delivery.digest):
            cached.cache_clear()

    def renew() -> None:
        files = {**delivery._files(), "trainshed/renewed.py": b""}
        monkeypatch.setattr(delivery, "_files", lambda: files)
        forget()

    yield renew
    monkeypatch.undo()
    forget()


def begun(attempt_id: str, view: EngineView) -> GangStatus | None:
    return next((gang for gang in view.gangs if gang.attempt_id == attempt_id and gang.started_at), None)
