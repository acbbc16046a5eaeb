"""What a process is among those of one service."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """A process's role at this moment."""

    #: There is no other.
    SOLE = "sole"
    LEADER = "leader"
    STANDBY = "standby"
    #: It never leads.
    API = "api"


@dataclass(frozen=True, slots=True)
class Standing:
    """The process's role, and who controls: its name, its lease's token, and since when (Unix ms)."""

    role: Role
    leader: str | None = None
    token: int | None = None
    since: int | None = None
