"""Finds processes of a home by what they are, and kills exactly the one that was found."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.live_service import LiveService

RANK = "chaos/rank.py"


@dataclass(frozen=True, slots=True)
class Process:
    """A process at the moment of the look; ``started`` tells it from a later one of the same number."""

    pid: int
    parent: int
    started: int
    command: str


def look(service: LiveService) -> dict[int, Process]:
    """All processes of the home's nodes."""
    found = {}
    for pid in service.marked():
        process = read(pid)
        if process is not None:
            found[pid] = process
    return found


def read(pid: int) -> Process | None:
    """One process, or None when it is gone or dead already."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return None
    return None if fields[0] == b"Z" else Process(pid, int(fields[1]), int(fields[19]), command.strip())


def mentioning(text: str) -> list[Process]:
    """All processes of this machine that have this on their command line, but this one."""
    pids = sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    found = (read(pid) for pid in pids if pid != os.getpid())
    return [one for one in found if one is not None and text in one.command]


def daemon(processes: dict[int, Process]) -> list[Process]:
    """The node daemon: no other process of the home started it."""
    return [one for one in processes.values() if one.parent not in processes and "daemon" in one.command][:1]


def nodes(processes: dict[int, Process]) -> list[Process]:
    """Processes of nodes: children of the daemon."""
    return children(processes, daemon(processes))


def runners(processes: dict[int, Process]) -> list[Process]:
    """Processes of runners: children of nodes."""
    return children(processes, nodes(processes))


def ranks(processes: dict[int, Process]) -> list[Process]:
    """The users' own processes."""
    return [one for one in processes.values() if _is_rank(one)]


def ranks_on(place: Path) -> list[Process]:
    """The same for jobs that were told to write below a folder, whoever started them."""
    return [one for one in mentioning(str(place)) if _is_rank(one)]


def _is_rank(process: Process) -> bool:
    return f"{RANK} " in process.command and process.command.startswith(("python", "/"))


def job_of(rank: Process) -> str:
    """The name of the job that a rank belongs to."""
    return rank.command.split(RANK, 1)[1].split()[1]


def kill(process: Process) -> bool:
    """SIGKILL for this very process; False when it is gone."""
    with suppress(ProcessLookupError, FileNotFoundError):
        descriptor = os.pidfd_open(process.pid)
        try:
            now = read(process.pid)
            if now is None or now.started != process.started:
                return False
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)
        return True
    return False


def children(processes: dict[int, Process], parents: list[Process]) -> list[Process]:
    """Those of the processes that any of the parents has started."""
    pids = {parent.pid for parent in parents}
    return sorted((one for one in processes.values() if one.parent in pids), key=lambda one: one.pid)
