"""Volumes of a job: the mount command's way, and kinds without a driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runner.harness import custom, make_spec, run, stdouterr
from trainshed.resources.reasons import ReasonCode
from trainshed.runner import isolation
from trainshed.volumes import CommandResult, VolumeError, volumes_of


def unmanaged(command: str, path: str = "data") -> dict[str, object]:
    return {"unmanagedFileSystems": [{"mountCommand": command, "relativeMountPath": path}]}


@pytest.fixture
def _mounts() -> None:
    if why_not := isolation.permitted("node-0"):
        pytest.skip(f"no mount namespaces here: {why_not}")


@pytest.mark.parametrize(
    ("volumes", "code", "name"),
    [
        (
            {"azureFileShares": [{"azureFileUrl": "https://a/s", "relativeMountPath": "x"}]},
            "AZFMountError",
            "https://a/s",
        ),
        ({"azureBlobFileSystems": [{"containerName": "c", "relativeMountPath": "x"}]}, "BFSMountError", "c"),
        ({"fileServers": [{"fileServer": {"id": "/f"}, "relativeMountPath": "x"}]}, "VolumeMountError", "/f"),
    ],
)
def test_kinds_without_a_driver(volumes: dict[str, object], code: str, name: str) -> None:
    with pytest.raises(VolumeError) as caught:
        volumes_of(volumes, "/mounts")
    assert caught.value.reason.code == code
    assert caught.value.reason.details["volume"] == name
    assert "unmanagedFileSystems" in caught.value.reason.text


@pytest.mark.parametrize("path", ["", "/abs", "..", "a/../../b", "."])
def test_mount_paths_stay_below_the_root(path: str) -> None:
    with pytest.raises(VolumeError) as caught:
        volumes_of(unmanaged("mount", path), "/mounts")
    assert caught.value.reason.code is ReasonCode.VOLUME_MOUNT_FAILED


def test_the_mount_path_is_appended_and_the_tool_s_words_are_passed_on(tmp_path: Path) -> None:
    commands: list[str] = []

    def run_command(command: str) -> CommandResult:
        commands.append(command)
        return CommandResult(32, "mount.nfs: no such server\n")

    (volume,) = volumes_of(unmanaged("mount -t nfs host:/x"), str(tmp_path))
    with pytest.raises(VolumeError) as caught:
        volume.mount(run_command)
    assert commands == [f"mount -t nfs host:/x {tmp_path}/data"]
    assert "no such server" in caught.value.reason.text


def test_descriptions_hold_no_credentials() -> None:
    (volume,) = volumes_of(unmanaged("mount -o password=hunter2 //h/s"), "/m")
    assert "hunter2" not in volume.describe()


@pytest.mark.usefixtures("_mounts")
def test_a_job_sees_its_volume_and_it_is_gone_afterwards(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("from the volume\n")
    job = custom("cat $AZ_BATCHAI_JOB_MOUNT_ROOT/data/file", mountVolumes=unmanaged(f"mount --bind {source}"))
    result = run(make_spec(tmp_path, job))
    assert result.result == "succeeded", result
    assert (stdouterr(tmp_path) / "stdout.txt").read_text() == "from the volume\n"
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.usefixtures("_mounts")
def test_a_command_that_mounts_nothing_fails_the_job(tmp_path: Path) -> None:
    result = run(make_spec(tmp_path, custom("true", mountVolumes=unmanaged("true"))))
    assert result.reason is not None
    assert result.reason["code"] == "VolumeMountError"
    assert "nothing is mounted" in result.reason["text"]
    assert result.reason["details"]["node"] == "node-0"
