"""What an administrator does to a single node of a cluster (2026-11-01)."""

from __future__ import annotations

from sqlalchemy import Connection
from starlette.responses import Response

from trainshed.api import clusters as cluster_routes
from trainshed.api.answers import answer
from trainshed.api.call import Call
from trainshed.api.errors import ApiError
from trainshed.api.history import node_view
from trainshed.api.lookup import find
from trainshed.control.fleet import queues
from trainshed.control.nodes import take_away
from trainshed.resources.lifecycle import NodeState
from trainshed.resources.views import Json
from trainshed.store import nodes


async def evict(call: Call) -> Response:
    """POST: take the node away at once, as the owner of a low-priority node may. Its job is queued again, uncounted.

    409 ``NodeOfEngine`` where nodes are an engine's own.

    200 with the node, which is leaving; another takes its place if the scale settings ask for it. Again: no change.
    """
    key, name, node_id = call.cluster_key, call.name("cluster"), call.part("node")
    now = call.now()

    def store(tx: Connection) -> Json:
        cluster = cluster_routes.required(tx, key, name)
        if queues(call.services.engines, cluster.engine):
            text = (
                f"Nodes of cluster {cluster.name} are those of engine {cluster.engine}, which has them for others too. "
                "Take the node out with the engine's own tools."
            )
            raise ApiError(409, "NodeOfEngine", text)
        node = find(nodes.get, tx, node_id)
        if node is None or node.cluster_uid != cluster.uid or node.state is NodeState.GONE:
            text = (
                f"Cluster {cluster.name} has no node {node_id}. `trainshed cluster node list {cluster.name}` lists its "
                "nodes."
            )
            raise ApiError(404, "NodeNotFound", text)
        take_away(tx, node, now, f"Node {node_id} was taken away by an administrator.")
        return node_view(nodes.get(tx, node_id))

    return answer(await call.write(store))
