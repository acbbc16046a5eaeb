"""Schemas of the OpenAPI document: bodies from the resource models, answers from those plus what the service adds."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from trainshed.resources.access import PrincipalCreate, RoleAssignmentCreate, TokenCreate
from trainshed.resources.cluster import AutoScaleSettings, ClusterCreate, ClusterProperties, ClusterUpdate, NodeSetup
from trainshed.resources.experiment import ExperimentCreate
from trainshed.resources.files import File, RemoteLoginInformation
from trainshed.resources.fileserver import FileServerCreate
from trainshed.resources.job import JobCreate, JobProperties
from trainshed.resources.job_array import JobArrayCreate
from trainshed.resources.job_plan import JobPlanCreate
from trainshed.resources.lifecycle import AllocationState, AttemptState, JobState, ProvisioningState
from trainshed.resources.mounts import AzureBlobFileSystem, MountVolumes
from trainshed.resources.operation import OperationStatus
from trainshed.resources.resource_group import ResourceGroupCreate, ResourceGroupUpdate
from trainshed.resources.scheduling_rules import SchedulingRulesCreate
from trainshed.resources.settings import TensorFlowSettings
from trainshed.resources.storage_account import CheckName, RegenerateKey, StorageAccountCreate
from trainshed.resources.usage import Usage
from trainshed.resources.versions import ApiVersion
from trainshed.resources.workspace import WorkspaceCreate, WorkspaceUpdate

Schema = dict[str, Any]

_MODELS = (
    WorkspaceCreate, WorkspaceUpdate, ExperimentCreate, ClusterCreate, ClusterUpdate, FileServerCreate, JobCreate, File,
    RemoteLoginInformation, OperationStatus, Usage, PrincipalCreate, TokenCreate, RoleAssignmentCreate,
    ResourceGroupCreate, ResourceGroupUpdate, StorageAccountCreate, RegenerateKey, CheckName,
    JobPlanCreate, JobArrayCreate, SchedulingRulesCreate,
)  # fmt: skip
#: Models with members that the original contract has not.
_EXTENDED = (
    JobProperties, ClusterProperties, AutoScaleSettings, NodeSetup, TensorFlowSettings, MountVolumes,
    AzureBlobFileSystem,
)  # fmt: skip
#: Marks what came with a version after the original's.
SINCE = "x-since"
_REFERENCES = "#/components/schemas/{model}"

_TEXT: Schema = {"type": "string"}
_WHOLE: Schema = {"type": "integer"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_PLACED: Schema = {"location": _TEXT, "tags": {"type": "object", "additionalProperties": _TEXT}}


def component_schemas() -> dict[str, Schema]:
    """All schemas by name."""
    _, made = models_json_schema([(model, "validation") for model in _MODELS], ref_template=_REFERENCES)
    schemas: dict[str, Schema] = dict(made["$defs"])
    schemas["SetupTask"]["properties"]["stdOutErrPathSuffix"] = _TEXT | {"readOnly": True}
    for model in _EXTENDED:
        members = schemas[model.__name__]["properties"]
        for name in model.since_2026:
            members[name] = _newer(members[name])
    schemas |= _answers()
    for noun in (
        "Workspace", "Experiment", "Cluster", "FileServer", "Job", "File", "RemoteLoginInformation", "Usage", "Attempt",
        "Event", "Node", "VmSize", "Operation", "Principal", "Token", "RoleAssignment", "RoleDefinition", "Audit",
        "Waiting", "Subscription", "Location", "Tenant", "Provider", "ResourceGroup", "StorageAccount",
        "JobArray",
    ):  # fmt: skip
        schemas[f"{noun}List"] = _object(
            {"value": {"type": "array", "items": reference(noun)}, "nextLink": _TEXT}, required=["value"]
        )
    return schemas


def reference(name: str) -> Schema:
    """A reference to a schema of the document."""
    return {"$ref": _REFERENCES.format(model=name)}


def _answers() -> dict[str, Schema]:
    provisioning = {
        "creationTime": _TIME,
        "provisioningState": _enum(ProvisioningState),
        "provisioningStateTransitionTime": _TIME,
    }
    reason = reference("BatchAIError")
    estimated = _object({"earliest": _TIME, "latest": _TIME}, required=["earliest"])
    texts: Schema = {"type": "array", "items": _TEXT}
    node_counts = {f"{state}NodeCount": _WHOLE for state in ("idle", "running", "preparing", "unusable", "leaving")}
    return {
        "ErrorAnswer": _object({"error": reference("Error")}, required=["error"]),
        "Error": _object(
            {
                "code": _TEXT,
                "message": _TEXT,
                "target": _TEXT,
                "details": {"type": "array", "items": reference("Error")},
            },
            required=["code", "message"],
        ),
        "BatchAIError": _object(
            {
                "code": _TEXT,
                "message": _TEXT,
                "details": {"type": "array", "items": _object({"name": _TEXT, "value": _TEXT})},
            },
            required=["code", "message"],
        ),
        "Workspace": _resource(_object(provisioning), _PLACED),
        "Experiment": _resource(_object(provisioning)),
        "FileServer": _resource(
            {
                "allOf": [
                    reference("FileServerProperties"),
                    _object(
                        provisioning
                        | {
                            "mountSettings": _object(
                                {"mountPoint": _TEXT, "fileServerPublicIP": _TEXT, "fileServerInternalIP": _TEXT}
                            )
                        }
                    ),
                ]
            }
        ),
        "Subscription": _object(
            {
                "id": _TEXT,
                "subscriptionId": _TEXT,
                "tenantId": _TEXT,
                "displayName": _TEXT,
                "state": _TEXT,
                "subscriptionPolicies": _object({"spendingLimit": _TEXT}),
                "authorizationSource": _TEXT,
            }
        ),
        "Tenant": _object({"id": _TEXT, "tenantId": _TEXT, "displayName": _TEXT}),
        "Location": _object({"id": _TEXT, "subscriptionId": _TEXT, "name": _TEXT, "displayName": _TEXT}),
        "Provider": _object(
            {
                "id": _TEXT,
                "namespace": _TEXT,
                "registrationPolicy": _TEXT,
                "registrationState": _TEXT,
                "resourceTypes": {"type": "array", "items": {"type": "object"}},
            }
        ),
        "ResourceGroup": _resource(_object({"provisioningState": _TEXT}), _PLACED),
        "StorageAccount": _resource(
            _object(
                {
                    "provisioningState": _TEXT,
                    "creationTime": _TIME,
                    "primaryLocation": _TEXT,
                    "statusOfPrimary": _TEXT,
                    "primaryEndpoints": _object({"blob": _TEXT, "file": _TEXT}),
                    "supportsHttpsTrafficOnly": {"type": "boolean"},
                }
            ),
            {**_PLACED, "sku": _object({"name": _TEXT, "tier": _TEXT}), "kind": _TEXT},
        ),
        "StorageKeys": _object(
            {
                "keys": {
                    "type": "array",
                    "items": _object({"keyName": _TEXT, "value": _TEXT, "permissions": _TEXT}),
                }
            },
            required=["keys"],
        ),
        "CheckNameResult": _object(
            {"nameAvailable": {"type": "boolean"}, "reason": _TEXT, "message": _TEXT}, required=["nameAvailable"]
        ),
        "Cluster": _resource(
            {
                "allOf": [
                    reference("ClusterProperties"),
                    _object(
                        provisioning
                        | {
                            "allocationState": _enum(AllocationState),
                            "allocationStateTransitionTime": _TIME,
                            "errors": {"type": "array", "items": reason},
                            "currentNodeCount": _WHOLE,
                            "nodeStateCounts": _object(node_counts),
                            "nodeReasons": _newer(
                                {
                                    "type": "array",
                                    "items": {"allOf": [reason, _object({"count": _WHOLE, "nodes": texts})]},
                                    "description": "Why nodes cannot take jobs, with count and nodes",
                                }
                            ),
                        }
                    ),
                ]
            }
        ),
        "Job": _resource(
            {
                "allOf": [
                    reference("JobProperties"),
                    _object(
                        provisioning
                        | {
                            "experimentName": _TEXT,
                            "toolType": _TEXT,
                            "jobOutputDirectoryPathSegment": _TEXT,
                            "executionState": _enum(JobState),
                            "executionStateTransitionTime": _TIME,
                            "executionInfo": _object(
                                {
                                    "startTime": _TIME,
                                    "endTime": _TIME,
                                    "exitCode": _WHOLE,
                                    "errors": {"type": "array", "items": reason},
                                }
                            ),
                            "attempt": _newer(_WHOLE | {"description": "How many times it was started"}),
                            "retries": _newer(_WHOLE | {"description": "How many failures its retryPolicy forgave"}),
                            "preemptions": _newer(_WHOLE | {"description": "How often it had to give up its nodes"}),
                            "unmetDependencies": _newer(
                                _WHOLE | {"description": "How many of dependsOn it still waits for"}
                            ),
                            "jobArray": _newer(_object({"name": _TEXT, "index": _WHOLE})),
                            "whyWaiting": _newer(reason),
                            "requeueReason": _newer(reason),
                        }
                    ),
                ]
            }
        ),
        "JobArray": _resource(
            {
                "allOf": [
                    reference("JobArrayProperties"),
                    _object(
                        {
                            "creationTime": _TIME,
                            "jobCount": _WHOLE,
                            "jobCounts": _object(dict.fromkeys((state.value for state in JobState), _WHOLE)),
                        }
                    ),
                ]
            }
        ),
        "Attempt": _object(
            {
                "id": _TEXT,
                "number": _WHOLE,
                "state": _enum(AttemptState),
                "nodes": {"type": "array", "items": _TEXT},
                "startTime": _TIME,
                "endTime": _TIME,
                "exitCode": _WHOLE,
                "container": _object({"image": _TEXT, "digest": _TEXT}),
                "whyWaiting": reason,
                "reason": reason,
            }
        ),
        "Event": _object(
            {
                "sequence": _WHOLE,
                "time": _TIME,
                "kind": _TEXT,
                "event": _TEXT,
                "fromState": _TEXT,
                "toState": _TEXT,
                "reason": reason,
                "details": {"type": "object"},
            }
        ),
        "Log": _object(
            {
                "name": _TEXT,
                "stream": {"type": "string", "enum": ["stdout", "stderr", "service"]},
                "role": _TEXT,
                "index": _WHOLE,
                "rank": _WHOLE,
                "node": _TEXT,
                "nodeId": _TEXT,
                "size": _WHOLE,
                "lastModified": _TIME,
                "times": _TEXT,
                "timesSize": _WHOLE,
            }
        ),
        "LogList": _object(
            {"value": {"type": "array", "items": reference("Log")}, "complete": {"type": "boolean"}},
            required=["value", "complete"],
        ),
        "Node": _object(
            {
                "id": _TEXT,
                "state": {"type": "string", "enum": ["idle", "running", "preparing", "unusable", "leaving"]},
                "stateTransitionTime": _TIME,
                "address": _TEXT,
                "hostName": _TEXT,
                "boot": _WHOLE,
                "sshPort": _WHOLE,
                "attempt": _TEXT,
                "reason": reason,
            }
        ),
        "Waiting": _object(
            {
                "position": _WHOLE,
                **dict.fromkeys(("job", "experiment", "user", "priority"), _TEXT),
                "nodeCount": _WHOLE,
                "queuedTime": _TIME,
                "whyWaiting": reason,
                "estimatedStart": estimated,
            },
            required=["position", "job", "experiment", "priority", "nodeCount", "queuedTime", "whyWaiting"],
        ),
        "JobExplanation": _object(
            {
                "executionState": _enum(JobState),
                "whyWaiting": reason,
                "estimatedStart": estimated,
                "refusedNodes": {
                    "type": "array",
                    "items": _object({"id": _TEXT, "state": _TEXT, "reason": reason}, required=["id", "state"]),
                },
            },
            required=["executionState"],
        ),
        "SchedulingRulesView": _object(
            {
                "properties": {
                    "allOf": [
                        reference("SchedulingRules"),
                        _object({"standing": {"type": "array", "items": reference("Standing")}}),
                    ]
                }
            },
            required=["properties"],
        ),
        "Standing": _object(
            {
                **dict.fromkeys(("scope", "name"), _TEXT),
                **dict.fromkeys(("nodes", "runningJobs"), _WHOLE),
                **{name: {"type": "number"} for name in ("recentNodeHours", "nodeHours", "cost")},
            }
        ),
        "VmSize": _object(
            {"name": _TEXT, "family": _TEXT, "numberOfCores": _WHOLE, "memoryInMB": _WHOLE, "gpus": _WHOLE}
        ),
        "Operation": _object({"name": _TEXT, "display": {"type": "object"}, "origin": _TEXT}),
        "VaultRotation": _object({"keyId": _TEXT, "secrets": _WHOLE}, required=["keyId", "secrets"]),
        "CodeHashes": _object({"sha256": {"type": "array", "items": _TEXT}}, required=["sha256"]),
        "CodeMissing": _object({"missing": {"type": "array", "items": _TEXT}}),
        "CodeBlob": _object({"sha256": _TEXT, "size": _WHOLE}),
        "CodeManifest": {
            "type": "object",
            "additionalProperties": _object({"sha256": _TEXT, "mode": _WHOLE}, required=["sha256", "mode"]),
        },
        "CodeSnapshot": _object({"id": _TEXT, "files": _WHOLE}),
        "FilesTaken": _object({"files": _WHOLE}, required=["files"]),
        "StorageFile": _object({"path": _TEXT, "sha256": _TEXT, "size": _WHOLE}, required=["path", "sha256", "size"]),
        "StorageFilesWanted": _object(
            {
                "files": {
                    "type": "array",
                    "items": _object(
                        {"path": _TEXT, "sha256": _TEXT, "size": _WHOLE, "executable": {"type": "boolean"}},
                        required=["path", "sha256", "size"],
                    ),
                }
            },
            required=["files"],
        ),
        "StorageFilesMissing": _object({"missing": {"type": "array", "items": _TEXT}}, required=["missing"]),
        "StorageFilePaths": _object({"paths": {"type": "array", "items": _TEXT}}, required=["paths"]),
        "StorageFilesRemoved": _object({"removed": _WHOLE}, required=["removed"]),
        "JobPlan": _job_plan(),
        **_access_answers(),
        "Bytes": {"type": "string", "format": "binary"},
    }


def _job_plan() -> Schema:
    variables: Schema = {"type": "array", "items": _object({"name": _TEXT, "value": _TEXT}, required=["name", "value"])}
    logs: Schema = {"stdout": _TEXT, "stderr": _TEXT}
    node = {
        **dict.fromkeys(("index", "cpus", "gpus", "slots"), _WHOLE),
        **dict.fromkeys(("name", "address"), _TEXT),
        "environment": variables,
        "preparation": _object({"commandLine": _TEXT, **logs}),
    }
    process = {
        **dict.fromkeys(("node", "index"), _WHOLE),
        **dict.fromkeys(("role", "commandLine"), _TEXT),
        "environment": variables,
        **logs,
        "essential": {"type": "boolean"},
    }
    rank = {"rank": _WHOLE, "node": _WHOLE, "environment": variables}
    return _object(
        {
            "toolType": _TEXT,
            "apiVersion": _TEXT,
            "mpi": _TEXT,
            "nodes": {"type": "array", "items": _object(node)},
            "processes": {"type": "array", "items": _object(process)},
            "ranks": {"type": "array", "items": _object(rank)},
        },
        required=["toolType", "apiVersion", "nodes", "processes", "ranks"],
    )


def _access_answers() -> dict[str, Schema]:
    grant = _object({"role": _TEXT, "scope": _TEXT}, required=["role", "scope"])
    flag: Schema = {"type": "boolean"}
    texts: Schema = {"type": "array", "items": _TEXT}
    return {
        "Me": _resource(
            _object(
                {
                    "principalId": _TEXT,
                    "kind": _TEXT,
                    "administrator": flag,
                    "roles": {"type": "array", "items": grant},
                    "tokenId": _TEXT,
                    "tokenAllows": grant,
                }
            )
        ),
        "Principal": _resource(
            _object(
                {
                    "principalId": _TEXT,
                    "kind": _TEXT,
                    "displayName": _TEXT,
                    "disabled": flag,
                    "creationTime": _TIME,
                    "issuer": _TEXT,
                    "subject": _TEXT,
                }
            )
        ),
        "Token": _resource(
            _object(
                {
                    "displayName": _TEXT,
                    "state": {"type": "string", "enum": ["active", "expired", "revoked"]},
                    "creationTime": _TIME,
                    "expiryTime": _TIME,
                    "revocationTime": _TIME,
                    "lastUseTime": _TIME,
                    "role": _TEXT,
                    "scope": _TEXT,
                    "token": _TEXT | {"description": "Only in the answer that made it"},
                }
            )
        ),
        "RoleAssignment": _resource(
            _object(
                dict.fromkeys(
                    (
                        "scope",
                        "roleDefinitionId",
                        "roleName",
                        "principalId",
                        "principalName",
                        "principalType",
                        "createdBy",
                        "updatedBy",
                    ),
                    _TEXT,
                )
                | {"createdOn": _TIME, "updatedOn": _TIME}
            )
        ),
        "RoleDefinition": _resource(
            _object(
                {
                    "roleName": _TEXT,
                    "description": _TEXT,
                    "type": _TEXT,
                    "assignableScopes": texts,
                    "permissions": {"type": "array", "items": _object({"actions": texts, "notActions": texts})},
                }
            )
        ),
        "Audit": _object(
            {
                "sequence": _WHOLE,
                "time": _TIME,
                "caller": _TEXT,
                "principalId": _TEXT,
                "tokenId": _TEXT,
                "action": _TEXT,
                "resource": _TEXT,
                "outcome": {"type": "string", "enum": ["accepted", "refused", "failed"]},
                "status": _WHOLE,
                "code": _TEXT,
                "source": _TEXT,
                "requestId": _TEXT,
            },
            required=["sequence", "time", "caller", "action", "resource", "outcome"],
        ),
    }


def _resource(properties: Schema, members: Schema | None = None) -> Schema:
    envelope = {"id": _TEXT, "name": _TEXT, "type": _TEXT, **(members or {}), "properties": properties}
    return _object(envelope, required=["id", "name", "type", "properties"])


def _object(properties: Schema, required: list[str] | None = None) -> Schema:
    made: Schema = {"type": "object", "properties": properties}
    return made | ({"required": required} if required else {})


def _newer(schema: Schema) -> Schema:
    return {**schema, SINCE: ApiVersion.V2026_11_01.value}


def _enum(states: Any) -> Schema:
    return {"type": "string", "enum": [state.value for state in states]}
