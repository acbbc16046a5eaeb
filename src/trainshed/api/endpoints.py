"""Every operation of the API in one table (rest-contract section 2, and what 2026-11-01 adds)."""

from __future__ import annotations

from trainshed.api import (
    clusters,
    code,
    downloads,
    experiments,
    fileservers,
    groups,
    history,
    jobs,
    logins,
    logs,
    operations,
    outputs,
    probes,
    providers,
    storage,
    subscriptions,
    usages,
    workspaces,
)
from trainshed.api.routing import Endpoint

_PROVIDER = "/providers/Microsoft.BatchAI"
_SUB = f"/subscriptions/{{subscription}}{_PROVIDER}"
_LOCATION = f"{_SUB}/locations/{{location}}"
_GROUP = f"/subscriptions/{{subscription}}/resourceGroups/{{group}}{_PROVIDER}/workspaces"
_WS = f"{_GROUP}/{{workspace}}"
_CLUSTERS = f"{_WS}/clusters"
_CLUSTER = f"{_CLUSTERS}/{{cluster}}"
_SERVERS = f"{_WS}/fileServers"
_SERVER = f"{_SERVERS}/{{fileServer}}"
_EXPERIMENTS = f"{_WS}/experiments"
_EXPERIMENT = f"{_EXPERIMENTS}/{{experiment}}"
_JOBS = f"{_EXPERIMENT}/jobs"
_JOB = f"{_JOBS}/{{job}}"
_ARM = "/subscriptions/{subscription}"
_GROUPS = f"{_ARM}/resourceGroups"
_ACCOUNTS = f"{_GROUPS}/{{group}}/providers/Microsoft.Storage/storageAccounts"
_ACCOUNT = f"{_ACCOUNTS}/{{account}}"
_RESOURCES = "Microsoft.Resources/subscriptions"
_STORAGE = "Microsoft.Storage/storageAccounts"
_FILE = "/files/{uid}/{directory}/{path:path}"
_PAGED = ("maxresults",)
_FILES = ("outputdirectoryid", "directory", "linkexpiryinminutes", "maxresults")
_OCTETS = "application/octet-stream"
_DELETED = (202, 204)

