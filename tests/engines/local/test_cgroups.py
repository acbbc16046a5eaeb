"""Limits of nodes by control groups, in folders that stand for the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainshed.engines.local import cgroups
from trainshed.engines.local.cgroups import Limits, NodeGroup

LIMITS = Limits(cpus=3, memory_mib=100)


@pytest.fixture(params=[1, 2])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def tree(tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both hierarchies: one tree a controller, or one for all."""
    found = {name: (tmp_path / (name if version == 1 else "all"), version) for name in ("cpu", "memory", "pids")}
    for folder, _ in found.values():
        folder.mkdir(exist_ok=True)
        (folder / "cgroup.subtree_control").write_text("")
        (folder / cgroups.PARENT).mkdir(exist_ok=True)
        (folder / cgroups.PARENT / "cgroup.subtree_control").write_text("")
    monkeypatch.setattr(cgroups, "trees", lambda: found)
    return tmp_path


def test_limits_are_written(tree: Path, version: int) -> None:
    group = NodeGroup("m-n1")
    group.create(LIMITS)
    assert sorted(group.enforced) == ["cpu", "memory", "pids"]
    assert group.refused == {}
    where = {name: tree / (name if version == 1 else "all") / cgroups.PARENT / "m-n1" for name in group.enforced}
    if version == 1:
        assert (where["cpu"] / "cpu.cfs_quota_us").read_text() == "300000"
        assert (where["memory"] / "memory.limit_in_bytes").read_text() == str(100 * 2**20)
    else:
        assert (where["cpu"] / "cpu.max").read_text() == "300000 100000"
        assert (where["memory"] / "memory.max").read_text() == str(100 * 2**20)
    assert int((where["pids"] / "pids.max").read_text()) > 1000


def test_entering_writes_the_process(tree: Path, version: int) -> None:
    group = NodeGroup("m-n1")
    group.create(LIMITS)
    group.enter()
    assert cgroups.members("m") == {os.getpid()}
    assert cgroups.members("another") == set()


def test_no_memory_limit_writes_none(tree: Path) -> None:
    NodeGroup("m-n1").create(Limits(cpus=1, memory_mib=0))
    assert not list(tree.glob("**/memory.max"))
    assert not list(tree.glob("**/memory.limit_in_bytes"))


def test_what_cannot_be_had_is_said(tree: Path, version: int) -> None:
    for folder in tree.glob(f"*/{cgroups.PARENT}"):
        (folder / "m-n1").write_text("in the way")
    group = NodeGroup("m-n1")
    group.create(LIMITS)
    assert group.enforced == []
    assert set(group.refused) == {"cpu", "memory", "pids"}
    group.enter()


def test_a_controller_that_the_machine_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "trees", dict)
    group = NodeGroup("m-n1")
    group.create(LIMITS)
    assert set(group.refused) == {"cpu", "memory", "pids"}


@pytest.mark.skipif(os.geteuid() != 0 or not cgroups.trees(), reason="control groups need root and a kernel with them")
def test_groups_of_a_mark_are_removed_with_what_was_made_in_them() -> None:
    mark = f"test{os.getpid()}"
    group, other = NodeGroup(f"{mark}-n1"), NodeGroup(f"other{mark}-n1")
    group.create(LIMITS)
    other.create(LIMITS)
    try:
        made = [folder for tree, _ in cgroups.trees().values() for folder in (tree / cgroups.PARENT).glob(f"{mark}-*")]
        assert made
        (made[0] / "inner").mkdir()
        cgroups.remove_groups(mark)
        assert not any(folder.exists() for folder in made)
    finally:
        other.remove()
    assert not [tree for tree, _ in cgroups.trees().values() if list((tree / cgroups.PARENT).glob(f"*{mark}-*"))]


def test_what_a_container_runtime_made_goes_with_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every hierarchy, also those that nodes do not use."""
    monkeypatch.setattr(cgroups.containers, "hierarchies", lambda: [(tmp_path / "freezer", 1), (tmp_path / "all", 2)])
    monkeypatch.setattr(cgroups, "trees", dict)
    for name in ("freezer", "all"):
        (tmp_path / name / cgroups.PARENT / "m-n1-c" / "libpod").mkdir(parents=True)
        (tmp_path / name / cgroups.PARENT / "other-n1-c").mkdir()
    cgroups.remove_groups("m")
    for name in ("freezer", "all"):
        assert [path.name for path in (tmp_path / name / cgroups.PARENT).iterdir()] == ["other-n1-c"]
    NodeGroup("other-n1").remove()
    assert not list(tmp_path.glob(f"*/{cgroups.PARENT}"))
