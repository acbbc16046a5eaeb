"""File servers that a cluster or a job names: they must be there, and a cluster takes over their subnet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from trainshed.api.errors import ApiError, being_deleted, invalid_value
from trainshed.api.lookup import find
from trainshed.resources.errors import InvalidResource
from trainshed.resources.fileserver import subnet_of
from trainshed.resources.ids import Kind, ResourceId
from trainshed.resources.lifecycle import ProvisioningState
from trainshed.store import file_servers


def check_file_servers(tx: Connection, volumes: Mapping[str, Any] | None, path: str) -> list[str]:
    """The subnets of the file servers that ``mountVolumes`` at the JSON ``path`` names, in order.

    Raises ApiError 400 for one that does not exist, and 409 for one that is being deleted.
    """
    subnets = []
    for index, mount in enumerate((volumes or {}).get("fileServers") or ()):
        target = f"{path}.fileServers[{index}].fileServer.id"
        given = mount["fileServer"]["id"]
        try:
            resource = ResourceId.parse(given)
        except InvalidResource as error:
            raise invalid_value(target, error.message) from None
        record = find(file_servers.get, tx, resource.key) if resource.kind is Kind.FILE_SERVER else None
        if record is None:
            raise ApiError(
                400,
                "FileServerNotFound",
                f"{target}: the file server '{given[:300]}' does not exist. Create the file server first, or give the "
                "id of one that exists (GET .../workspaces/{workspace}/fileServers lists them).",
                target=target,
            )
        if record.state is ProvisioningState.DELETING:
            raise being_deleted(Kind.FILE_SERVER, record.name)
        subnets.append(subnet_of(record.definition, resource.subscription, record.uid))
    return subnets


def fill_subnet(tx: Connection, wanted: dict[str, Any]) -> None:
    """Give a new cluster the subnet of the (first) file server that it mounts (rest-contract section 6).

    Raises ApiError 400 for a cluster that is to be in a subnet where none of its file servers is.
    """
    volumes = (wanted.get("nodeSetup") or {}).get("mountVolumes")
    subnets = check_file_servers(tx, volumes, "properties.nodeSetup.mountVolumes")
    if not subnets:
        return
    given = (wanted.get("subnet") or {}).get("id")
    if given is None:
        wanted["subnet"] = {"id": subnets[0]}
    elif given.lower() not in {subnet.lower() for subnet in subnets}:
        raise invalid_value(
            "properties.subnet.id",
            f"The cluster's subnet '{given[:300]}' is not the one of the file server that it mounts, '{subnets[0]}'. "
            "Leave subnet out to use that one.",
        )


def keep_subnet(existing: Mapping[str, Any], wanted: dict[str, Any]) -> None:
    """For a repeated PUT: a subnet that the service filled in is not missed in the description that is sent again."""
    volumes = (wanted.get("nodeSetup") or {}).get("mountVolumes") or {}
    if volumes.get("fileServers") and "subnet" not in wanted and "subnet" in existing:
        wanted["subnet"] = existing["subnet"]
