"""Nodes of the local engine: names, addresses, limits, directories, setup."""

from __future__ import annotations

import json
import os
import socket
import struct
from pathlib import Path

import pytest

from tests.engines.conformance import mounts
from tests.engines.conftest import InLab, run_in_lab
from tests.engines.lab import Lab, cluster_spec, eventually, gang_spec, living, mark, sleeper
from tests.engines.processes import daemon_pid, group_value, memory_of
from tests.support.machine import needs_namespaces
from trainshed.engines.local.cgroups import trees
from trainshed.engines.local.engine import LocalEngine
from trainshed.engines.local.layout import Layout
from trainshed.engines.local.messages import PROTOCOL, encode
from trainshed.engines.protocol import EngineError, EngineUnavailable, GangResult, Leader, NodeCondition, NodeSpec
from trainshed.resources.reasons import ReasonCode

pytestmark = pytest.mark.slow

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and control groups of nodes need root")


@root_only
@needs_namespaces
def test_a_job_sees_its_node(in_lab: InLab) -> None:
    """Host name, and that name resolves to the node's own address (behaviour of gloo and c10d depends on it)."""

    async def body(lab: Lab) -> None:
        cluster = cluster_spec("My Cluster")
        nodes = await lab.add_nodes(2, cluster)
        command = "{ hostname; getent hosts $(hostname); echo $AZ_BATCH_HOST_LIST; } > $AZ_BATCHAI_MOUNT_ROOT/seen"
        assert (await lab.end_of(await lab.run(command, nodes, cluster))).result is GangResult.SUCCEEDED
        name, resolved, hosts = (mounts(lab, cluster) / "seen").read_text().splitlines()
        status = {node.node_id: node for node in (await lab.engine.view()).nodes}
        assert name == status[nodes[0]].host_name
        assert resolved.split()[0] == status[nodes[0]].address
        assert hosts.split(",") == [status[node_id].address for node_id in nodes]

    in_lab(body)


@root_only
@pytest.mark.skipif(trees().get("memory", (None, 0))[1] != 1, reason="reads limits of version 1 control groups")
def test_limits_of_the_vm_size_are_in_force(in_lab: InLab, home: Path) -> None:
    async def body(lab: Lab) -> None:
        cluster = cluster_spec(cpus=2, memory_mib=300)
        nodes = await lab.add_nodes(1, cluster)
        name = mark()
        await lab.run(sleeper(name), nodes, cluster)
        await eventually(lambda: living(name), "the job")
        job = living(name)[0]
        assert int(group_value(job, "memory", "memory.limit_in_bytes")) == 300 * 2**20
        assert int(group_value(job, "cpu", "cpu.cfs_quota_us")) == 200_000

    in_lab(body)


def test_a_job_beyond_the_memory_limit_fails_and_the_node_lives(in_lab: InLab) -> None:
    if os.geteuid() != 0 or "memory" not in trees():
        pytest.skip("no memory limits on this machine")

    async def body(lab: Lab) -> None:
        cluster = cluster_spec(memory_mib=128)
        nodes = await lab.add_nodes(1, cluster)
        status = await lab.end_of(await lab.run("python3 -c 'x = bytearray(400 * 2**20)'", nodes, cluster))
        assert (status.result, status.exit_code) == (GangResult.FAILED, 137)
        assert (await lab.node(nodes[0])).boot == 1

    in_lab(body)


def test_files_of_a_node_go_with_it(in_lab: InLab, home: Path) -> None:
    async def body(lab: Lab) -> None:
        cluster = cluster_spec()
        nodes = await lab.add_nodes(1, cluster)
        await lab.end_of(
            await lab.run("mkdir -p $AZ_BATCHAI_JOB_TEMP/a; touch $AZ_BATCHAI_JOB_TEMP/a/b", nodes, cluster)
        )
        folder = Layout(home).node(nodes[0])
        assert list(folder.rglob("a/b"))
        await lab.engine.remove_nodes(nodes)
        await lab.until(lambda view: True if not view.nodes else None, "no node")
        await eventually(lambda: not list(folder.parent.iterdir()), "the node's directory is gone")

    in_lab(body)


def setup(command: str) -> dict[str, object]:
    """nodeSetup with a task."""
    return {"setupTask": {"commandLine": command, "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/setup"}}


