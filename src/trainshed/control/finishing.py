"""Long-running operations whose work is done although nobody said so.

An operation is finished together with the change that it waits for. On PostgreSQL, with several API processes, one may
be begun a moment after that change was committed: the resource is gone, and nothing else would ever finish it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection

from trainshed.resources.lifecycle import JOB, OperationEvent, OperationVerb
from trainshed.store import clusters, experiments, file_servers, jobs, operations, resource_groups, workspaces
from trainshed.store.errors import or_none

#: Milliseconds for which an operation is left to those who carry it out.
_PATIENCE = 2000

_FIND: Mapping[OperationVerb, Callable[[Connection, str], Any]] = {
    OperationVerb.DELETE_JOB: jobs.get,
    OperationVerb.TERMINATE_JOB: jobs.get,
    OperationVerb.DELETE_CLUSTER: clusters.get,
    OperationVerb.DELETE_EXPERIMENT: experiments.get,
    OperationVerb.DELETE_WORKSPACE: workspaces.get,
    OperationVerb.DELETE_FILE_SERVER: file_servers.get,
    OperationVerb.DELETE_GROUP: resource_groups.get,
}


def finish_stale_operations(tx: Connection, now: int) -> None:
    """Finish deletions of what is gone, and terminations of jobs that have ended."""
    for operation in operations.in_progress(tx):
        find = _FIND.get(operation.verb)
        if find is None or operation.started_at > now - _PATIENCE:
            continue
        found = or_none(find, tx, operation.resource_key)
        over = operation.verb is OperationVerb.TERMINATE_JOB and found is not None and found.execution in JOB.final
        if found is None or over:
            operations.finish(tx, operation.id, OperationEvent.SUCCEEDED, now)
