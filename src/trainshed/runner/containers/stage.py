"""A mount namespace for a container runtime: short paths that everybody may pass, and a ``/proc`` of its own.

Sockets have short paths, user namespaces cannot pass a closed folder on the way, and what a runtime mounts must not
stay behind: so all that it works with is mounted on a *stage*, in a mount namespace that lives as long as the runtime.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from trainshed.runner import linux
from trainshed.runner.containers.settings import Bind

_PLACES = ("/mnt", "/media", "/srv", "/tmp")
#: Ids that a container has beside root's.
OTHERS = 65535


class Stage:
    """Made in a process that is for this alone, which must be root. Raises OSError."""

    def __init__(self, stores: Sequence[str], work: str, binds: Sequence[Bind], *, stranger: bool) -> None:
        """``stores``: image stores, the first of which is written. ``work``: an empty directory for this container.

        ``stranger``: the container's processes see only their own in ``/proc``.
        """
        self.root = next(place for place in _PLACES if Path(place).is_dir())
        linux.unshare(linux.CLONE_NEWNS)
        linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
        hidden = "hidepid=2" if stranger else None
        linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC, hidden)
        sources = [*stores, work, *(bind.source for bind in binds)]
        trees = [linux.clone_tree(source) for source in sources]
        linux.mount("none", self.root, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=0755")
        targets = [
            *(self.path(f"store{number}") for number in range(len(stores))),
            self.path("work"),
            *(self.path(f"bind{number}") for number in range(len(binds))),
        ]
        for source, tree, target in zip(sources, trees, targets, strict=True):
            if Path(source).is_dir():
                Path(target).mkdir()
            else:
                Path(target).touch()
            linux.attach_tree(tree, target)
            os.close(tree)
        self.stores = targets[: len(stores)]
        self.binds = [
            Bind(self.path(f"bind{number}"), bind.target, bind.read_only) for number, bind in enumerate(binds)
        ]

    def path(self, name: str) -> str:
        """Of something on the stage."""
        return f"{self.root}/{name}"

    def write(self, name: str, text: str) -> str:
        """A file in memory, for this process and its children only; its path."""
        path = self.path(name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(text)
        return path

    def overlay(self, layers: Sequence[str], owner: int, users: int | None) -> str:
        """A root file system that can be written, of an image's layers (topmost first); its path. Raises OSError.

        ``users``: user namespace that says who owns the layers' files; ``owner`` is its root.
        """
        lower = []
        Path(self.path("layers")).mkdir()
        for number, layer in enumerate(layers):
            target = self.path(f"layers/{number}")
            Path(target).mkdir()
            tree = linux.clone_tree(layer)
            if users is not None:
                linux.map_ids(tree, users)
            linux.attach_tree(tree, target)
            lower.append(target)
        for name in ("upper", "changes"):
            Path(self.path("work"), name).mkdir(mode=0o755)
        upper = self.path("work/upper")
        Path(upper).chmod(0o755)
        os.chown(upper, owner, owner)
        target = self.path("root")
        Path(target).mkdir()
        options = f"lowerdir={':'.join(lower)},upperdir={upper},workdir={self.path('work/changes')}"
        linux.mount("overlay", target, "overlay", linux.MS_NODEV, options)
        return target


def id_maps(owner: int, others: int) -> list[tuple[int, int, int]]:
    """Ids of the container, of the machine, how many: root is ``owner``; ``others`` 0: there is nobody else."""
    return [(0, owner, 1), *([(1, others, OTHERS)] if others else [])]


def exist(first: int, count: int) -> bool:
    """Whether the machine (or the container that the service runs in) has these ids (user_namespaces(7))."""
    with open("/proc/self/uid_map") as file:
        ranges = [tuple(map(int, line.split())) for line in file]
    return any(start <= first and first + count <= start + length for start, _, length in ranges)


def user_namespace(maps: Sequence[tuple[int, int, int]]) -> int:
    """A new one with these ids, as a descriptor; nobody is in it. Raises OSError."""
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            linux.unshare(linux.CLONE_NEWUSER)
            os.write(told, b"r")
            signal.pause()
        finally:
            os._exit(1)
    os.close(told)
    try:
        if not os.read(ready, 1):
            raise OSError(1, "a user namespace is not permitted here")
        text = "".join(f"{inside} {outside} {count}\n" for inside, outside, count in maps)
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{pid}/{name}", "w") as file:
                file.write(text)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
