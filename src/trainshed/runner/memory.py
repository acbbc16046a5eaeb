"""Whether the kernel killed processes of the attempt because the node's memory was used up (cgroups(7))."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path

#: Beyond it a limit is none (version 1 has a number for it).
_NO_LIMIT = 1 << 60


class MemoryWatch:
    """The control group of the calling process, from now on."""

    def __init__(self) -> None:
        self._folder, self._version = _own_group()
        self._before = self._killed()

    @property
    def killed(self) -> int:
        """How many processes of the group the kernel has killed since."""
        return max(0, self._killed() - self._before)

    @property
    def limit_mib(self) -> int:
        """The group's limit; 0: there is none."""
        if self._folder is None:
            return 0
        with suppress(OSError, ValueError):
            name = "memory.max" if self._version == 2 else "memory.limit_in_bytes"
            limit = int((self._folder / name).read_text())
            return limit >> 20 if limit < _NO_LIMIT else 0
        return 0

    def _killed(self) -> int:
        if self._folder is None:
            return 0
        name = "memory.events" if self._version == 2 else "memory.oom_control"
        with suppress(OSError, ValueError):
            for line in (self._folder / name).read_text().splitlines():
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    return int(value)
        return 0


@cache
def _own_group() -> tuple[Path | None, int]:
    """Where the group's files are, and the version of the hierarchy; None where memory is not accounted.

    Asked once, before a runner has a PID namespace for its children, whose ``/proc`` does not show it.
    """
    try:
        groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return None, 0
    first = next((path for _, names, path in groups if "memory" in names.split(",")), None)
    second = next((path for number, names, path in groups if number == "0" and not names), None)
    for version, path, file in ((1, first, "memory.oom_control"), (2, second, "memory.events")):
        for _, target, kind, options, *_ in mounts:
            fits = kind == "cgroup2" if version == 2 else kind == "cgroup" and "memory" in options.split(",")
            if path is not None and fits and Path(target, path.lstrip("/"), file).exists():
                return Path(target, path.lstrip("/")), version
    return None, 0
