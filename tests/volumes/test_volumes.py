"""Volumes of a job: the mount command's way, and what all kinds have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.runner.harness import Runner, custom, make_spec, run, stdouterr, wait_for
from tests.volumes import servers
from trainshed.resources.reasons import ReasonCode
from trainshed.resources.volume_sources import volume_sources
from trainshed.runner import isolation
from trainshed.volumes import CommandResult, VolumeError, managed, unmanaged


def by_command(command: str, path: str = "data") -> dict[str, Any]:
    return {"unmanagedFileSystems": [{"mountCommand": command, "relativeMountPath": path}]}


@pytest.fixture
def _mounts() -> None:
    if why_not := isolation.permitted("node-0"):
        pytest.skip(f"no mount namespaces here: {why_not}")


def test_who_mounts_which() -> None:
    share = {"accountName": "a", "azureFileUrl": "https://a/s", "relativeMountPath": "x"}
    sources = volume_sources({**by_command("mount"), "azureFileShares": [share]}, "/mountVolumes")
    assert [source.kind for source in managed(sources)] == ["azureFileShares"]
    assert [volume.point.path for volume in unmanaged(sources, "/mounts")] == ["/mounts/data"]


@pytest.mark.parametrize("path", ["", "/abs", "..", "a/../../b", "."])
def test_mount_paths_stay_below_the_root(path: str) -> None:
    with pytest.raises(VolumeError) as caught:
        unmanaged(volume_sources(by_command("mount", path), ""), "/mounts")
    assert caught.value.reason.code is ReasonCode.VOLUME_MOUNT_FAILED


def test_the_mount_path_is_appended_and_the_tool_s_words_are_passed_on(tmp_path: Path) -> None:
    commands: list[str] = []

    def run_command(command: str) -> CommandResult:
        commands.append(command)
        return CommandResult(32, "mount.nfs: no such server\n")

    (volume,) = unmanaged(volume_sources(by_command("mount -t nfs host:/x"), ""), str(tmp_path))
    with pytest.raises(VolumeError) as caught:
        volume.mount(run_command)
    assert commands == [f"mount -t nfs host:/x {tmp_path}/data"]
    assert "no such server" in caught.value.reason.text


def test_descriptions_hold_no_credentials() -> None:
    (volume,) = unmanaged(volume_sources(by_command("mount -o password=hunter2 //h/s"), ""), "/m")
    assert "hunter2" not in volume.describe()


@pytest.mark.usefixtures("_mounts")
def test_a_job_sees_its_volume_and_it_is_gone_afterwards(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("from the volume\n")
    job = custom("cat $AZ_BATCHAI_JOB_MOUNT_ROOT/data/file", mountVolumes=by_command(f"mount --bind {source}"))
    result = run(make_spec(tmp_path, job))
    assert result.result == "succeeded", result
    assert (stdouterr(tmp_path) / "stdout.txt").read_text() == "from the volume\n"
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.usefixtures("_mounts")
def test_a_command_that_mounts_nothing_fails_the_job(tmp_path: Path) -> None:
    result = run(make_spec(tmp_path, custom("true", mountVolumes=by_command("true"))))
    assert result.reason is not None
    assert result.reason["code"] == "VolumeMountError"
    assert "nothing is mounted" in result.reason["text"]
    assert result.reason["details"]["node"] == "node-0"


@pytest.mark.slow
@pytest.mark.usefixtures("_mounts")
def test_sshfs_by_a_mount_command_loses_nothing_when_the_job_is_stopped(tmp_path: Path) -> None:
    for name in ("sshd", "files"):
        (tmp_path / name).mkdir()
    with servers.sshd(tmp_path / "sshd") as mount_command:
        volumes = by_command(f"{mount_command}{tmp_path}/files")
        write = "cd $AZ_BATCHAI_JOB_MOUNT_ROOT/data; trap 'echo end > at-the-end; exit 0' TERM; "
        write += "head -c 20000000 /dev/zero > big; "
        write += f"exec 3>open; echo half >&3; echo > {tmp_path}/written; while :; do sleep 0.05; done"
        with Runner(make_spec(tmp_path, custom(write, mountVolumes=volumes))) as runner:
            wait_for(tmp_path / "written")
            runner.stop(grace=10.0)
            assert runner.outcome().result == "stopped"
        assert (tmp_path / "files/big").stat().st_size == 20000000
        assert (tmp_path / "files/open").read_text() == "half\n"
        assert (tmp_path / "files/at-the-end").read_text() == "end\n"
        read = "cd $AZ_BATCHAI_JOB_MOUNT_ROOT/data; stat -c %s big; findmnt -n -o FSTYPE -T ."
        outcome = run(make_spec(tmp_path, custom(read, mountVolumes=volumes)))
        assert outcome.result == "succeeded", outcome
        assert (stdouterr(tmp_path) / "stdout.txt").read_text() == "20000000\nfuse.sshfs\n"
