"""Deleting a parent deletes its children first: resource groups, workspaces and experiments."""

from __future__ import annotations

from sqlalchemy import Connection

from trainshed.control.actions import Actions
from trainshed.resources.lifecycle import (
    OperationEvent,
    OperationVerb,
    ProvisioningEvent,
    ProvisioningState,
)
from trainshed.store import (
    clusters,
    code,
    experiments,
    file_servers,
    job_bulk,
    operations,
    removals,
    resource_groups,
    role_assignments,
    storage_accounts,
    workspaces,
)
from trainshed.store.records import ResourceGroupRecord
from trainshed.volumes.embedded import account_path

#: Jobs that one pass removes from an experiment: a pass must not hold up the others for long.
JOBS_AT_ONCE = 20_000


def delete_parents(tx: Connection, actions: Actions, now: int) -> None:
    """Advance the deletion of every experiment, workspace and resource group that is being deleted."""
    for group in resource_groups.deleting(tx):
        _delete_group(tx, group, actions, now)
    for workspace in workspaces.deleting(tx):
        _delete_workspace(tx, workspace.key, actions, now)
    for experiment in experiments.deleting(tx):
        _delete_experiment(tx, experiment.key, actions, now)


def _delete_experiment(tx: Connection, key: str, actions: Actions, now: int) -> None:
    if job_bulk.request_deletion(tx, key, now):
        actions.again = True
    # Those that hold nodes are stopped first, one by one, and removed when they have let go.
    if job_bulk.delete_idle(tx, key, now, limit=JOBS_AT_ONCE) == JOBS_AT_ONCE:
        actions.again = True
    if not job_bulk.any_of(tx, key):
        experiments.delete(tx, key)
        operations.finish_for(tx, OperationVerb.DELETE_EXPERIMENT, key, OperationEvent.SUCCEEDED, now)
        actions.again = True


def _delete_workspace(tx: Connection, key: str, actions: Actions, now: int) -> None:
    children = experiments.of_workspace(tx, key)
    for experiment in children:
        if experiment.state is not ProvisioningState.DELETING:
            experiments.apply(tx, experiment.key, ProvisioningEvent.DELETE_REQUESTED, now)
            actions.again = True
    own_clusters = [cluster for cluster in clusters.all(tx) if cluster.workspace_key == key]
    for cluster in own_clusters:
        if cluster.state is not ProvisioningState.DELETING:
            clusters.apply_provisioning(tx, cluster.key, ProvisioningEvent.DELETE_REQUESTED, now)
            actions.again = True
    own_servers = file_servers.of_workspace(tx, key)
    if not children and not own_clusters:
        # Not before: jobs and clusters of the workspace may have them mounted.
        for server in own_servers:
            if server.state is not ProvisioningState.DELETING:
                file_servers.apply(tx, server.key, ProvisioningEvent.DELETE_REQUESTED, now)
    if not children and not own_clusters and not own_servers:
        number = workspaces.get(tx, key).user_number
        code.forget(tx, number)
        removals.request(tx, f"code-{number}", code.directory(number))
        workspaces.delete(tx, key)
        role_assignments.delete_at_or_below(tx, f"/{key}")
        operations.finish_for(tx, OperationVerb.DELETE_WORKSPACE, key, OperationEvent.SUCCEEDED, now)
        actions.again = True


def _delete_group(tx: Connection, group: ResourceGroupRecord, actions: Actions, now: int) -> None:
    for account in storage_accounts.of_group(tx, group.key):
        storage_accounts.delete(tx, account.name)
        removals.request(tx, account.uid, account_path(account.name))
    inside = workspaces.of_group(tx, group.subscription, group.name)
    for workspace in inside:
        if workspace.state is not ProvisioningState.DELETING:
            workspaces.apply(tx, workspace.key, ProvisioningEvent.DELETE_REQUESTED, now)
            actions.again = True
    if not inside:
        resource_groups.delete(tx, group.key)
        role_assignments.delete_at_or_below(tx, f"/{group.key}")
        operations.finish_for(tx, OperationVerb.DELETE_GROUP, group.key, OperationEvent.SUCCEEDED, now)
