"""Valid bodies that tests change: the smallest of each resource, and one with every member."""

from __future__ import annotations

import copy
from typing import Any

CLUSTER_ID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.BatchAI/workspaces/w/clusters/c"
DELETE = object()


def job(**changes: Any) -> dict[str, Any]:
    """The smallest valid job; ``changes`` are properties by dotted path with ``__`` for the dot."""
    properties: dict[str, Any] = {
        "cluster": {"id": CLUSTER_ID},
        "nodeCount": 1,
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
        "customToolkitSettings": {"commandLine": "true"},
    }
    return {"properties": changed(properties, changes)}


def job_with(member: str, settings: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A job of another toolkit."""
    return job(customToolkitSettings=DELETE, **{member: settings}, **changes)


def cluster(**changes: Any) -> dict[str, Any]:
    """The smallest valid cluster."""
    properties: dict[str, Any] = {
        "vmSize": "STANDARD_D1",
        "scaleSettings": {"manual": {"targetNodeCount": 1}},
        "userAccountSettings": {"adminUserName": "trainer", "adminUserPassword": "s3cret-password"},
    }
    return {"properties": changed(properties, changes)}


def file_server(**changes: Any) -> dict[str, Any]:
    """The smallest valid file server."""
    properties: dict[str, Any] = {
        "vmSize": "STANDARD_DS1_V2",
        "sshConfiguration": {"userAccountSettings": {"adminUserName": "trainer", "adminUserPassword": "s3cret"}},
        "dataDisks": {"diskSizeInGB": 10, "diskCount": 2, "storageAccountType": "Standard_LRS"},
    }
    return {"properties": changed(properties, changes)}


def share(**changes: Any) -> dict[str, Any]:
    """A valid Azure Files volume."""
    volume = {
        "accountName": "acct",
        "azureFileUrl": "https://acct.file.core.windows.net/share",
        "credentials": {"accountKey": "s3cret-key"},
        "relativeMountPath": "data",
    }
    return changed(volume, changes)


def changed(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy of ``base`` with changes by path (``a__b`` is ``a.b``); DELETE removes."""
    copied = copy.deepcopy(base)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = copied
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is DELETE:
            place.pop(last)
        else:
            place[last] = value
    return copied
