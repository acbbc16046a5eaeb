"""The list of operations that the provider advertises (rest-contract section 12).

Names, order and texts are interface data of the original, its spelling included.
"""

from __future__ import annotations

from typing import Any

from trainshed.resources.ids import PROVIDER

_WORKSPACES = "Batch AI Workspaces"
_EXPERIMENTS = "Batch AI Experiments"
_CLUSTERS = "Batch AI Clusters"
_JOBS = "Batch AI Jobs"
_FILE_SERVERS = "Batch AI Fileservers"
_PROVIDER = "Batch AI Resource Provider"

# name, resource, operation, description
_OPERATIONS: tuple[tuple[str, str, str, str], ...] = (
    (
        "workspaces/read",
        _WORKSPACES,
        "List or get Batch AI workspaces",
        "Lists Batch AI workspaces or gets the properties of a Batch AI workspace",
    ),
    (
        "workspaces/write",
        _WORKSPACES,
        "Create or update Batch AI workspace",
        "Creates a new Batch AI workspace or updates an existing Batch AI workspace",
    ),
    ("workspaces/delete", _CLUSTERS, "Delete Batch AI workspace", "Deletes a Batch AI workspace"),
    (
        "workspaces/experiments/read",
        _EXPERIMENTS,
        "List or get Batch AI experiements",
        "Lists Batch AI experiments or gets the properties of a Batch AI experiment",
    ),
    (
        "workspaces/experiments/write",
        _EXPERIMENTS,
        "Create or update Batch AI experiement",
        "Creates a new Batch AI experiment or updates an existing Batch AI experiment",
    ),
    ("workspaces/experiments/delete", _EXPERIMENTS, "Delete Batch AI experiment", "Deletes a Batch AI experiment"),
    (
        "clusters/read",
        _CLUSTERS,
        "List or get Batch AI clusters",
        "Lists Batch AI clusters or gets the properties of a Batch AI cluster",
    ),
    (
        "workspaces/clusters/read",
        _CLUSTERS,
        "List or get Batch AI clusters",
        "Lists Batch AI clusters or gets the properties of a Batch AI cluster",
    ),
    (
        "workspaces/clusters/write",
        _CLUSTERS,
        "Create or update Batch AI cluster",
        "Creates a new Batch AI cluster or updates an existing Batch AI cluster",
    ),
    ("workspaces/clusters/delete", _CLUSTERS, "Delete Batch AI cluster", "Deletes a Batch AI cluster"),
    (
        "workspaces/clusters/remoteLoginInformation/action",
        _CLUSTERS,
        "List Batch AI cluster remote-login information",
        "Lists remote-login information for a Batch AI cluster",
    ),
    (
        "workspaces/experiments/jobs/read",
        _JOBS,
        "List or get Batch AI jobs",
        "Lists Batch AI jobs or gets the properties of a Batch AI job",
    ),
    (
        "workspaces/experiments/jobs/write",
        _JOBS,
        "Create or update Batch AI job",
        "Creates a new Batch AI job or updates an existing Batch AI job",
    ),
    ("workspaces/experiments/jobs/delete", _JOBS, "Delete Batch AI job", "Deletes a Batch AI job"),
    ("workspaces/experiments/jobs/terminate/action", _JOBS, "Terminate Batch AI job", "Terminates a Batch AI job"),
    (
        "workspaces/experiments/jobs/remoteLoginInformation/action",
        _JOBS,
        "List Batch AI job remote-login information",
        "Lists remote-login information for a Batch AI job",
    ),
    (
        "workspaces/experiments/jobs/listoutputfiles/action",
        _JOBS,
        "List Batch AI job output files",
        "Lists output files for a Batch AI job",
    ),
    (
        "fileservers/read",
        _FILE_SERVERS,
        "List or get Batch AI fileservers",
        "Lists Batch AI fileservers or gets the properties of a Batch AI fileserver",
    ),
    (
        "workspaces/fileservers/read",
        _FILE_SERVERS,
        "List or get Batch AI fileservers",
        "Lists Batch AI fileservers or gets the properties of a Batch AI fileserver",
    ),
    (
        "workspaces/fileservers/write",
        _FILE_SERVERS,
        "Create or update Batch AI fileserver",
        "Creates a new Batch AI fileserver or updates an existing Batch AI fileserver",
    ),
    ("workspaces/fileservers/delete", _FILE_SERVERS, "Delete Batch AI filserver", "Deletes a Batch AI fileserver"),
    (
        "locations/usages/read",
        "Batch AI Usages",
        "Get Batch AI Usages",
        "Gets Batch AI usages of the specified subscription at the specified Azure region",
    ),
    (
        "register/action",
        _PROVIDER,
        "Register the Batch AI Resource Provider",
        "Registers the subscription for the Batch AI Resource Provider and enables the creation of Batch AI resources",
    ),
    (
        "unregister/action",
        _PROVIDER,
        "Unregister the Batch AI Resource Provider",
        "Unregisters the subscription for the Batch AI Resource Provider preventing the creation of Batch AI resources",
    ),
    (
        "locations/operationresults/read",
        "Batch AI Operation Results",
        "Get Batch AI Opreation Result",
        "Gets Batch AI async operation result at the specified Azure region",
    ),
    (
        "locations/operationstatuses/read",
        "Batch AI Operation Statuses",
        "Get Batch AI Opreation Status",
        "Gets Batch AI async operation status at the specified Azure region",
    ),
)


def operations() -> list[dict[str, Any]]:
    """The 26 operations, each with its name, what to show, and its origin."""
    return [
        {
            "name": f"{PROVIDER}/{name}",
            "display": {
                "provider": "Microsoft Batch AI",
                "resource": resource,
                "operation": operation,
                "description": description,
            },
            "origin": "user,system",
        }
        for name, resource, operation, description in _OPERATIONS
    ]
