"""Control groups that container runtimes make: which versions there are, and how theirs are removed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def hierarchies() -> list[tuple[Path, int]]:
    """Where control groups are mounted, and the version of each."""
    found = []
    with suppress(OSError), open("/proc/self/mounts") as mounts:
        for line in mounts:
            _, target, kind, *_ = line.split()
            if kind in ("cgroup", "cgroup2"):
                found.append((Path(target), 2 if kind == "cgroup2" else 1))
    return found


def group_beside(node_group: str) -> str:
    """Where the runtime that builds containers on a node has its own groups, as a path in each hierarchy."""
    return f"/trainshed/{node_group}-c"


def remove_marked(mark: str) -> None:
    """Those of all nodes whose groups begin with the mark."""
    for tree, _ in hierarchies():
        for folder in (tree / "trainshed").glob(f"{mark}-*-c"):
            remove(f"/trainshed/{folder.name}")


def remove(group: str) -> None:
    """Remove the group (``/parent/name``) and all below it, in every hierarchy; its processes must have ended."""
    for tree, _ in hierarchies():
        folder = tree / group.lstrip("/")
        inner = [path for path in folder.glob("**/") if path != folder]
        for path in (*sorted(inner, reverse=True), folder, folder.parent):
            if path != tree:
                with suppress(OSError):
                    path.rmdir()
