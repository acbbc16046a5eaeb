"""Usages of a region, and the VM sizes that clusters may have."""

from __future__ import annotations

from sqlalchemy import Connection
from starlette.responses import Response

from trainshed.api.answers import answer
from trainshed.api.call import Call
from trainshed.api.lookup import find
from trainshed.api.versions import require_newer
from trainshed.api.workspaces import normal_location
from trainshed.resources.names import check_location
from trainshed.resources.usage import ClusterUse, usage_rows
from trainshed.resources.vmsizes import supported_sizes
from trainshed.store import clusters, workspaces


async def list_usages(call: Call) -> Response:
    """GET: how many clusters and cores the subscription uses in a region (rest-contract section 11)."""
    location, subscription = call.part("location"), call.subscription.lower()
    check_location(location)

    def query(tx: Connection) -> list[ClusterUse]:
        used = []
        for cluster in clusters.all(tx):
            workspace = find(workspaces.get, tx, cluster.workspace_key)
            if workspace is None or workspace.subscription.lower() != subscription:
                continue
            if normal_location(workspace.location) == normal_location(location):
                count = sum(clusters.node_counts(tx, cluster.uid).values())
                used.append(ClusterUse(cluster.vm_size, cluster.definition["vmPriority"], count))
        return used

    return answer({"value": usage_rows(await call.read(query), extra_sizes=call.services.local_sizes)})


async def list_vm_sizes(call: Call) -> Response:
    """GET (2026-11-01): the sizes that clusters may have, those of this machine included, by name."""
    require_newer(call.version, "The list of VM sizes")
    check_location(call.part("location"))
    sizes = supported_sizes(call.services.local_sizes)
    return answer(
        {
            "value": [
                {
                    "name": size.name,
                    "family": size.family,
                    "numberOfCores": size.cores,
                    "memoryInMB": size.memory_mib,
                    "gpus": size.gpus,
                }
                for size in sizes
            ]
        }
    )
