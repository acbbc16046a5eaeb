"""Promises that are the local engine's own: durable words, volumes, secrets, GPUs, users without privileges."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engines.conformance import mounts
from tests.engines.conftest import InLab
from tests.engines.lab import Lab, cluster_spec, eventually, living, mark, sleeper
from tests.engines.processes import ancestor_below, command_of, daemon_pid
from tests.support.machine import needs_namespaces
from trainshed.engines.local.engine import LocalEngine
from trainshed.engines.local.layout import Layout
from trainshed.engines.local.leftovers import marked
from trainshed.engines.protocol import EngineError, EngineUnavailable, GangResult, GangStatus, NodeCondition, NodeSpec
from trainshed.resources.reasons import ReasonCode
from trainshed.runner import linux

pytestmark = pytest.mark.slow

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
NOBODY = 65534


def test_a_durable_word_that_was_never_told_counts(in_lab: InLab, home: Path) -> None:
    """The daemon dies between a job's success and its report: the success stands, the job is not lost."""

    async def body(lab: Lab) -> None:
        cluster = cluster_spec()
        nodes = await lab.add_nodes(1, cluster)
        daemon = daemon_pid(home)
        attempt = await lab.run("until [ -e $AZ_BATCHAI_MOUNT_ROOT/go ]; do sleep 0.02; done", nodes, cluster)
        os.kill(daemon, signal.SIGSTOP)
        (mounts(lab, cluster) / "go").touch()
        word = Layout(home).attempt(attempt) / "0" / "outcome.json"
        await eventually(word.exists, "the runner's durable word")
        os.kill(daemon, signal.SIGKILL)
        status = await lab.end_of(attempt)
        assert (status.result, status.exit_code) == (GangResult.SUCCEEDED, 0)

    in_lab(body)


@pytest.mark.parametrize("member", [0, 1], ids=["master", "worker"])
def test_killed_runner_of_a_gang(in_lab: InLab, home: Path, member: int) -> None:
    """Only the daemon knows that the node is whole: the other runner sees but a broken connection."""

    async def body(lab: Lab) -> None:
        cluster = cluster_spec()
        nodes = await lab.add_nodes(2, cluster)
        name = mark()
        prepare = sleeper(f"{name}-$(basename $(dirname $AZ_BATCHAI_JOB_TEMP_DIR))")
        names = [f"{name}-{node_id}" for node_id in nodes]
        attempt = await lab.run("true", nodes, cluster, preparation=prepare)
        await eventually(lambda: all(map(living, names)), "both nodes prepare")
        os.kill(ancestor_below(living(names[member])[0], daemon_pid(home))[1], signal.SIGKILL)
        status = await lab.end_of(attempt)
        assert living(names[0]) + living(names[1]) == []
        assert status.result is GangResult.LOST
        assert status.reason is not None and status.reason.code is ReasonCode.RUNNER_LOST
        assert status.reason.details["node"] == nodes[member]

    in_lab(body)


def test_a_dead_daemon_is_replaced_and_the_listener_told(home: Path) -> None:
    async def body() -> None:
        told: asyncio.Queue[GangStatus | None] = asyncio.Queue()
        engine = LocalEngine(home)
        await engine.start(told.put_nowait)
        try:
            first = daemon_pid(home)
            os.kill(first, signal.SIGKILL)
            async with asyncio.timeout(30):
                assert await told.get() is None
            assert (await engine.view()).nodes == ()
            assert daemon_pid(home) != first
        finally:
            await engine.shut_down()
            await engine.close()

    asyncio.run(body())
    # An orderly end says nothing.
    assert Layout(home).log.read_text() == ""


def test_shut_down_while_the_daemon_is_away(home: Path) -> None:
    """The reconnection that is under way must not leave a new daemon behind."""

    async def body() -> None:
        engine = LocalEngine(home)
        await engine.start(lambda status: None)
        try:
            os.kill(daemon_pid(home), signal.SIGKILL)
            with pytest.raises(EngineUnavailable):
                await engine.view()
            await engine.shut_down()
        finally:
            await engine.close()
        assert marked(Layout(home).mark) == []

    asyncio.run(body())


def test_a_frozen_node_leaves_all_the_same(in_lab: InLab, home: Path) -> None:
    """It does not hear that it is to leave (SIGSTOP), so it is killed with all that runs on it."""

    async def body(lab: Lab) -> None:
        cluster = cluster_spec()
        nodes = await lab.add_nodes(2, cluster)
        name = mark()
        await lab.run(sleeper(name), nodes[:1], cluster)
        await eventually(lambda: living(name), "the job")
        frozen = ancestor_below(living(name)[0], daemon_pid(home))[0]
        os.kill(frozen, signal.SIGSTOP)
        await lab.engine.remove_nodes(nodes[:1])
        await lab.until(lambda view: True if len(view.nodes) == 1 else None, "the frozen node is gone")
        assert living(name) == []

    in_lab(body)


