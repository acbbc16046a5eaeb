"""Deleting a parent deletes its children first: workspaces and experiments."""

from __future__ import annotations

from sqlalchemy import Connection

from trainshed.control.actions import Actions
from trainshed.resources.lifecycle import (
    OperationEvent,
    OperationVerb,
    ProvisioningEvent,
    ProvisioningState,
)
from trainshed.store import clusters, experiments, jobs, operations, workspaces


def delete_parents(tx: Connection, actions: Actions, now: int) -> None:
    """Advance the deletion of every experiment and workspace that is being deleted."""
    for workspace in workspaces.deleting(tx):
        _delete_workspace(tx, workspace.key, actions, now)
    for experiment in experiments.deleting(tx):
        _delete_experiment(tx, experiment.key, actions, now)


def _delete_experiment(tx: Connection, key: str, actions: Actions, now: int) -> None:
    remaining = jobs.of_experiment_ids(tx, key)
    for job_id in remaining:
        job = jobs.get_by_id(tx, job_id)
        if job.state is not ProvisioningState.DELETING:
            jobs.request_deletion(tx, job_id, now)
            actions.again = True
    if not remaining:
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
    if not children and not own_clusters:
        workspaces.delete(tx, key)
        operations.finish_for(tx, OperationVerb.DELETE_WORKSPACE, key, OperationEvent.SUCCEEDED, now)
