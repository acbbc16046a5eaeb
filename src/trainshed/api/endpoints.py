"""Every operation of the API in one table (rest-contract section 2, and what 2026-11-01 adds)."""

from __future__ import annotations

from trainshed.api import (
    clusters,
    code,
    downloads,
    experiments,
    fileservers,
    history,
    jobs,
    log_list,
    logins,
    logs,
    operations,
    outputs,
    plans,
    preempting,
    probes,
    usages,
    vault,
    workspaces,
)
from trainshed.api.access_endpoints import ACCESS_ENDPOINTS
from trainshed.api.arm_endpoints import ARM_ENDPOINTS
from trainshed.api.authorization import OPEN, Reach
from trainshed.api.paging import continued
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
_FILE = "/files/{uid}/{directory}/{path:path}"
_PAGED = ("maxresults",)
_CONTINUED = ("$skiptoken", *_PAGED)
_FILES = ("outputdirectoryid", "directory", "linkexpiryinminutes", "maxresults")
_OCTETS = "application/octet-stream"
_DELETED = (202, 204)

# Actions, as the provider names its operations (rest-contract section 12); those beyond it are named alike.
_A_PROVIDER = "Microsoft.BatchAI"
_A_WORKSPACES = f"{_A_PROVIDER}/workspaces"
_A_CLUSTERS = f"{_A_WORKSPACES}/clusters"
_A_SERVERS = f"{_A_WORKSPACES}/fileservers"
_A_EXPERIMENTS = f"{_A_WORKSPACES}/experiments"
_A_JOBS = f"{_A_EXPERIMENTS}/jobs"