def test_a_daemon_that_cannot_start_says_why(home: Path) -> None:
    home.mkdir()
    (home / "engine").write_text("in the way")

    async def body() -> None:
        with pytest.raises(EngineError) as refusal:
            await LocalEngine(home).start(lambda status: None)
        assert refusal.value.reason.code is ReasonCode.ENGINE_UNAVAILABLE
        assert str(home / "engine") in refusal.value.reason.text

    asyncio.run(body())


def test_the_log_says_once_what_nodes_lack(in_lab: InLab, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINSHED_ISOLATION", "none")

    async def body(lab: Lab) -> None:
        await lab.add_nodes(2, cluster_spec())
        assert Layout(home).log.read_text().count("no namespaces (TRAINSHED_ISOLATION=none)") == 1

    in_lab(body)


def test_gpus_that_are_not_there_are_refused(in_lab: InLab) -> None:
    async def body(lab: Lab) -> None:
        with pytest.raises(EngineError) as refusal:
            await lab.engine.add_nodes(cluster_spec(gpus=64), (NodeSpec("n", 0),))
        assert refusal.value.reason.code is ReasonCode.ALLOCATION_FAILED
        assert "64 GPUs" in refusal.value.reason.text
        assert (await lab.engine.view()).nodes == ()

    in_lab(body)


def test_secrets_are_in_no_command_line(in_lab: InLab, home: Path) -> None:
    async def body(lab: Lab) -> None:
        cluster = cluster_spec()
        nodes = await lab.add_nodes(1, cluster)
        name = mark()
        await lab.run(sleeper(name), nodes, cluster, secrets={"KEY": "the-value-of-the-secret"})
        await eventually(lambda: living(name), "the job")
        assert not [line for line in map(command_of, marked(Layout(home).mark)) if "the-value-of-the-secret" in line]
        assert "KEY=the-value-of-the-secret" in environment_of(living(name)[0])

    in_lab(body)


def test_setup_secrets_are_given_to_a_new_daemon(in_lab: InLab, home: Path) -> None:
    """They are not on disk, so nodes wait until the service gives them again, which it does by itself."""

    async def body(lab: Lab) -> None:
        task = {"commandLine": "echo $TOKEN", "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT"}
        cluster = cluster_spec(node_setup={"setupTask": task}, setup_suffix="s", setup_secrets={"TOKEN": "t0"})
        nodes = await lab.add_nodes(1, cluster)
        os.kill(daemon_pid(home), signal.SIGKILL)
        await lab.node(nodes[0], boot=2)
        assert (mounts(lab, cluster) / "s" / f"stdout-{nodes[0]}.txt").read_text() == "t0\nt0\n"

    in_lab(body)


def test_the_reason_of_a_failed_setup_task_holds_no_secret(in_lab: InLab) -> None:
    async def body(lab: Lab) -> None:
        task = {"commandLine": "echo bad $TOKEN >&2; exit 1", "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT"}
        cluster = cluster_spec(node_setup={"setupTask": task}, setup_secrets={"TOKEN": "t0-secret"})
        await lab.engine.add_nodes(cluster, (NodeSpec("n", 0),))
        status = await lab.node("n", NodeCondition.UNUSABLE)
        assert status.reason is not None
        assert status.reason.details["stderr"] == "bad ***"

    in_lab(body)


@root_only
@needs_namespaces
def test_volumes_of_a_cluster_are_mounted_on_its_nodes_only(in_lab: InLab, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "file").write_text("from the volume")
    volume = {"relativeMountPath": "data", "mountCommand": f"mount --bind {data}"}

    async def body(lab: Lab) -> None:
        cluster = cluster_spec(node_setup={"mountVolumes": {"unmanagedFileSystems": [volume]}})
        nodes = await lab.add_nodes(2, cluster)
        for node in nodes:
            status = await lab.end_of(await lab.run("cat $AZ_BATCHAI_MOUNT_ROOT/data/file", (node,), cluster))
            assert status.result is GangResult.SUCCEEDED, status
        assert list((mounts(lab, cluster) / "data").iterdir()) == []
        await lab.engine.remove_nodes(nodes)
        await lab.until(lambda view: True if not view.nodes else None, "no node")
        assert (data / "file").read_text() == "from the volume"

    in_lab(body)


@root_only
@needs_namespaces
def test_volumes_end_with_the_nodes_without_namespaces_too(
    in_lab: InLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then they are mounted for the whole machine. In a mount namespace of the test's own, should it go wrong."""
    monkeypatch.setenv("TRAINSHED_ISOLATION", "none")
    data = tmp_path / "data"
    data.mkdir()
    (data / "file").write_text("from the volume")
    volume = {"relativeMountPath": "data", "mountCommand": f"mount --bind {data}"}

    async def body(lab: Lab) -> None:
        cluster = cluster_spec(node_setup={"mountVolumes": {"unmanagedFileSystems": [volume]}})
        nodes = await lab.add_nodes(1, cluster)
        assert (mounts(lab, cluster) / "data" / "file").exists()
        await lab.engine.remove_nodes(nodes)
        await lab.until(lambda view: True if not view.nodes else None, "no node")
        assert not (mounts(lab, cluster) / "data" / "file").exists()
        assert (data / "file").read_text() == "from the volume"

    in_own_mounts(lambda: in_lab(body))


def test_a_volume_that_cannot_be_mounted_makes_the_node_unusable(in_lab: InLab) -> None:
    volume = {"relativeMountPath": "data", "mountCommand": "echo no such server; exit 32;"}

    async def body(lab: Lab) -> None:
        cluster = cluster_spec(node_setup={"mountVolumes": {"unmanagedFileSystems": [volume]}})
        await lab.engine.add_nodes(cluster, (NodeSpec("n", 0),))
        status = await lab.node("n", NodeCondition.UNUSABLE)
        assert status.reason is not None and status.reason.code is ReasonCode.VOLUME_MOUNT_FAILED
        assert "no such server" in status.reason.text

    in_lab(body)


def test_a_mount_program_may_keep_its_output_open(in_lab: InLab) -> None:
    """A program that goes into the background with its output open must not hold up the node."""
    name = mark()
    volume = {"relativeMountPath": "data", "mountCommand": f"(exec -a {name} sleep 1000) & exit 9;"}

    async def body(lab: Lab) -> None:
        cluster = cluster_spec(node_setup={"mountVolumes": {"unmanagedFileSystems": [volume]}})
        await lab.engine.add_nodes(cluster, (NodeSpec("n", 0),))
        await lab.node("n", NodeCondition.UNUSABLE)
        await lab.engine.remove_nodes(("n",))
        await lab.until(lambda view: True if not view.nodes else None, "no node")
        assert living(name) == []

    in_lab(body)


_AS_ANOTHER_USER = """
import asyncio, pathlib, sys
from tests.engines.conformance import a_stop_ends_everything_with_its_reason, an_exit_code_is_reported
from tests.engines.lab import Lab
from trainshed.engines.local.engine import LocalEngine

async def main():
    lab = Lab(lambda: LocalEngine(pathlib.Path(sys.argv[1])))
    await lab.start()
    try:
        await an_exit_code_is_reported(lab)
        await a_stop_ends_everything_with_its_reason(lab)
    finally:
        await lab.engine.shut_down()
        await lab.engine.close()

asyncio.run(main())
"""


@root_only
@pytest.mark.parametrize("isolation", ["", "none"], ids=["namespaces", "none"])
def test_a_user_without_privileges(isolation: str) -> None:
    root = Path(__file__).parents[2]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{root / 'src'}:{root}:{Path(pytest.__file__).parents[1]}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TRAINSHED_ISOLATION": isolation,
    }
    python = _python_of_anybody(environment)
    # Not below pytest's own directory, which is closed to others.
    home = Path(tempfile.mkdtemp(prefix="trainshed-test-"))
    os.chown(home, NOBODY, NOBODY)
    try:
        done = subprocess.run(
            _as_nobody(python, "-c", _AS_ANOTHER_USER, str(home / "home")),
            env={**environment, "HOME": str(home), "TMPDIR": str(home)},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert marked(Layout(home / "home").mark) == []
    finally:
        shutil.rmtree(home)


def environment_of(pid: int) -> list[str]:
    """Its environment as it was when it was started."""
    return Path(f"/proc/{pid}/environ").read_text().split("\0")


def in_own_mounts(body: Callable[[], None]) -> None:
    """Call it in a forked process whose mounts are its own."""
    pid = os.fork()
    if pid == 0:
        try:
            linux.unshare(linux.CLONE_NEWNS)
            linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
            body()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _python_of_anybody(environment: dict[str, str]) -> str:
    """An interpreter that another user may execute and that finds this project and pytest there."""
    probe = "import subprocess, sys, pytest, tests.engines.lab; subprocess.run([sys.executable, '-c', ''], check=True)"
    for python in (sys.executable, "/usr/bin/python3"):
        tried = subprocess.run(_as_nobody(python, "-c", probe), env=environment, capture_output=True, check=False)
        if tried.returncode == 0:
            return python
    pytest.skip("no Python 3.11 here that another user may execute, with this project in reach")


def _as_nobody(*command: str) -> list[str]:
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]
