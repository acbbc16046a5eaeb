"""Which unprivileged users of a machine jobs run as: two ids for each workspace, out of a configured range.

The first belongs to the workspace's jobs. The second is what the root of a *node* is on the machine: setup tasks and
mount commands run as root of a user namespace whose root is that id (user_namespaces(7)).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Above what distributions, systemd, subuid files and directory services hand out.
DEFAULT_RANGE = "1900000000-1900065535"
RANGE_VARIABLE = "TRAINSHED_JOB_USERS"

_IDS_A_WORKSPACE = 2
#: Users of containers: ids above the range, as many for each workspace, up to where distributions reserve no more
#: (systemd's UIDS-GIDS).
_IDS_OF_CONTAINERS, _CONTAINERS_END = 65536, 2**31
#: The two highest ids mean "no change" and "nobody" to the kernel.
_HIGHEST = 2**32 - 3


@dataclass(frozen=True, slots=True)
class JobUser:
    """The ids of one workspace on the machine; groups have the same numbers."""

    uid: int
    #: What root of a node is.
    root: int
    #: Why nothing can run as this user; empty when it can.
    problem: str = ""
    #: First of the 65535 ids that the users of its containers have, beside root, who is ``uid``; 0: they are nobody.
    others: int = field(default=0, compare=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> JobUser | None:
        """From a dictionary of the fields, or None."""
        return cls(**data) if data else None


@dataclass(frozen=True, slots=True)
class UserRange:
    """Ids that nobody else of the machine has; both ends belong to it."""

    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> UserRange:
        """From ``FIRST-LAST``. Raises ValueError with what is wrong."""
        found = re.fullmatch(r"\s*(\d+)\s*-\s*(\d+)\s*", text, re.ASCII)
        if found is None:
            raise ValueError(f"'{text}' is not a range of user ids; write FIRST-LAST, for example {DEFAULT_RANGE}")
        first, last = int(found[1]), int(found[2])
        if first < 1000 or last > _HIGHEST or last - first + 1 < _IDS_A_WORKSPACE:
            raise ValueError(
                f"'{text}' is not a usable range of user ids: it begins at 1000 or later (lower ids belong to the "
                f"system), ends at {_HIGHEST} at most and has two ids or more"
            )
        return cls(first, last)

    @property
    def workspaces(self) -> int:
        """How many workspaces it serves."""
        return (self.last - self.first + 1) // _IDS_A_WORKSPACE

    def user(self, number: int) -> JobUser:
        """The ids of the workspace with this number (1, 2, ...); with a ``problem`` when the range has none for it."""
        uid = self.first + _IDS_A_WORKSPACE * (number - 1)
        if 1 <= number <= self.workspaces:
            others = self.last + 1 + _IDS_OF_CONTAINERS * (number - 1)
            return JobUser(uid, uid + 1, others=others if others + _IDS_OF_CONTAINERS <= _CONTAINERS_END else 0)
        return JobUser(
            uid,
            uid + 1,
            f"The range of job users {self} serves {self.workspaces} workspaces, and this workspace has number "
            f"{number}. Start the service with a wider {RANGE_VARIABLE} (it must begin with the same id).",
        )

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"
