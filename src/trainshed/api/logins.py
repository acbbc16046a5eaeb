"""Where a person can log in to the nodes of a cluster or job (rest-contract section 10)."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection
from starlette.responses import Response

from trainshed.api import clusters as cluster_routes
from trainshed.api import jobs as job_routes
from trainshed.api.answers import JSON
from trainshed.api.call import Call
from trainshed.api.lookup import find
from trainshed.api.paging import page, page_request
from trainshed.resources.lifecycle import NodeState
from trainshed.resources.views import Json, remote_login_view
from trainshed.store import attempts, nodes
from trainshed.store.records import NodeRecord


async def of_cluster(call: Call) -> Response:
    """POST: the nodes of a cluster on which something listens for logins."""
    key, name = call.cluster_key, call.name("cluster")

    def rows(tx: Connection) -> list[NodeRecord]:
        record = cluster_routes.required(tx, key, name)
        return list(nodes.of_cluster(tx, record.uid))

    return await _answer(call, rows)


async def of_job(call: Call) -> Response:
    """POST: the nodes that ran the job's latest attempt, as far as they still exist."""
    key = call.job_key

    def rows(tx: Connection) -> list[NodeRecord]:
        runs = attempts.of_job(tx, job_routes.required(tx, call, key).id)
        found = [find(nodes.get, tx, node_id) for node_id in runs[-1].node_ids] if runs else []
        return [node for node in found if node is not None and node.state is not NodeState.GONE]

    return await _answer(call, rows)


async def _answer(call: Call, rows: Callable[[Connection], list[NodeRecord]]) -> Response:
    asked = page_request(call)

    def query(tx: Connection) -> bytes:
        reachable = [node for node in rows(tx) if node.ssh_port is not None and node.address]
        start = asked.after_number()
        window = list(enumerate(reachable, 1))[start : start + asked.one_more]
        return page(call, asked, window, lambda entry: _view(entry[1]), lambda entry: entry[0])

    return Response(await call.read(query), media_type=JSON)


def _view(node: NodeRecord) -> Json:
    return remote_login_view(node_id=node.id, ip_address=node.address, port=node.ssh_port or 0)
