"""What the tests of the nouns share: a cluster with ready nodes."""

from __future__ import annotations

from sqlalchemy import Connection

from tests.support.factories import make_cluster, make_parents
from trainshed.resources.lifecycle import NodeState
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import nodes
from trainshed.store.database import Database
from trainshed.store.records import ClusterRecord, NodeRecord

REASON = Reason(ReasonCode.NODE_LOST, "The node stopped answering.", {"node": "n0"})
OTHER_REASON = Reason(ReasonCode.JOB_TERMINATED, "The specified job has been terminated by the user")


def make_node(tx: Connection, cluster: ClusterRecord, ordinal: int, state: NodeState = NodeState.READY) -> NodeRecord:
    """A node ``{cluster name}-n{ordinal}``."""
    node = NodeRecord(
        f"{cluster.name}-n{ordinal}", cluster.uid, ordinal, state, 1, 1, f"host{ordinal}", "127.0.0.2", None, None
    )
    nodes.insert(tx, node)
    return node


def ready_cluster(db: Database, node_count: int = 2) -> ClusterRecord:
    """Workspace, experiment and a cluster ``c`` whose nodes are ready."""

    def make(tx: Connection) -> ClusterRecord:
        make_parents(tx)
        cluster = make_cluster(tx)
        for ordinal in range(node_count):
            make_node(tx, cluster, ordinal)
        return cluster

    return db.write_sync(make)
