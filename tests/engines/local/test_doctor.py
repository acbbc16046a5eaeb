"""What the doctor says of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainshed.engines.checks import Check
from trainshed.engines.local import doctor
from trainshed.engines.local.doctor import capabilities
from trainshed.volumes import tools as volume_tools

pytestmark = pytest.mark.slow


def named(home: Path) -> dict[str, Check]:
    return {check.name: check for check in capabilities(home)}


def test_every_capability_is_looked_at(tmp_path: Path) -> None:
    assert list(named(tmp_path)) == [
        "node daemon",
        "process isolation",
        "host names",
        "job users",
        "cpu limits",
        "memory limits",
        "pids limits",
        "containers",
        "capacity",
        "gpus",
        "volumes",
        "Azure Files",
        "Azure Blob",
        "S3 buckets",
        "SFTP directories",
        "git repositories",
        "file servers",
    ]


def test_looking_leaves_nothing(tmp_path: Path) -> None:
    capabilities(tmp_path / "home")
    assert list(tmp_path.iterdir()) == []


def test_what_fails_says_what_would_mend_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINSHED_ISOLATION", "none")
    monkeypatch.setenv("TRAINSHED_CPU_OVERSUBSCRIPTION", "0")
    monkeypatch.setattr(doctor.cgroups, "trees", dict)
    monkeypatch.setattr(doctor, "list_gpus", tuple)
    monkeypatch.setattr(doctor.choice.executor, "find", lambda program: None)
    monkeypatch.setattr(doctor, "driver_is_loaded", lambda: True)
    monkeypatch.setattr(volume_tools.rclone, "find", lambda: "")
    monkeypatch.setattr(volume_tools.cifs, "kernel_has_it", lambda: False)
    monkeypatch.setattr(volume_tools.blobfuse, "is_installed", lambda: False)
    monkeypatch.setattr(volume_tools.shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(volume_tools, "_FUSE", str(tmp_path / "none"))
    monkeypatch.setattr(doctor.nfs, "why_not", lambda: "nfs-ganesha not installed; apt-get install nfs-ganesha")
    checks = named(tmp_path)
    failing = {name for name, check in checks.items() if not check.ok}
    assert failing == set(checks) - {"node daemon"}
    assert all(checks[name].mend for name in failing)
    assert checks["process isolation"].mend == "unset TRAINSHED_ISOLATION"
    # Jobs run without isolation, but not without a CPU.
    assert {name for name in failing if checks[name].needed} == {"capacity"}


def test_a_tree_that_is_closed_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.cgroups, "trees", lambda: {"cpu": (tmp_path / "cpu", 1)})
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    check = named(tmp_path)["cpu limits"]
    assert not check.ok
    assert f"mkdir -p {tmp_path}/cpu/trainshed" in check.mend


def test_file_servers_that_nobody_could_mount_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.nfs, "why_not", lambda: "")
    monkeypatch.setattr(doctor, "why_no_client", lambda: "libnfs is not installed; apt-get install libnfs13")
    check = named(tmp_path)["file servers"]
    assert (check.ok, check.needed, check.mend) == (False, False, "apt-get install libnfs13")
    assert "nodes cannot mount them: libnfs is not installed" in check.detail


def test_gpus_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "list_gpus", lambda: ("GPU-1", "GPU-2"))
    check = named(tmp_path)["gpus"]
    assert check.ok
    assert check.detail.startswith("2, ")


def test_what_would_do_better_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volume_tools.cifs, "kernel_has_it", lambda: False)
    monkeypatch.setattr(volume_tools.file_server, "kernel_has_nfs", lambda: False)
    monkeypatch.setattr(volume_tools.blobfuse, "is_installed", lambda: False)
    monkeypatch.setattr(volume_tools.rclone, "find", lambda: "rclone")
    monkeypatch.setattr(volume_tools.rclone, "version", lambda _: (1, 75, 2))
    monkeypatch.setattr(volume_tools.shutil, "which", lambda *_, **__: None)
    known = tmp_path / "filesystems"
    known.write_text("nodev\tsysfs\nnodev\tnfs4\n")
    monkeypatch.setattr(volume_tools, "_FILE_SYSTEMS", str(known))
    found = {tool.kind: tool for tool in volume_tools.tools()}
    assert found["Azure Files"].detail.startswith("by rclone 1.75.2; the kernel has no cifs (modprobe cifs")
    assert "apt-get install blobfuse2" in found["Azure Blob"].detail
    assert found["S3 buckets"].ok and found["SFTP directories"].detail == "by rclone 1.75.2"
    assert found["git repositories"].mend == "apt-get install git"
    assert volume_tools.kernel_nfs() == "the kernel's nfs4 has no mount.nfs4 (apt-get install nfs-common)"


def test_other_container_runtimes_say_why_they_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.choice, "chosen", lambda: "podman")
    monkeypatch.setattr(doctor.choice.executor, "find", lambda program: None)
    detail = named(tmp_path)["containers"].detail
    assert "apptainer: apptainer is not installed; docker: docker is not installed" in detail