def test_setup_task_runs_at_each_start_with_its_secrets(in_lab: InLab) -> None:
    async def body(lab: Lab) -> None:
        cluster = cluster_spec(
            node_setup=setup("echo out $TOKEN; echo err >&2"), setup_suffix="s", setup_secrets={"TOKEN": "t0"}
        )
        nodes = await lab.add_nodes(1, cluster)
        folder = mounts(lab, cluster) / "setup" / "s"
        assert (folder / f"stdout-{nodes[0]}.txt").read_text() == "out t0\n"
        assert (folder / f"stderr-{nodes[0]}.txt").read_text() == "err\n"

    in_lab(body)


def test_failed_setup_task_makes_the_node_unusable(in_lab: InLab) -> None:
    async def body(lab: Lab) -> None:
        cluster = cluster_spec(node_setup=setup("echo no disk >&2; exit 3"))
        await lab.engine.add_nodes(cluster, (NodeSpec("n", 0),))
        status = await lab.node("n", NodeCondition.UNUSABLE)
        assert status.reason is not None and status.reason.code is ReasonCode.SETUP_TASK_FAILED
        assert status.reason.details["exitCode"] == "3"
        assert status.reason.details["stderr"] == "no disk"
        with pytest.raises(EngineError):
            await lab.run("true", ("n",), cluster)

    in_lab(body)


def test_a_node_that_dies_again_and_again_before_it_is_ready_is_unusable_and_stays_so(in_lab: InLab) -> None:
    """Its setup kills the node's own process: what started the process that started the task."""
    killer = "kill -9 $(cut -d' ' -f4 /proc/$PPID/stat); sleep 60"

    async def body(lab: Lab) -> None:
        await lab.engine.add_nodes(cluster_spec(node_setup=setup(killer)), (NodeSpec("n", 0),))
        status = await lab.node("n", NodeCondition.UNUSABLE)
        assert status.reason is not None and status.reason.code is ReasonCode.NODE_KEEPS_DYING
        assert (status.boot, "5 times in a row" in status.reason.text) == (5, True)
        await lab.engine.remove_nodes(("n",))
        await lab.until(lambda view: not view.nodes or None, "the node's end")

    in_lab(body)


def test_a_node_whose_setup_runs_is_preparing_and_says_so(in_lab: InLab) -> None:
    async def body(lab: Lab) -> None:
        cluster = cluster_spec(node_setup=setup("until [ -e $AZ_BATCHAI_MOUNT_ROOT/go ]; do sleep 0.02; done"))
        await lab.engine.add_nodes(cluster, (NodeSpec("n", 0),))
        status = await lab.node("n", NodeCondition.PREPARING)
        assert status.reason is not None and status.reason.code is ReasonCode.SETUP_TASK_RUNNING
        (mounts(lab, cluster) / "go").touch()
        await lab.node("n")

    in_lab(body)


def test_what_the_setup_task_started_outlives_jobs_but_not_the_node(in_lab: InLab) -> None:
    """A setup task may start a server for the node's jobs (a start task of the original could)."""

    async def body(lab: Lab) -> None:
        name = mark()
        cluster = cluster_spec(node_setup=setup(f"(exec setsid bash -c '{sleeper(name)}') > /dev/null 2>&1 &"))
        nodes = await lab.add_nodes(1, cluster)
        await eventually(lambda: living(name), "the server of the setup task")
        before = living(name)
        await lab.end_of(await lab.run("true", nodes, cluster))
        await lab.end_of(await lab.run("exit 1", nodes, cluster))
        assert living(name) == before
        await lab.engine.remove_nodes(nodes)
        await lab.until(lambda view: True if not view.nodes else None, "no node")
        assert living(name) == []

    in_lab(body)


def test_a_home_too_deep_for_a_socket_works(tmp_path: Path) -> None:
    """Paths of Unix sockets end at 107 bytes (unix(7))."""
    home = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 6, "home")
    socket_path = Layout(home).socket

    async def body(lab: Lab) -> None:
        cluster = cluster_spec()
        nodes = await lab.add_nodes(1, cluster)
        assert (await lab.end_of(await lab.run("true", nodes, cluster))).result is GangResult.SUCCEEDED
        assert socket_path.exists()
        assert socket_path.parent.stat().st_mode & 0o077 == 0

    run_in_lab(home, body)
    assert not socket_path.parent.exists()


