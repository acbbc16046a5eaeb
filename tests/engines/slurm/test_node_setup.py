"""nodeSetup on Slurm's nodes, which nobody sets up before jobs come: each job brings it along."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.engines.lab import Lab, eventually, living, mark, sleeper
from tests.engines.slurm.conftest import OnSite
from trainshed.engines.protocol import EngineUnavailable, GangResult
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.runner.descent import descendants
from trainshed.volumes.unmanaged import is_mounted

pytestmark = pytest.mark.slow

ROOT = "$AZ_BATCHAI_MOUNT_ROOT"
STOP = Reason(ReasonCode.JOB_TERMINATED, "The test wants it so.")


def mounts(lab: Lab, uid: str) -> Path:
    root = lab.engine.mount_root(uid)
    assert root is not None
    return Path(root)


def setup(command: str, volumes: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "setupTask": {"commandLine": command, "stdOutErrPathPrefix": f"{ROOT}/setup"},
        "mountVolumes": volumes,
    }


def volumes_of(data: Path) -> dict[str, Any]:
    data.mkdir()
    allowed = {"path": str(data), "read_only": False, "owner": ""}
    return {
        "hostDirectories": [{"path": str(data), "relativeMountPath": "data", "allowed": [allowed]}],
        "unmanagedFileSystems": [{"mountCommand": "mount -t tmpfs none", "relativeMountPath": "scratch"}],
    }


def test_each_node_is_set_up_once_with_the_cluster_s_volumes_and_secrets(on_site: OnSite, tmp_path: Path) -> None:
    async def body(lab: Lab) -> None:
        command = f"echo $TOKEN; echo set >> {ROOT}/data/all; touch {ROOT}/scratch/here"
        cluster = lab.cluster(
            node_setup=setup(command, volumes_of(tmp_path / "data")),
            setup_suffix="s",
            setup_secrets={"TOKEN": "t0"},
        )
        nodes = await lab.add_nodes(4, cluster)
        prepare = f"[ $(stat -fc %T {ROOT}/scratch) = tmpfs ] && echo job >> {ROOT}/data/all"
        wide = replace(lab.gang("true", nodes, cluster, preparation=prepare), cluster_volumes=cluster.volumes)
        await lab.engine.start_gang(wide)
        ended = await lab.end_of(wide.attempt_id)
        assert ended.result is GangResult.SUCCEEDED, ended
        assert sorted((tmp_path / "data/all").read_text().split()) == ["job"] * 4 + ["set"] * 4
        folder = mounts(lab, cluster.uid) / "setup/s"
        assert {path.name: path.read_text() for path in folder.glob("stdout*")} == {
            f"stdout-n{number}.txt": "t0\n" for number in (1, 2, 3, 4)
        }
        await lab.restart_service()
        again = lab.gang("true", nodes[:1], cluster)
        with pytest.raises(EngineUnavailable, match="nodeSetup"):
            await lab.engine.start_gang(again)
        await lab.engine.ensure_cluster(cluster)
        await lab.engine.start_gang(again)
        assert (await lab.end_of(again.attempt_id)).result is GangResult.SUCCEEDED
        assert (tmp_path / "data/all").read_text().count("set") == 4
        assert not any(is_mounted(str(mounts(lab, cluster.uid) / name)) for name in ("data", "scratch"))

    on_site(body)


def test_a_node_whose_setup_fails_loses_the_attempt(on_site: OnSite) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster(node_setup=setup("echo no disk >&2; exit 3"))
        nodes = await lab.add_nodes(2, cluster)
        ended = await lab.end_of(await lab.run("true", nodes, cluster))
        assert (ended.result, ended.again) == (GangResult.LOST, False)
        assert ended.reason is not None and ended.reason.code is ReasonCode.SETUP_TASK_FAILED
        assert ended.reason.details["node"] in ("n1", "n2", "n3", "n4")
        assert (ended.reason.details["exitCode"], ended.reason.details["stderr"]) == ("3", "no disk")

    on_site(body)


def test_a_job_that_is_stopped_while_its_node_is_set_up_leaves_nothing(on_site: OnSite) -> None:
    async def body(lab: Lab) -> None:
        name = mark()
        cluster = lab.cluster(node_setup=setup(sleeper(name)))
        nodes = await lab.add_nodes(1, cluster)
        attempt = await lab.run("true", nodes, cluster)
        await eventually(lambda: living(name), "the setup task")
        await lab.engine.stop_gang(attempt, STOP, 0.2)
        assert (await lab.end_of(attempt)).result is GangResult.STOPPED
        assert living(name) == []

    on_site(body)


def test_a_killed_runner_s_volumes_keep_what_is_on_them(on_site: OnSite, tmp_path: Path) -> None:
    """The directories of a job are removed when its runner is gone, and so must not show its volumes any more."""

    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(1, cluster)
        volumes = volumes_of(tmp_path / "data")
        (tmp_path / "data/kept").write_text("kept")
        name = mark()
        other = lab.cluster(node_setup=setup("true", volumes))
        gang = replace(lab.gang(sleeper(name), nodes, cluster), volumes=other.volumes[:1])
        await lab.engine.start_gang(gang)
        await eventually(lambda: living(name), "the job")
        ours = _of_the_job(lab.engine.mount_root(cluster.uid))
        above = [pid for pid in ours if living(name)[0] in descendants(pid)]
        holders = [pid for pid in ours if pid not in above]
        try:
            for pid in holders:
                os.kill(pid, signal.SIGSTOP)  # It would take the volumes away, a moment too late perhaps.
            for pid in above:
                if any(pid in descendants(other) for other in above):
                    os.kill(pid, signal.SIGKILL)  # The runner and below; the outermost one is what Slurm started.
            assert (await lab.end_of(gang.attempt_id)).result is GangResult.LOST
        finally:
            for pid in holders:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        assert holders and (tmp_path / "data/kept").read_text() == "kept"

    on_site(body)


def _of_the_job(mount_root: str | None) -> list[int]:
    """Processes of what travels with the job."""
    assert mount_root is not None
    wanted = os.fsencode(str(Path(mount_root).parents[2] / "runner"))
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and wanted in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found
