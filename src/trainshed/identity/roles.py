"""Roles as in Azure, and two of the trade: which actions each allows.

An action is ``Provider/type/.../verb``; ``*`` in a role stands for any text, case does not count (as in Azure's role
definitions). What ``not_actions`` match is taken away again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Role:
    """A role definition. The ids of Owner, Contributor and Reader are Azure's."""

    name: str
    id: str
    description: str
    actions: tuple[str, ...]
    not_actions: tuple[str, ...] = ()


OWNER = Role(
    "Owner",
    "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",
    "Everything, and giving roles to others",
    ("*",),
)
CONTRIBUTOR = Role(
    "Contributor",
    "b24988ac-6180-42a0-ab88-20f7382dd24c",
    "Everything but giving roles, managing callers and the service's secrets",
    ("*",),
    (
        "Microsoft.Authorization/*/write",
        "Microsoft.Authorization/*/delete",
        "Trainshed.Identity/*/write",
        "Trainshed.Identity/*/delete",
        "Trainshed.Vault/*",
    ),
)
READER = Role(
    "Reader",
    "acdd72a7-3385-48ef-bd42-f606fba81ae7",
    "Reading everything but secrets, and files by way of links",
    ("*/read",),
    ("Trainshed.Vault/*",),
)
JOB_SUBMITTER = Role(
    "Job Submitter",
    "5b1d5c0e-6a9e-4e0b-9d0c-6d1f0d6b7a01",
    "Experiments and jobs on the clusters that are there: submitting, watching, ending, reading their files",
    (
        "Microsoft.BatchAI/*/read",
        "Microsoft.BatchAI/workspaces/experiments/*",
        "Microsoft.BatchAI/workspaces/code/*",
        "Microsoft.BatchAI/workspaces/clusters/submit/action",
        "Microsoft.BatchAI/workspaces/fileservers/mount/action",
        "Microsoft.Resources/*/read",
    ),
)
CLUSTER_OPERATOR = Role(
    "Cluster Operator",
    "5b1d5c0e-6a9e-4e0b-9d0c-6d1f0d6b7a02",
    "Clusters and file servers: making, resizing, removing; stopping the jobs on them, and logging in to them",
    (
        "Microsoft.BatchAI/*/read",
        "Microsoft.BatchAI/workspaces/clusters/*",
        "Microsoft.BatchAI/workspaces/fileservers/*",
        "Microsoft.BatchAI/workspaces/experiments/jobs/terminate/action",
        "Microsoft.BatchAI/workspaces/experiments/jobs/preempt/action",
        "Microsoft.BatchAI/workspaces/experiments/jobs/remoteLoginInformation/action",
        "Microsoft.Resources/*/read",
    ),
    ("Microsoft.BatchAI/workspaces/clusters/submit/action",),
)
#: Every role by its name, in the order in which people are shown them.
ROLES: dict[str, Role] = {role.name: role for role in (OWNER, CONTRIBUTOR, READER, JOB_SUBMITTER, CLUSTER_OPERATOR)}

#: What whoever has signed in may do without any role: see and manage what is their own.
OWN_ACTIONS = "Trainshed.Identity/me/"
#: What every token allows, however limited.
WHO_AM_I = "Trainshed.Identity/me/read"


def role_named(text: str) -> Role | None:
    """The role of this name (in any case, spaces and dashes as you like) or definition id (the path's last part)."""
    wanted = text.rpartition("/")[2].lower()
    plain = wanted.replace("-", "").replace(" ", "").replace("_", "")
    for role in ROLES.values():
        if wanted == role.id or plain == role.name.lower().replace(" ", ""):
            return role
    return None


@lru_cache(maxsize=4096)
def permits(role: str, action: str) -> bool:
    """Whether the role of this name allows the action. A name that is not a role's allows nothing."""
    known = ROLES.get(role)
    if known is None:
        return False
    return _any(known.actions, action) and not _any(known.not_actions, action)


def _any(patterns: tuple[str, ...], action: str) -> bool:
    return any(_pattern(pattern).fullmatch(action) for pattern in patterns)


@lru_cache(maxsize=256)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in text.split("*")), re.IGNORECASE | re.DOTALL)