ENDPOINTS: tuple[Endpoint, ...] = (
    # Most frequent first: routes are tried in order.
    Endpoint("PUT", _JOB, jobs.create, "Jobs_Create", "JobCreate", "Job", (200, 202), action=f"{_A_JOBS}/write"),
    Endpoint("GET", _JOB, jobs.get, "Jobs_Get", answer="Job", action=f"{_A_JOBS}/read"),
    Endpoint("DELETE", _JOB, jobs.delete, "Jobs_Delete", statuses=_DELETED, action=f"{_A_JOBS}/delete"),
    Endpoint(
        "GET",
        _JOBS,
        jobs.list_in_experiment,
        "Jobs_ListByExperiment",
        answer="JobList",
        query=_PAGED,
        action=f"{_A_JOBS}/read",
    ),
    Endpoint(
        "POST",
        f"{_JOB}/terminate",
        jobs.terminate,
        "Jobs_Terminate",
        statuses=(200, 202),
        action=f"{_A_JOBS}/terminate/action",
    ),
    Endpoint(
        "POST",
        f"{_JOB}/preempt",
        preempting.preempt,
        "Jobs_Preempt",
        answer="Job",
        query=("attempt",),
        newer=True,
        action=f"{_A_JOBS}/preempt/action",
    ),
    Endpoint(
        "POST",
        f"{_JOB}/listOutputFiles",
        outputs.list_output_files,
        "Jobs_ListOutputFiles",
        answer="FileList",
        query=_FILES,
        action=f"{_A_JOBS}/listoutputfiles/action",
        reads=True,
    ),
    Endpoint(
        "POST",
        f"{_JOB}/listRemoteLoginInformation",
        logins.of_job,
        "Jobs_ListRemoteLoginInformation",
        answer="RemoteLoginInformationList",
        query=_PAGED,
        action=f"{_A_JOBS}/remoteLoginInformation/action",
        reads=True,
    ),
    # Lists that POST begins and that some clients go on with by GET.
    Endpoint(
        "GET",
        f"{_JOB}/listOutputFiles",
        continued(outputs.list_output_files),
        "Jobs_ListOutputFilesNext",
        answer="FileList",
        query=("$skiptoken", *_FILES),
        action=f"{_A_JOBS}/listoutputfiles/action",
    ),
    Endpoint(
        "GET",
        f"{_JOB}/listRemoteLoginInformation",
        continued(logins.of_job),
        "Jobs_ListRemoteLoginInformationNext",
        answer="RemoteLoginInformationList",
        query=_CONTINUED,
        action=f"{_A_JOBS}/remoteLoginInformation/action",
    ),
    Endpoint(
        "GET",
        f"{_CLUSTER}/listRemoteLoginInformation",
        continued(logins.of_cluster),
        "Clusters_ListRemoteLoginInformationNext",
        answer="RemoteLoginInformationList",
        query=_CONTINUED,
        action=f"{_A_CLUSTERS}/remoteLoginInformation/action",
    ),
    Endpoint(
        "GET",
        f"{_JOB}/logs",
        log_list.list_logs,
        "Jobs_ListLogs",
        answer="LogList",
        newer=True,
        action=f"{_A_JOBS}/logs/read",
    ),
    Endpoint(
        "GET",
        f"{_JOB}/logs/{{file:path}}",
        logs.get_log,
        "Jobs_GetLog",
        query=("offset", "length", "follow"),
        newer=True,
        answer_type=_OCTETS,
        action=f"{_A_JOBS}/logs/read",
    ),
    Endpoint(
        "GET",
        f"{_JOB}/attempts",
        history.list_attempts,
        "Jobs_ListAttempts",
        answer="AttemptList",
        newer=True,
        action=f"{_A_JOBS}/attempts/read",
    ),
    Endpoint(
        "GET",
        f"{_JOB}/events",
        history.list_job_events,
        "Jobs_ListEvents",
        answer="EventList",
        query=_PAGED,
        newer=True,
        action=f"{_A_JOBS}/events/read",
    ),
    Endpoint(
        "POST",
        f"{_EXPERIMENT}/planJob",
        plans.plan_job,
        "Jobs_Plan",
        "JobPlanCreate",
        "JobPlan",
        newer=True,
        action=f"{_A_JOBS}/plan/action",
        reads=True,
    ),
    Endpoint(
        "GET",
        f"{_LOCATION}/operationresults/{{operation}}",
        operations.get_result,
        "OperationResults_Get",
        answer="OperationStatus",
        action=f"{_A_PROVIDER}/locations/operationresults/read",
        reach=Reach.WITHIN,
    ),
    Endpoint(
        "GET",
        f"{_LOCATION}/operationstatuses/{{operation}}",
        operations.get_status,
        "OperationStatuses_Get",
        answer="OperationStatus",
        statuses=(200, 202),
        action=f"{_A_PROVIDER}/locations/operationstatuses/read",
        reach=Reach.WITHIN,
    ),
    Endpoint(
        "PUT",
        _CLUSTER,
        clusters.create,
        "Clusters_Create",
        "ClusterCreate",
        "Cluster",
        (200, 202),
        action=f"{_A_CLUSTERS}/write",
    ),
    Endpoint(
        "PATCH", _CLUSTER, clusters.update, "Clusters_Update", "ClusterUpdate", "Cluster", action=f"{_A_CLUSTERS}/write"
    ),
    Endpoint("GET", _CLUSTER, clusters.get, "Clusters_Get", answer="Cluster", action=f"{_A_CLUSTERS}/read"),
    Endpoint("DELETE", _CLUSTER, clusters.delete, "Clusters_Delete", statuses=_DELETED, action=f"{_A_CLUSTERS}/delete"),
    Endpoint(
        "GET",
        _CLUSTERS,
        clusters.list_in_workspace,
        "Clusters_ListByWorkspace",
        answer="ClusterList",
        query=_PAGED,
        action=f"{_A_CLUSTERS}/read",
    ),
    Endpoint(
        "POST",
        f"{_CLUSTER}/listRemoteLoginInformation",
        logins.of_cluster,
        "Clusters_ListRemoteLoginInformation",
        answer="RemoteLoginInformationList",
        query=_PAGED,
        action=f"{_A_CLUSTERS}/remoteLoginInformation/action",
        reads=True,
    ),
    Endpoint(
        "GET",
        f"{_CLUSTER}/nodes",
        history.list_nodes,
        "Clusters_ListNodes",
        answer="NodeList",
        newer=True,
        action=f"{_A_CLUSTERS}/nodes/read",
    ),
    Endpoint(
        "GET",
        f"{_CLUSTER}/events",
        history.list_cluster_events,
        "Clusters_ListEvents",
        answer="EventList",
        query=_PAGED,
        newer=True,
        action=f"{_A_CLUSTERS}/events/read",
    ),
    Endpoint(
        "PUT",
        _EXPERIMENT,
        experiments.create,
        "Experiments_Create",
        "ExperimentCreate",
        "Experiment",
        action=f"{_A_EXPERIMENTS}/write",
    ),
    Endpoint(
        "GET", _EXPERIMENT, experiments.get, "Experiments_Get", answer="Experiment", action=f"{_A_EXPERIMENTS}/read"
    ),
    Endpoint(
        "DELETE",
        _EXPERIMENT,
        experiments.delete,
        "Experiments_Delete",
        statuses=_DELETED,
        action=f"{_A_EXPERIMENTS}/delete",
    ),
    Endpoint(
        "GET",
        _EXPERIMENTS,
        experiments.list_in_workspace,
        "Experiments_ListByWorkspace",
        answer="ExperimentList",
        query=_PAGED,
        action=f"{_A_EXPERIMENTS}/read",
    ),
    Endpoint(
        "PUT",
        _WS,
        workspaces.create,
        "Workspaces_Create",
        "WorkspaceCreate",
        "Workspace",
        action=f"{_A_WORKSPACES}/write",
    ),
    Endpoint(
        "PATCH",
        _WS,
        workspaces.update,
        "Workspaces_Update",
        "WorkspaceUpdate",
        "Workspace",
        action=f"{_A_WORKSPACES}/write",
    ),
    Endpoint("GET", _WS, workspaces.get, "Workspaces_Get", answer="Workspace", action=f"{_A_WORKSPACES}/read"),
    Endpoint(
        "DELETE", _WS, workspaces.delete, "Workspaces_Delete", statuses=_DELETED, action=f"{_A_WORKSPACES}/delete"
    ),
    Endpoint(
        "GET",
        _GROUP,
        workspaces.list_in_group,
        "Workspaces_ListByResourceGroup",
        answer="WorkspaceList",
        query=_PAGED,
        action=f"{_A_WORKSPACES}/read",
        reach=Reach.WITHIN,
    ),
    Endpoint(
        "GET",
        f"{_SUB}/workspaces",
        workspaces.list_in_subscription,
        "Workspaces_List",
        answer="WorkspaceList",
        query=_PAGED,
        action=f"{_A_WORKSPACES}/read",
        reach=Reach.WITHIN,
    ),
    Endpoint(
        "GET",
        _SERVERS,
        fileservers.list_in_workspace,
        "FileServers_ListByWorkspace",
        answer="FileServerList",
        query=_PAGED,
        action=f"{_A_SERVERS}/read",
    ),
    Endpoint(
        "PUT",
        _SERVER,
        fileservers.create,
        "FileServers_Create",
        "FileServerCreate",
        "FileServer",
        (200, 202),
        action=f"{_A_SERVERS}/write",
    ),
    Endpoint("GET", _SERVER, fileservers.get, "FileServers_Get", answer="FileServer", action=f"{_A_SERVERS}/read"),
    Endpoint(
        "DELETE", _SERVER, fileservers.delete, "FileServers_Delete", statuses=_DELETED, action=f"{_A_SERVERS}/delete"
    ),
    Endpoint(
        "GET",
        f"{_LOCATION}/usages",
        usages.list_usages,
        "Usages_List",
        answer="UsageList",
        action=f"{_A_PROVIDER}/locations/usages/read",
    ),
    Endpoint(
        "GET",
        f"{_LOCATION}/vmSizes",
        usages.list_vm_sizes,
        "VmSizes_List",
        answer="VmSizeList",
        newer=True,
        action=f"{_A_PROVIDER}/locations/vmSizes/read",
        reach=Reach.WITHIN,
    ),
    Endpoint(
        "GET",
        f"{_PROVIDER}/operations",
        operations.list_operations,
        "Operations_List",
        answer="OperationList",
        action=f"{_A_PROVIDER}/operations/read",
        reach=Reach.WITHIN,
    ),
    Endpoint(
        "POST",
        f"{_PROVIDER}/vault/rotate",
        vault.rotate,
        "Vault_Rotate",
        answer="VaultRotation",
        newer=True,
        action="Trainshed.Vault/rotate/action",
    ),
    Endpoint(
        "POST",
        f"{_WS}/code/missing",
        code.list_missing,
        "Code_ListMissing",
        "CodeHashes",
        "CodeMissing",
        newer=True,
        action=f"{_A_WORKSPACES}/code/read",
        reads=True,
    ),
    Endpoint(
        "PUT",
        f"{_WS}/code/blobs/{{sha256}}",
        code.put_blob,
        "Code_PutBlob",
        "Bytes",
        "CodeBlob",
        (200, 201),
        newer=True,
        body_type=_OCTETS,
        action=f"{_A_WORKSPACES}/code/write",
    ),
    Endpoint(
        "PUT",
        f"{_WS}/code/snapshots/{{snapshot}}",
        code.put_snapshot,
        "Code_PutSnapshot",
        "CodeManifest",
        "CodeSnapshot",
        newer=True,
        action=f"{_A_WORKSPACES}/code/write",
    ),
    Endpoint(
        "GET",
        _FILE,
        downloads.get_file,
        "Files_Get",
        statuses=(200, 206),
        query=("se", "sp", "sig"),
        answer_type=_OCTETS,
        action=OPEN,
    ),
    *ARM_ENDPOINTS,
    *ACCESS_ENDPOINTS,
    Endpoint("GET", "/healthz", probes.health, "Probes_Health", action=OPEN),
    Endpoint("GET", "/readyz", probes.readiness, "Probes_Readiness", action=OPEN),
)
