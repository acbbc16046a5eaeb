"""The processes of a local engine, found from outside: its daemon, its nodes, their runners."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from trainshed.engines.local.cgroups import trees
from trainshed.engines.local.layout import Layout
from trainshed.engines.local.leftovers import marked


def daemon_pid(home: Path) -> int:
    """The one process of the home whose parent is none of them."""
    family = set(marked(Layout(home).mark))
    (pid,) = (pid for pid in family if parent_of(pid) not in family and command_of(pid).endswith(f"--home\0{home}"))
    return pid


def parent_of(pid: int) -> int:
    """Its parent's id; 0 when it is gone."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def command_of(pid: int) -> str:
    """Its command line, the arguments separated by NUL."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0")
    return ""


def ancestor_below(pid: int, top: int) -> list[int]:
    """The line from a child of ``top`` down to ``pid``."""
    line = [pid]
    while (parent := parent_of(line[0])) != top:
        assert parent > 1, f"{pid} does not descend from {top}"
        line.insert(0, parent)
    return line


def holder_of(pid: int) -> int:
    """The first process of the PID namespace that this one is in, which is not the test's own."""
    name = _namespace(pid)
    assert name != _namespace(os.getpid()), f"{pid} is in the machine's PID namespace"
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _namespace(int(entry.name)) == name:
            with suppress(OSError):
                (numbers,) = (one for one in (entry / "status").read_text().splitlines() if one.startswith("NSpid:"))
                if numbers.split()[-1] == "1":
                    return int(entry.name)
    raise AssertionError(f"nobody holds the namespace of {pid}")


def _namespace(pid: int) -> str:
    with suppress(OSError):
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    return ""


def memory_of(pid: int) -> int:
    """Its proportional set size in KiB (proc(5), smaps_rollup). Raises OSError where the kernel tells none."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (pss,) = (line.split()[1] for line in lines if line.startswith("Pss:"))
    return int(pss)


def group_value(pid: int, controller: str, name: str) -> str:
    """A file of the control group (version 1) that the process is in."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return Path(f"{trees()[controller][0]}{path}/{name}").read_text().strip()
    raise AssertionError(f"process {pid} is in no group of {controller}")


def groups_of(home: Path) -> list[Path]:
    """Control groups of the home's nodes that are there."""
    parents = {tree / "trainshed" for tree, _ in trees().values()}
    return [group for parent in parents for group in parent.glob(f"{Layout(home).mark}-*")]


def everything_below(folder: Path) -> bytes:
    """Contents of all its files."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
