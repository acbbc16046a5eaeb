"""Who stands where in a workspace with scheduling rules: what runs, and what was used."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from trainshed.control.policies import Policies, owner_of
from trainshed.identity import ADMINISTRATOR
from trainshed.resources.prices import Prices
from trainshed.scheduling.snapshot import Owner, Scope
from trainshed.store import principals, usage
from trainshed.store.errors import or_none
from trainshed.store.records import WorkspaceRecord


def standing(tx: Connection, workspace: WorkspaceRecord, prices: Prices, now: int) -> list[dict[str, Any]]:
    """For the workspace, each user and each experiment that has or had something: nodes, jobs, what was used."""
    policies = Policies(tx, now, prices)
    rules = policies.of(workspace.key)
    owners = {Owner(workspace.key, used.user, used.experiment_key) for used in usage.since(tx, workspace.key, 0)}
    owners |= {owner_of(holder) for holder in usage.holders(tx) if holder.workspace_key == workspace.key}
    told = []
    for scope in Scope:
        subjects = {owner.subject(scope): owner for owner in owners}
        for subject, owner in sorted(subjects.items()):
            account = rules.ledger.account(scope, owner)
            told.append(
                {
                    "scope": scope.value,
                    "name": _name(tx, scope, subject, workspace.name),
                    "nodes": account.nodes,
                    "runningJobs": account.jobs,
                    "recentNodeHours": round(account.usage(now, rules.ledger.half_life), 3),
                    **policies.spent(workspace, scope, subject),
                }
            )
    return told


def _name(tx: Connection, scope: Scope, subject: str, workspace: str) -> str:
    if scope is Scope.WORKSPACE:
        return workspace
    if scope is Scope.EXPERIMENT:
        return subject.rpartition("/")[2]
    return user_name(tx, subject)


def user_name(tx: Connection, id: str) -> str:
    """The name of a principal, the administrator of the home included; the id of one that is gone."""
    if id == ADMINISTRATOR.id:
        return ADMINISTRATOR.name
    user = or_none(principals.get, tx, id)
    return id if user is None else user.name