ENDPOINTS: tuple[Endpoint, ...] = (
    # Most frequent first: routes are tried in order.
    Endpoint("PUT", _JOB, jobs.create, "Jobs_Create", "JobCreate", "Job", (200, 202)),
    Endpoint("GET", _JOB, jobs.get, "Jobs_Get", answer="Job"),
    Endpoint("DELETE", _JOB, jobs.delete, "Jobs_Delete", statuses=_DELETED),
    Endpoint("GET", _JOBS, jobs.list_in_experiment, "Jobs_ListByExperiment", answer="JobList", query=_PAGED),
    Endpoint("POST", f"{_JOB}/terminate", jobs.terminate, "Jobs_Terminate", statuses=(200, 202)),
    Endpoint(
        "POST", f"{_JOB}/listOutputFiles", outputs.list_output_files, "Jobs_ListOutputFiles",
        answer="FileList", query=_FILES,
    ),
    Endpoint(
        "POST", f"{_JOB}/listRemoteLoginInformation", logins.of_job, "Jobs_ListRemoteLoginInformation",
        answer="RemoteLoginInformationList", query=_PAGED,
    ),
    Endpoint(
        "GET", f"{_JOB}/logs/{{file}}", logs.get_log, "Jobs_GetLog", query=("offset", "follow"), newer=True,
        answer_type=_OCTETS,
    ),
    Endpoint("GET", f"{_JOB}/attempts", history.list_attempts, "Jobs_ListAttempts", answer="AttemptList", newer=True),
    Endpoint(
        "GET", f"{_JOB}/events", history.list_job_events, "Jobs_ListEvents", answer="EventList", query=_PAGED,
        newer=True,
    ),
    Endpoint("GET", f"{_LOCATION}/operationresults/{{operation}}", operations.get_result, "OperationResults_Get",
             answer="OperationStatus"),
    Endpoint("GET", f"{_LOCATION}/operationstatuses/{{operation}}", operations.get_status, "OperationStatuses_Get",
             answer="OperationStatus", statuses=(200, 202)),
    Endpoint("PUT", _CLUSTER, clusters.create, "Clusters_Create", "ClusterCreate", "Cluster", (200, 202)),
    Endpoint("PATCH", _CLUSTER, clusters.update, "Clusters_Update", "ClusterUpdate", "Cluster"),
    Endpoint("GET", _CLUSTER, clusters.get, "Clusters_Get", answer="Cluster"),
    Endpoint("DELETE", _CLUSTER, clusters.delete, "Clusters_Delete", statuses=_DELETED),
    Endpoint("GET", _CLUSTERS, clusters.list_in_workspace, "Clusters_ListByWorkspace", answer="ClusterList",
             query=_PAGED),
    Endpoint(
        "POST", f"{_CLUSTER}/listRemoteLoginInformation", logins.of_cluster, "Clusters_ListRemoteLoginInformation",
        answer="RemoteLoginInformationList", query=_PAGED,
    ),
    Endpoint("GET", f"{_CLUSTER}/nodes", history.list_nodes, "Clusters_ListNodes", answer="NodeList", newer=True),
    Endpoint(
        "GET", f"{_CLUSTER}/events", history.list_cluster_events, "Clusters_ListEvents", answer="EventList",
        query=_PAGED, newer=True,
    ),
    Endpoint("PUT", _EXPERIMENT, experiments.create, "Experiments_Create", "ExperimentCreate", "Experiment"),
    Endpoint("GET", _EXPERIMENT, experiments.get, "Experiments_Get", answer="Experiment"),
    Endpoint("DELETE", _EXPERIMENT, experiments.delete, "Experiments_Delete", statuses=_DELETED),
    Endpoint("GET", _EXPERIMENTS, experiments.list_in_workspace, "Experiments_ListByWorkspace",
             answer="ExperimentList", query=_PAGED),
    Endpoint("PUT", _WS, workspaces.create, "Workspaces_Create", "WorkspaceCreate", "Workspace"),
    Endpoint("PATCH", _WS, workspaces.update, "Workspaces_Update", "WorkspaceUpdate", "Workspace"),
    Endpoint("GET", _WS, workspaces.get, "Workspaces_Get", answer="Workspace"),
    Endpoint("DELETE", _WS, workspaces.delete, "Workspaces_Delete", statuses=_DELETED),
    Endpoint("GET", _GROUP, workspaces.list_in_group, "Workspaces_ListByResourceGroup", answer="WorkspaceList",
             query=_PAGED),
    Endpoint("GET", f"{_SUB}/workspaces", workspaces.list_in_subscription, "Workspaces_List",
             answer="WorkspaceList", query=_PAGED),
    Endpoint("GET", _SERVERS, fileservers.list_in_workspace, "FileServers_ListByWorkspace", answer="FileServerList",
             query=_PAGED),
    Endpoint("PUT", _SERVER, fileservers.create, "FileServers_Create", "FileServerCreate", "FileServer", (200, 202)),
    Endpoint("GET", _SERVER, fileservers.get, "FileServers_Get", answer="FileServer"),
    Endpoint("DELETE", _SERVER, fileservers.delete, "FileServers_Delete", statuses=_DELETED),
    Endpoint("GET", f"{_LOCATION}/usages", usages.list_usages, "Usages_List", answer="UsageList"),
    Endpoint("GET", f"{_LOCATION}/vmSizes", usages.list_vm_sizes, "VmSizes_List", answer="VmSizeList", newer=True),
    Endpoint("GET", f"{_PROVIDER}/operations", operations.list_operations, "Operations_List", answer="OperationList"),
    Endpoint("POST", f"{_WS}/code/missing", code.list_missing, "Code_ListMissing", "CodeHashes", "CodeMissing",
             newer=True),
    Endpoint("PUT", f"{_WS}/code/blobs/{{sha256}}", code.put_blob, "Code_PutBlob", "Bytes", "CodeBlob", (200, 201),
             newer=True, body_type=_OCTETS),
    Endpoint("PUT", f"{_WS}/code/snapshots/{{snapshot}}", code.put_snapshot, "Code_PutSnapshot", "CodeManifest",
             "CodeSnapshot", newer=True),
    # What clients ask Azure Resource Manager, and the embedded part of Microsoft.Storage.
    Endpoint("GET", "/subscriptions", subscriptions.list_subscriptions, "Subscriptions_List",
             answer="SubscriptionList", action=f"{_RESOURCES}/read"),
    Endpoint("GET", _ARM, subscriptions.get_subscription, "Subscriptions_Get", answer="Subscription",
             action=f"{_RESOURCES}/read"),
    Endpoint("GET", f"{_ARM}/locations", subscriptions.list_locations, "Subscriptions_ListLocations",
             answer="LocationList", action=f"{_RESOURCES}/locations/read"),
    Endpoint("GET", "/tenants", subscriptions.list_tenants, "Tenants_List", answer="TenantList",
             action="Microsoft.Resources/tenants/read"),
    Endpoint("HEAD", f"{_GROUPS}/{{group}}", groups.exists, "ResourceGroups_CheckExistence", statuses=(204,),
             action=f"{_RESOURCES}/resourceGroups/read"),
    Endpoint("GET", f"{_GROUPS}/{{group}}", groups.get, "ResourceGroups_Get", answer="ResourceGroup",
             action=f"{_RESOURCES}/resourceGroups/read"),
    Endpoint("PUT", f"{_GROUPS}/{{group}}", groups.create, "ResourceGroups_CreateOrUpdate", "ResourceGroupCreate",
             "ResourceGroup", (200, 201), action=f"{_RESOURCES}/resourceGroups/write"),
    Endpoint("PATCH", f"{_GROUPS}/{{group}}", groups.update, "ResourceGroups_Update", "ResourceGroupUpdate",
             "ResourceGroup", action=f"{_RESOURCES}/resourceGroups/write"),
    Endpoint("DELETE", f"{_GROUPS}/{{group}}", groups.delete, "ResourceGroups_Delete", statuses=(202,),
             action=f"{_RESOURCES}/resourceGroups/delete"),
    Endpoint("GET", _GROUPS, groups.list_in_subscription, "ResourceGroups_List", answer="ResourceGroupList",
             query=_PAGED, action=f"{_RESOURCES}/resourceGroups/read"),
    Endpoint("GET", f"{_ARM}/operationresults/{{operation}}", groups.get_result, "SubscriptionOperations_Get",
             statuses=(200, 202), action=f"{_RESOURCES}/operationresults/read"),
    Endpoint("GET", f"{_ARM}/providers", providers.list_providers, "Providers_List", answer="ProviderList",
             action=f"{_RESOURCES}/providers/read"),
    Endpoint("GET", f"{_ARM}/providers/{{namespace}}", providers.get_provider, "Providers_Get", answer="Provider",
             action=f"{_RESOURCES}/providers/read"),
    Endpoint("POST", f"{_ARM}/providers/{{namespace}}/register", providers.register, "Providers_Register",
             answer="Provider", action="Microsoft.BatchAI/register/action"),
    Endpoint("POST", f"{_ARM}/providers/{{namespace}}/unregister", providers.unregister, "Providers_Unregister",
             answer="Provider", action="Microsoft.BatchAI/unregister/action"),
    Endpoint("POST", f"{_ARM}/providers/Microsoft.Storage/checkNameAvailability", storage.check_name,
             "StorageAccounts_CheckNameAvailability", "CheckName", "CheckNameResult",
             action="Microsoft.Storage/checknameavailability/read"),
    Endpoint("GET", f"{_ARM}/providers/Microsoft.Storage/storageAccounts", storage.list_in_subscription,
             "StorageAccounts_List", answer="StorageAccountList", query=_PAGED, action=f"{_STORAGE}/read"),
    Endpoint("GET", _ACCOUNTS, storage.list_in_group, "StorageAccounts_ListByResourceGroup",
             answer="StorageAccountList", query=_PAGED, action=f"{_STORAGE}/read"),
    Endpoint("PUT", _ACCOUNT, storage.create, "StorageAccounts_Create", "StorageAccountCreate", "StorageAccount",
             action=f"{_STORAGE}/write"),
    Endpoint("GET", _ACCOUNT, storage.get, "StorageAccounts_GetProperties", answer="StorageAccount",
             action=f"{_STORAGE}/read"),
    Endpoint("DELETE", _ACCOUNT, storage.delete, "StorageAccounts_Delete", statuses=(200, 204),
             action=f"{_STORAGE}/delete"),
    Endpoint("POST", f"{_ACCOUNT}/listKeys", storage.list_keys, "StorageAccounts_ListKeys", answer="StorageKeys",
             action=f"{_STORAGE}/listKeys/action"),
    Endpoint("POST", f"{_ACCOUNT}/regenerateKey", storage.regenerate_key, "StorageAccounts_RegenerateKey",
             "RegenerateKey", "StorageKeys", action=f"{_STORAGE}/regenerateKey/action"),
    Endpoint("GET", _FILE, downloads.get_file, "Files_Get", statuses=(200, 206), query=("se", "sp", "sig"),
             answer_type=_OCTETS),
    Endpoint("GET", "/healthz", probes.health, "Probes_Health"),
    Endpoint("GET", "/readyz", probes.readiness, "Probes_Readiness"),
)  # fmt: skip
