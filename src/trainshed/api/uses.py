"""What a description uses beyond its workspace: clusters and file servers; the caller must be allowed each.

Asked before they are looked up: whether a cluster that one may not use exists is not told.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from trainshed.api.call import Call
from trainshed.identity import Scope
from trainshed.resources.errors import InvalidResource
from trainshed.resources.ids import ResourceId

_SUBMIT = "Microsoft.BatchAI/workspaces/clusters/submit/action"
_MOUNT = "Microsoft.BatchAI/workspaces/fileservers/mount/action"


def require_cluster(call: Call, cluster_id: str) -> None:
    """Raises ApiError 403 unless the caller may submit jobs to the cluster of this id."""
    call.require(_SUBMIT, _scope(cluster_id))


def require_file_servers(call: Call, mount_volumes: Mapping[str, Any] | None) -> None:
    """Raises ApiError 403 unless the caller may mount every file server that ``mountVolumes`` names."""
    for entry in (mount_volumes or {}).get("fileServers") or []:
        server_id = entry["fileServer"]["id"]
        with contextlib.suppress(InvalidResource):  # What names no file server is refused for that later.
            call.require(_MOUNT, _scope(server_id))


def _scope(resource_id: str) -> Scope:
    parsed = ResourceId.parse(resource_id)
    return Scope(parsed.subscription, parsed.resource_group, parsed.workspace)
