"""What was seen of a host."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Daemon:
    """One of Slurm's daemons, or munge's."""

    running: bool = False
    #: It runs with what its files said before they were changed.
    stale: bool = False


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Of one host; nothing of it is secret but ``key``, which is a digest and is shown nowhere."""

    system: str
    release: str
    hostname: str
    boot: str
    systemd: bool = True
    #: A cgroup v2 tree with the controllers that Slurm confines jobs by.
    cgroups: bool = True
    sockets: int = 1
    cores: int = 1
    threads: int = 1
    #: MiB of memory, all of it.
    memory: int = 1024
    #: Names of its GPUs, as the driver tells them.
    gpus: tuple[str, ...] = ()
    #: Seconds that its clock is ahead of this machine's.
    ahead: float = 0.0
    packages: frozenset[str] = frozenset()
    #: Version of slurmd that is installed or would be; empty where there is none.
    slurm: str = "22.05.8"
    #: Digest of each file that is there.
    files: Mapping[str, str] = field(default_factory=dict)
    #: The site that its slurm.conf was made for by us; empty: none, or not by us.
    site: str = ""
    #: Nodes that its slurm.conf has.
    nodes: tuple[str, ...] = ()
    #: Files of a Slurm that is not ours.
    strange: tuple[str, ...] = ()
    #: Digest of munge's key.
    key: str = ""
    daemons: Mapping[str, Daemon] = field(default_factory=dict)
    #: What each address of the site is for it; empty when it cannot tell.
    addresses: Mapping[str, str] = field(default_factory=dict)
    #: Number of the jobs' user; None where there is no such user.
    uid: int | None = 0
    directory_seen: bool = True
    directory_writable: bool = True
    python: str = "3.11"
    #: State of each node as the controller there tells it.
    states: Mapping[str, str] = field(default_factory=dict)
    #: Jobs that the controller there has.
    jobs: int = 0

    @property
    def short(self) -> str:
        """Name of its node."""
        return self.hostname.split(".")[0]

    @property
    def cpus(self) -> int:
        """Threads of all cores."""
        return self.sockets * self.cores * self.threads

    @property
    def slurm_version(self) -> tuple[int, int] | None:
        """Major and minor, as Debian's version begins."""
        found = re.match(r"(?:\d+:)?(\d+)\.(\d+)", self.slurm)
        return (int(found[1]), int(found[2])) if found else None

    @property
    def json(self) -> dict[str, object]:
        """For ``-o json``."""
        return {
            "hostname": self.hostname,
            "system": f"{self.system} {self.release}",
            "systemd": self.systemd,
            "cpus": self.cpus,
            "memoryMiB": self.memory,
            "gpus": list(self.gpus),
            "clockAheadSeconds": round(self.ahead, 2),
            "slurm": self.slurm,
            "site": self.site,
        }
