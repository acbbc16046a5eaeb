"""Setups of nodes whose users are strangers: their root is nobody; what they mount and leave belongs to the node."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.engines.conftest import run_in_lab
from tests.engines.lab import Lab, cluster_spec, eventually, living, mark, sleeper
from trainshed.engines.local.disk import free
from trainshed.engines.local.job_users import hindrance
from trainshed.engines.protocol import GangResult, NodeCondition, NodeSpec
from trainshed.resources.reasons import ReasonCode
from trainshed.resources.users import UserRange

USERS = UserRange(1900001200, 1900001209)
USER, OTHER = USERS.user(1), USERS.user(2)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(hindrance(USERS)), reason=f"jobs cannot have users of their own here: {hindrance(USERS)}"),
]


def setup_task(command: str, **more: Any) -> dict[str, Any]:
    return {"setupTask": {"commandLine": command, "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/setup"}, **more}


async def wrote(lab: Lab, command: str, nodes: tuple[str, ...], cluster: Any) -> str:
    """What a job leaves in ``said`` of its temp directory; it succeeds."""
    status = await lab.end_of(await lab.run(command, nodes, cluster))
    assert status.result is GangResult.SUCCEEDED, status
    return newest(Path(lab.engine.mount_root(cluster.uid) or ""), "stdout.txt").read_text()


def newest(root: Path, name: str) -> Path:
    return max(root.rglob(name), key=lambda path: path.stat().st_mtime_ns)


def test_what_the_setup_mounts_and_writes_is_there_for_jobs(home: Path) -> None:
    command = (
        "mkdir $AZ_BATCHAI_MOUNT_ROOT/fast && mount -t tmpfs -o mode=755 none $AZ_BATCHAI_MOUNT_ROOT/fast && "
        "echo data > $AZ_BATCHAI_MOUNT_ROOT/fast/file && echo tool > $AZ_BATCHAI_MOUNT_ROOT/tool"
    )

    async def body(lab: Lab) -> None:
        cluster = cluster_spec(node_setup=setup_task(command), user=USER)
        nodes = await lab.add_nodes(1, cluster)
        root = Path(lab.engine.mount_root(cluster.uid) or "")
        assert (root / "tool").stat().st_uid == USER.root
        assert list((root / "fast").iterdir()) == []  # mounted for the node, not for the machine
        told = await wrote(
            lab, "cat $AZ_BATCHAI_MOUNT_ROOT/fast/file $AZ_BATCHAI_MOUNT_ROOT/tool; id -u", nodes, cluster
        )
        assert told == f"data\ntool\n{USER.uid}\n"
        # Another workspace's job on the same cluster sees what is mounted, and is another user.
        lab.user = OTHER
        told = await wrote(lab, "cat $AZ_BATCHAI_MOUNT_ROOT/fast/file; id -u", nodes, cluster)
        assert told == f"data\n{OTHER.uid}\n"

    run_in_lab(home, body, USER)


def test_what_the_setup_leaves_lives_as_long_as_the_node(home: Path) -> None:
    name = mark()

    async def body(lab: Lab) -> None:
        cluster = cluster_spec(node_setup=setup_task(f"({sleeper(name)}) & disown"), user=USER)
        nodes = await lab.add_nodes(1, cluster)
        (pid,) = living(name)
        assert os.stat(f"/proc/{pid}").st_uid == USER.root  # noqa: PTH116
        assert "sleep" not in await wrote(lab, "cat /proc/[0-9]*/comm", nodes, cluster)
        assert living(name) == [pid]
        await lab.engine.remove_nodes(nodes)
        await eventually(lambda: not living(name), "the end of what the setup left")

    run_in_lab(home, body, USER)


def test_a_setup_that_fails_says_why(home: Path) -> None:
    async def body(lab: Lab) -> None:
        cluster = cluster_spec(
            node_setup=setup_task("touch /etc/a-setup-was-here; cat $HOME/../../../vault.key"), user=USER
        )
        (home / "vault.key").write_text("key")
        await lab.engine.add_nodes(cluster, (NodeSpec("n", 0),))
        status = await lab.node("n", NodeCondition.UNUSABLE)
        assert status.reason is not None and status.reason.code is ReasonCode.SETUP_TASK_FAILED
        assert "Read-only file system" in status.reason.details["stderr"]
        assert "No such file" in status.reason.details["stderr"]

    run_in_lab(home, body, USER)


def test_a_job_that_fills_the_disk_fails_and_leaves_room(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINSHED_DISK_RESERVE", str(free(home.parent) - (100 << 20)))

    async def body(lab: Lab) -> None:
        cluster = cluster_spec()
        nodes = await lab.add_nodes(1, cluster)
        status = await lab.end_of(await lab.run("dd if=/dev/zero of=/tmp/fill bs=1M count=6000", nodes, cluster))
        assert status.result is GangResult.FAILED
        assert status.reason is not None and status.reason.code is ReasonCode.JOB_DISK_LIMIT_EXCEEDED
        assert list((home / "nodes").rglob("fill")) == []

    run_in_lab(home, body, USER)
