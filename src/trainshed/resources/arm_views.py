"""The JSON of what Azure Resource Manager itself answers: subscriptions, groups, providers, storage accounts.

Shapes as the official clients read them (rest-contract section 13; azure-mgmt-resource, azure-mgmt-storage).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from trainshed.resources.names import LOCAL_SUBSCRIPTION
from trainshed.resources.times import format_time

Json = dict[str, Any]

#: The one tenant.
TENANT = LOCAL_SUBSCRIPTION

#: Types of each provider, and the api-versions that clients are known to ask with.
_PROVIDERS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Microsoft.BatchAI": (
        (
            "workspaces", "workspaces/clusters", "workspaces/fileservers", "workspaces/experiments",
            "workspaces/experiments/jobs", "operations", "locations", "locations/usages", "locations/operationresults",
            "locations/operationstatuses",
        ),
        ("2026-11-01", "2018-05-01"),
    ),
    "Microsoft.Storage": (
        ("storageAccounts", "checkNameAvailability"),
        ("2019-04-01", "2018-11-01", "2017-10-01"),
    ),
    "Microsoft.Resources": (
        ("subscriptions", "subscriptions/resourceGroups", "subscriptions/locations", "tenants", "providers"),
        ("2019-05-01", "2018-05-01", "2017-05-10", "2016-06-01"),
    ),
    "Microsoft.Authorization": (
        ("roleAssignments", "roleDefinitions"),
        ("2022-04-01", "2018-09-01-preview", "2015-07-01"),
    ),
}  # fmt: skip


def provider_namespace(given: str) -> str | None:
    """The provider's own spelling of its name, None for one that is not there."""
    return next((name for name in _PROVIDERS if name.lower() == given.lower()), None)


def provider_namespaces() -> tuple[str, ...]:
    """All providers."""
    return tuple(_PROVIDERS)


def provider_view(subscription: str, namespace: str, locations: Iterable[str]) -> Json:
    """A provider: registered, always and everywhere."""
    types, versions = _PROVIDERS[namespace]
    places = list(locations)
    return {
        "id": f"/subscriptions/{subscription}/providers/{namespace}",
        "namespace": namespace,
        "registrationPolicy": "RegistrationFree",
        "registrationState": "Registered",
        "resourceTypes": [{"resourceType": kind, "locations": places, "apiVersions": list(versions)} for kind in types],
    }


def subscription_view(subscription: str) -> Json:
    """A subscription: a namespace that exists by being named."""
    return {
        "id": f"/subscriptions/{subscription}",
        "subscriptionId": subscription,
        "tenantId": TENANT,
        "displayName": "Trainshed" if subscription == LOCAL_SUBSCRIPTION else subscription,
        "state": "Enabled",
        "subscriptionPolicies": {"spendingLimit": "Off"},
        "authorizationSource": "RoleBased",
    }


def tenant_view() -> Json:
    """The tenant."""
    return {"id": f"/tenants/{TENANT}", "tenantId": TENANT, "displayName": "Trainshed"}


def location_view(subscription: str, name: str) -> Json:
    """A region."""
    short = name.replace(" ", "").lower()
    return {
        "id": f"/subscriptions/{subscription}/locations/{short}",
        "subscriptionId": subscription,
        "name": short,
        "displayName": name,
    }


def resource_group_view(*, subscription: str, name: str, location: str, tags: Mapping[str, str], state: str) -> Json:
    """A resource group. Unlike in ids of its resources, its name keeps its case; ``tags`` is there when empty too."""
    return {
        "id": f"/subscriptions/{subscription}/resourceGroups/{name}",
        "name": name,
        "type": "Microsoft.Resources/resourceGroups",
        "location": location,
        "tags": dict(tags),
        "properties": {"provisioningState": "Deleting" if state == "deleting" else "Succeeded"},
    }


def storage_account_view(
    *,
    subscription: str,
    resource_group: str,
    name: str,
    location: str,
    kind: str,
    sku: str,
    tags: Mapping[str, str],
    created_at: int,
    endpoints: Mapping[str, str],
) -> Json:
    """A storage account; ``endpoints`` are the URLs of ``blob`` and ``file``."""
    return {
        "id": (
            f"/subscriptions/{subscription}/resourceGroups/{resource_group}"
            f"/providers/Microsoft.Storage/storageAccounts/{name}"
        ),
        "name": name,
        "type": "Microsoft.Storage/storageAccounts",
        "location": location,
        "tags": dict(tags),
        "sku": {"name": sku, "tier": sku.partition("_")[0]},
        "kind": kind,
        "properties": {
            "provisioningState": "Succeeded",
            "creationTime": format_time(created_at),
            "primaryLocation": location,
            "statusOfPrimary": "available",
            "primaryEndpoints": dict(endpoints),
            "supportsHttpsTrafficOnly": False,
        },
    }
