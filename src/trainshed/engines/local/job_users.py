"""Whether jobs run as users of their own, and who those are: decided by the service, told to the doctor.

One person on a laptop may run jobs as that person. As soon as somebody else may submit jobs, or the service listens for
other machines, each workspace's jobs have a user of their own, if the service is root and the machine has namespaces.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from trainshed.engines.local.layout import write_durably
from trainshed.resources.users import JobUser, UserRange
from trainshed.runner import isolation
from trainshed.runner.view import machine_name

log = logging.getLogger(__name__)

#: Below the service's home: what the service last said of it.
FILE_NAME = "isolation.json"


class Mode(StrEnum):
    """What ``trainshed serve --isolate-jobs`` takes."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class CannotIsolate(Exception):
    """Jobs are to have users of their own, and cannot; the message says why and what to do."""


class JobUsers:
    """The decision. It changes in one direction only while the service runs: once strangers, always strangers."""

    def __init__(self, home: Path, mode: Mode, users: UserRange, reached_at: str) -> None:
        """Raises CannotIsolate when it must and cannot.

        ``reached_at`` is the address at which other machines reach the service; empty when none can.
        """
        self._file = home / FILE_NAME
        self._mode = mode
        self._users = users
        self._hindrance = hindrance(users) if mode is not Mode.NEVER else ""
        self._wanted = ""
        if mode is Mode.ALWAYS:
            if self._hindrance:
                raise CannotIsolate(f"jobs cannot be isolated as --isolate-jobs always asks: {self._hindrance}")
            self._wanted = "--isolate-jobs always"
        elif reached_at:
            self._wanted = f"the service listens on {reached_at}, for other machines"
        self._tell()

    def of(self, number: int, *, several_users: bool) -> JobUser | None:
        """Whom the jobs of the workspace with this number run as; None for the service's own user.

        ``several_users``: whether anybody beside the administrator may call the service now.
        """
        if several_users and not self._wanted:
            self._wanted = "the service has several users"
            self._tell()
            if self.warning:
                log.warning("%s", self.warning)
        return self._users.user(number) if self.in_force else None

    @property
    def in_force(self) -> bool:
        """Whether jobs run as users of their own."""
        return bool(self._wanted) and self._mode is not Mode.NEVER and not self._hindrance

    @property
    def warning(self) -> str:
        """What whoever runs the service must know; empty when all is well."""
        if not self._wanted or self.in_force:
            return ""
        why = "--isolate-jobs never" if self._mode is Mode.NEVER else self._hindrance
        return (
            f"Jobs run as the service's own user although {self._wanted} ({why}): whoever may submit a job can read "
            "and change everything that the service can, its database and keys included."
        )

    def describe(self) -> str:
        """In one line, with the reason."""
        if self.in_force:
            return f"each workspace's jobs run as a user of their own, of {self._users}: {self._wanted}"
        if self.warning:
            return self.warning
        why = "--isolate-jobs never" if self._mode is Mode.NEVER else "the service has one user, and only this machine"
        return f"jobs run as the service's own user: {why}"

    def _tell(self) -> None:
        with suppress(OSError):
            write_durably(self._file, {"inForce": self.in_force, "ok": not self.warning, "detail": self.describe()})


def last_told(home: Path) -> tuple[bool, str] | None:
    """What a service of this home last decided: whether all is well, and how it is. None when there was none."""
    try:
        told = json.loads((home / FILE_NAME).read_text())
        return bool(told["ok"]), str(told["detail"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def hindrance(users: UserRange) -> str:
    """Why jobs cannot run as users of their own on this machine, and what mends it; empty when they can."""
    if os.geteuid() != 0:
        return "the service is not root; run trainshed serve as root"
    why_not = isolation.permitted("")
    if why_not:
        return f"there are no namespaces ({why_not}); see `trainshed doctor`"
    mapped = _mapped(users.first, users.last)
    if mapped:
        return mapped
    name = machine_name(users.first)
    if name:
        return f"{users.first}, the first id of the job users, is {name} on this machine; give another range"
    return ""


def _mapped(first: int, last: int) -> str:
    """In a container only some ids exist (user_namespaces(7))."""
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/self/{name}") as file:
            ranges = [tuple(map(int, line.split())) for line in file]
        if not any(start <= first and last < start + count for start, _, count in ranges):
            most = max((start + count - 1 for start, _, count in ranges), default=0)
            return (
                f"the ids {first}-{last} do not exist in this container (its highest is {most}); give --job-users a "
                "range that does"
            )
    return ""
