"""What an administrator asks for: which hosts, and what kind of site on them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Self

from trainshed.resources.engines import InvalidEngines

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}", re.ASCII)
_ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,252}", re.ASCII)
_PARTITION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", re.ASCII)
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}", re.ASCII)


class Mode(StrEnum):
    """Who starts Slurm's daemons and starts them again after a reboot."""

    #: systemd.
    SERVICES = "services"
    #: Nobody: they are started once, for hosts without systemd.
    DAEMONS = "daemons"


@dataclass(frozen=True, slots=True)
class Host:
    """One machine of the site."""

    #: As ``ssh`` knows it.
    name: str
    #: As the other hosts reach it: a name that they can resolve, or a number.
    address: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """``NAME`` or ``NAME=ADDRESS``. Raises InvalidEngines."""
        name, equals, address = text.strip().partition("=")
        address = address if equals else name
        if not _NAME.fullmatch(name) or not _ADDRESS.fullmatch(address):
            raise InvalidEngines(
                f"{text!r} is no host: write NAME, or NAME=ADDRESS where other hosts know another name"
            )
        return cls(name, address)


@dataclass(frozen=True, slots=True)
class Request:
    """A site. The first host has the controller; all of them are nodes."""

    #: Name of the site, and of the engine.
    site: str
    hosts: tuple[Host, ...]
    #: The Unix user that the service, and so every job, runs as.
    job_user: str
    #: That user's number where the service runs; it must be the same on every host.
    job_uid: int
    #: A directory that the service's machine and all hosts share.
    directory: str
    partition: str = "main"
    #: A second partition on the same nodes, whose jobs make room for those of the first; empty: none.
    low_partition: str = ""
    #: None: systemd where every host has it.
    mode: Mode | None = None

    def __post_init__(self) -> None:
        for name in filter(None, (self.partition, self.low_partition)):
            if not _PARTITION.fullmatch(name) or name.upper() == "DEFAULT":
                raise InvalidEngines(
                    f"{name!r} cannot be the name of a partition: it has 1 to 32 letters, digits, - and _"
                )
        if self.partition == self.low_partition:
            raise InvalidEngines(f"the low-priority partition needs another name than {self.partition!r}")
        if not self.hosts:
            raise InvalidEngines("no host was named: --hosts a,b,c")
        for what in ("name", "address"):
            all_of = [getattr(host, what) for host in self.hosts]
            if twice := [one for one in all_of if all_of.count(one) > 1]:
                raise InvalidEngines(f"the host {what} {twice[0]!r} was named twice")
        path = PurePosixPath(self.directory)
        if not path.is_absolute() or ".." in path.parts or not re.fullmatch(r"[\w./@+-]+", str(path), re.ASCII):
            raise InvalidEngines(
                f"--directory must be an absolute path of letters, digits and . _ - @ +, not {self.directory!r}"
            )
        if not _USER.fullmatch(self.job_user):
            raise InvalidEngines(f"{self.job_user!r} cannot be the user of jobs: run this as the service's user")

    @property
    def first(self) -> Host:
        """Where the controller is."""
        return self.hosts[0]


def parse_hosts(text: str) -> tuple[Host, ...]:
    """``a,b=10.0.0.2,c``. Raises InvalidEngines."""
    return tuple(Host.parse(part) for part in text.split(",") if part.strip())


def parse_mode(text: str | None) -> Mode | None:
    """Raises InvalidEngines."""
    try:
        return Mode(text) if text else None
    except ValueError:
        raise InvalidEngines(f"--mode is services or daemons, not {text!r}") from None
