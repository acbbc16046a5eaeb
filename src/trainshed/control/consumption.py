"""What an attempt used is counted for its owner when it is over."""

from __future__ import annotations

from sqlalchemy import Connection

from trainshed.resources.cluster import vm_priority
from trainshed.store import clusters, usage
from trainshed.store.errors import or_none
from trainshed.store.records import AttemptRecord, JobRecord


def count_usage(tx: Connection, job: JobRecord, attempt: AttemptRecord, ended_at: int) -> None:
    """Its nodes, for as long as it held them; nothing of one that an engine had not begun yet."""
    nodes = (len(attempt.node_ids) or job.node_count) if attempt.waiting is None else 0
    cluster = or_none(clusters.get_by_uid, tx, attempt.cluster_uid)
    usage.add(
        tx,
        workspace_key=job.workspace_key,
        user=job.submitted_by or "",
        experiment_key=job.experiment_key,
        vm_size=cluster.vm_size if cluster else "",
        vm_priority=vm_priority(cluster.definition) if cluster else "",
        ended_at=ended_at,
        node_ms=nodes * max(0, ended_at - attempt.since),
    )
