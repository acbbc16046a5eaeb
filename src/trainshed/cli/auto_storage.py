"""``cluster create --use-auto-storage``: one storage account a region, found again later (behaviour section 12)."""

from __future__ import annotations

import secrets
import string
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainshed.cli.session import Session

#: All these names are those of ``az batchai``.
GROUP = "batchaiautostorage"
_PREFIX, _RANDOM_LETTERS = "bai", 12
_SHARE, _SHARE_PATH = "batchaishare", "autoafs"
_CONTAINER, _CONTAINER_PATH = "batchaicontainer", "autobfs"


def auto_volumes(session: Session) -> dict[str, list[dict[str, Any]]]:
    """mountVolumes with the share and the container of the region's account, which is made where it is missing.

    They themselves are made by the service when the cluster first names them.
    """
    account, key = _account(session)
    credentials = {"accountKey": key}
    return {
        "azureFileShares": [
            {
                "accountName": account,
                "azureFileUrl": f"https://{account}.file.core.windows.net/{_SHARE}",
                "relativeMountPath": _SHARE_PATH,
                "credentials": credentials,
            }
        ],
        "azureBlobFileSystems": [
            {
                "accountName": account,
                "containerName": _CONTAINER,
                "relativeMountPath": _CONTAINER_PATH,
                "credentials": credentials,
            }
        ],
    }


def _account(session: Session) -> tuple[str, str]:
    there = session.client.at(resource_group=GROUP)
    location = _location(session)
    if not there.groups.exists():
        there.groups.create(location=location)
    accounts = there.storage_accounts
    names = (
        found.name
        for found in accounts.list()
        if found.name.startswith(_PREFIX) and (found.json.get("location") or "").lower() == location.lower()
    )
    name = next(names, None)
    if name is None:
        letters = (secrets.choice(string.ascii_lowercase) for _ in range(_RANDOM_LETTERS))
        name = accounts.create(_PREFIX + "".join(letters), location=location).name
        session.note(f"made the storage account {name} in resource group {GROUP}")
    return name, str(accounts.keys(name)[0].get("value"))


def _location(session: Session) -> str:
    """The workspace's, or the service's own where the workspace is yet to be made."""
    from trainshed.client.errors import NotFoundError

    try:
        return str(session.client.workspaces.get(session.scope.workspace).json.get("location") or "local")
    except NotFoundError:
        return "local"
