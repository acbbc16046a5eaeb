"""A control group a node: its CPU, memory and process limits, where this machine permits.

Both hierarchies: version 1 (one tree a controller) and version 2 (one tree). What cannot be had is said, not demanded:
a laptop without root runs nodes without limits.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trainshed.runner.containers import cgroups as containers

_CONTROLLERS = ("cpu", "memory", "pids")
#: CPU quota period in microseconds (the kernel's default).
_PERIOD = 100_000
#: Processes and threads that one node may have at most; and the shares of what the kernel can have in all that one
#: node, and all nodes together, may take: the rest of the machine goes on when a job starts too many.
_PIDS, _NODE_SHARE, _ALL_SHARE = 4096, 8, 0.75
_PID_MAX = "/proc/sys/kernel/pid_max"
#: The group of all nodes, in each tree.
PARENT = "trainshed"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a node may use. ``memory_mib`` 0: no limit."""

    cpus: int
    memory_mib: int


class NodeGroup:
    """The control group of one node: a directory in each controller's tree."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._folders: dict[str, Path] = {}
        #: What is enforced, and what is not and why; for people.
        self.enforced: list[str] = []
        self.refused: dict[str, str] = {}

    def create(self, limits: Limits) -> None:
        """Make the group and set its limits, as far as permitted. A group that is there already is used again."""
        for controller, (tree, version) in trees().items():
            folder = tree / PARENT / self._name
            try:
                folder.mkdir(parents=True, exist_ok=True)
                if version == 2:
                    _enable(tree, controller)
                    _enable(folder.parent, controller)
                if controller == "pids":
                    (folder.parent / "pids.max").write_text(str(int(_pid_max() * _ALL_SHARE)))
                for name, value in _settings(controller, version, limits):
                    (folder / name).write_text(value)
            except OSError as error:
                self.refused[controller] = error.strerror or str(error)
                continue
            self.enforced.append(controller)
            self._folders[controller] = folder
        for controller in set(_CONTROLLERS) - set(self.enforced) - set(self.refused):
            self.refused[controller] = "this machine has no such controller"

    def enter(self) -> None:
        """Put the calling process into the group."""
        for controller, folder in self._folders.items():
            try:
                (folder / "cgroup.procs").write_text(str(os.getpid()))
            except OSError as error:
                self.enforced.remove(controller)
                self.refused[controller] = error.strerror or str(error)

    def remove(self) -> None:
        """Remove the group, and what a container runtime made beside it; its processes must have ended."""
        for tree, _ in trees().values():
            _remove(tree / PARENT / self._name)
        containers.remove(containers.group_beside(self._name))


def members(mark: str) -> set[int]:
    """Processes in the groups whose names begin with the mark, the zombies among them too."""
    found: set[int] = set()
    for folder in _groups(mark):
        with suppress(OSError):
            for procs in (folder / "cgroup.procs", *folder.glob("**/cgroup.procs")):
                found.update(int(line) for line in procs.read_text().split())
    return found - {0}


def remove_groups(mark: str) -> None:
    """Remove every group whose name begins with the mark; their processes must have ended."""
    for folder in _groups(mark):
        _remove(folder)
    containers.remove_marked(mark)


def _groups(mark: str) -> list[Path]:
    return [folder for tree, _ in trees().values() for folder in (tree / PARENT).glob(f"{mark}-*")]


def _remove(folder: Path) -> None:
    """With the groups that its processes made below it; then the parent of all, when nobody else uses it."""
    with suppress(OSError):
        inner = [path for path in folder.glob("**/") if path != folder]
        for path in sorted(inner, reverse=True):
            path.rmdir()
    for path in (folder, folder.parent):
        with suppress(OSError):
            path.rmdir()


def trees() -> dict[str, tuple[Path, int]]:
    """The mounted tree of each controller that nodes use, and its version."""
    found: dict[str, tuple[Path, int]] = {}
    with suppress(OSError), open("/proc/self/mounts") as mounts:
        for line in mounts:
            _, target, kind, options, *_ = line.split()
            if kind == "cgroup":
                for controller in set(_CONTROLLERS) & set(options.split(",")):
                    found[controller] = (Path(target), 1)
            elif kind == "cgroup2":
                with suppress(OSError):
                    offered = Path(target, "cgroup.controllers").read_text().split()
                    for controller in set(_CONTROLLERS) & set(offered):
                        found.setdefault(controller, (Path(target), 2))
    return found


def processes_of_a_node() -> int:
    """How many processes and threads one node may have."""
    return min(_PIDS, _pid_max() // _NODE_SHARE)


def _pid_max() -> int:
    return int(Path(_PID_MAX).read_text())


def _enable(folder: Path, controller: str) -> None:
    control = folder / "cgroup.subtree_control"
    if controller not in control.read_text().split():
        control.write_text(f"+{controller}")


def _settings(controller: str, version: int, limits: Limits) -> list[tuple[str, str]]:
    quota, memory = str(limits.cpus * _PERIOD), str(limits.memory_mib * 2**20)
    if controller == "pids":
        return [("pids.max", str(processes_of_a_node()))]
    if controller == "cpu":
        return [("cpu.max", f"{quota} {_PERIOD}")] if version == 2 else [("cpu.cfs_quota_us", quota)]
    if limits.memory_mib == 0:
        return []
    return [("memory.max" if version == 2 else "memory.limit_in_bytes", memory)]
