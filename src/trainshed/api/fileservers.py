"""File servers: this version has none; what a client asks of them is answered truthfully."""

from __future__ import annotations

from starlette.responses import Response

from trainshed.api.answers import answer
from trainshed.api.call import Call
from trainshed.api.errors import ApiError, not_found
from trainshed.api.workspaces import required as required_workspace
from trainshed.resources.ids import Kind


async def list_in_workspace(call: Call) -> Response:
    """GET: none."""
    key, name = call.workspace_key, call.name("workspace")
    await call.read(lambda tx: required_workspace(tx, key, name))
    return answer({"value": []})


async def get(call: Call) -> Response:
    """GET one: 404."""
    raise not_found(Kind.FILE_SERVER, call.name("fileServer"))


async def delete(call: Call) -> Response:
    """DELETE: what is absent is deleted already."""
    call.name("fileServer")
    return Response(status_code=204)


async def create(call: Call) -> Response:
    """PUT: not possible yet (501, which clients do not repeat)."""
    raise ApiError(
        501,
        "NotImplemented",
        f"This version of Trainshed cannot create file servers yet ('{call.name('fileServer')}'); a later version "
        "will. Until then keep shared data below $AZ_BATCHAI_MOUNT_ROOT, which all nodes of a cluster see.",
    )