def test_homes_do_not_share_subnets(in_lab: InLab, tmp_path: Path) -> None:
    async def body(lab: Lab) -> None:
        other = Lab(lambda: LocalEngine(tmp_path / "other"))
        try:
            await other.start()
            first, second = cluster_spec(), cluster_spec()
            await lab.add_nodes(1, first)
            await other.add_nodes(1, second)
            subnets = {
                node.address.rpartition(".")[0]
                for view in (await lab.engine.view(), await other.engine.view())
                for node in view.nodes
            }
            assert len(subnets) == 2
        finally:
            await other.engine.shut_down()
            await other.engine.close()

    in_lab(body)


def test_a_former_controller_is_fenced(in_lab: InLab, home: Path) -> None:
    """Requests that a dead service still had in flight are not carried out once another one has greeted."""

    async def body(lab: Lab) -> None:
        cluster = cluster_spec()
        nodes = await lab.add_nodes(1, cluster)
        await lab.engine.close()
        former = socket.socket(socket.AF_UNIX)
        former.settimeout(10)
        former.connect(str(Layout(home).socket))
        former.sendall(encode({"protocol": PROTOCOL}))
        assert json.loads(former.recv(4096))["protocol"] == PROTOCOL
        await lab.restart_service()
        name = mark()
        spec = gang_spec(sleeper(name), nodes, cluster)
        request = {"id": 1, "call": "start_gang", "secrets": {}, "gang": {"attempt_id": spec.attempt_id}}
        try:
            former.sendall(json.dumps(request).encode() + b"\n")
            assert former.recv(4096) == b""
        except (BrokenPipeError, ConnectionResetError):
            pass  # Closed already: as good.
        finally:
            former.close()
        assert (await lab.engine.view()).gangs == ()
        assert living(name) == []

    in_lab(body)


def test_a_leader_that_was_superseded_is_turned_away_also_by_another_daemon(in_lab: InLab, home: Path) -> None:
    """It connects again by itself, as it does when the daemon was gone; what it still asks for is not carried out."""

    async def body(lab: Lab) -> None:
        cluster = cluster_spec()
        nodes = await lab.add_nodes(1, cluster)
        await lab.engine.close()
        former = LocalEngine(home, Leader("d", 7))
        await former.start(lambda status: None)
        assert len((await former.view()).nodes) == 1
        current = LocalEngine(home, Leader("d", 8))
        await current.start(lambda status: None)
        name = mark()
        spec = gang_spec(sleeper(name), nodes, cluster)
        for engine in (former, LocalEngine(home, Leader("d", 7))):
            with pytest.raises(EngineUnavailable):
                if engine is not former:
                    await engine.start(lambda status: None)
                await engine.start_gang(spec)
        assert (await current.view()).gangs == ()
        # The lease's own holder may come again, and one of another database has the home now if it is let in at all.
        for leader in (Leader("d", 8), Leader("e", 1)):
            await current.close()
            current = LocalEngine(home, leader)
            await current.start(lambda status: None)
        await current.close()
        await former.close()
        current = LocalEngine(home, Leader("e", 1))
        await current.start(lambda status: None)
        await current.shut_down()
        await current.close()
        late = LocalEngine(home, Leader("e", 0))
        with pytest.raises(EngineUnavailable, match="another process"):
            await late.start(lambda status: None)
        await late.close()
        assert living(name) == []
        await lab.restart_service()

    in_lab(body)


def test_the_socket_is_for_the_owner_only(in_lab: InLab, home: Path) -> None:
    async def body(lab: Lab) -> None:
        await lab.engine.view()
        path = Layout(home).socket
        assert path.stat().st_mode & 0o077 == 0
        assert path.parent.stat().st_mode & 0o077 == 0
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(str(path))
        told = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
        peer.close()
        assert told[0] == daemon_pid(home)

    in_lab(body)


def test_the_daemon_is_light(in_lab: InLab, home: Path) -> None:
    """Idle with two nodes: less than 25 MB (proportional set size)."""
    try:
        memory_of(os.getpid())
    except OSError:
        pytest.skip("the kernel tells no proportional set sizes here")

    async def body(lab: Lab) -> None:
        await lab.add_nodes(2, cluster_spec())
        assert memory_of(daemon_pid(home)) < 25 * 1024

    in_lab(body)
