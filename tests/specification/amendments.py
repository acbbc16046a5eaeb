"""The specification as the tests use it: ``BatchAI.json`` with every difference from the file written down here.

``BatchAI.json`` is beside this repository in ``shared`` and is never changed. Its schemas leave things out: AutoRest
takes a definition with ``properties`` as an object, rules are told in prose, and the real service differed in places
(rest-contract section 15). The tables below say so once, for requests (``for_requests``) and for answers
(``for_answers``); a test that needs another difference adds a line with its source.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

Schema = dict[str, Any]

SPECIFICATION = Path(__file__).parents[2].parent / "shared" / "reference" / "rest-api-2018-05-01" / "BatchAI.json"
needs_specification = pytest.mark.skipif(
    not SPECIFICATION.exists(), reason="the original's specification (shared/reference/rest-api-2018-05-01) is absent"
)

#: Text of every width, without control characters: NUL can be stored nowhere.
_TEXT = {"type": "string", "pattern": r"^[ -~\u00a1-\u024f]{1,40}\Z"}
_COMMAND = {"type": "string", "pattern": r"^[!-~]([ -~]{0,40}[!-~])?\Z"}
_RELATIVE = {"type": "string", "pattern": r"^[a-z0-9]{1,10}(/[a-z0-9]{1,10})?\Z"}
_COUNT = {"type": "integer", "minimum": 0, "maximum": 100}
_PROCESSES = {"type": "integer", "minimum": 1, "maximum": 10_000}
_DIRECTORY_ID = {"type": "string", "pattern": r"^[A-Z0-9_]{1,20}\Z"}
_VARIABLE = {"type": "string", "pattern": r"^[B-Z][A-Z0-9_]{0,20}\Z"}
#: A name in a path. The backslash-w of the file is ASCII, as its descriptions say (section 5).
NAME = r"^[-A-Za-z0-9_]{1,64}\Z"
_SUBSCRIPTION = r"^[A-Za-z0-9_.-]{1,64}\Z"
_GROUP = r"^[-A-Za-z0-9_.]{0,89}[-A-Za-z0-9_]\Z"
#: By the parameters' names in the original's document and in the service's own.
NAMES_BY_PARAMETER = {
    "subscriptionId": _SUBSCRIPTION,
    "subscription": _SUBSCRIPTION,
    "resourceGroupName": _GROUP,
    "group": _GROUP,
    "location": r"^[-A-Za-z0-9_. ]{1,64}\Z",
}
_ID = {"type": "string", "pattern": r"^/subscriptions/[A-Za-z0-9-]{1,12}/[A-Za-z0-9/_.-]{1,60}\Z"}


def _only(properties: Schema, *required: str) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


#: Rules that the specification tells in prose, and limits of section 5 and 6: definition -> members.
_REQUEST_MEMBERS: dict[str, Schema] = {
    "AutoScaleSettings": dict.fromkeys(("minimumNodeCount", "maximumNodeCount", "initialNodeCount"), _COUNT),
    "ManualScaleSettings": {"targetNodeCount": _COUNT},
    # A size of each kind; "Premium-storage sizes and STANDARD_A0 excluded" (section 6).
    "ClusterBaseProperties": {"vmSize": {"type": "string", "enum": ["STANDARD_D1", "Standard_NC6", "standard_d2_v2"]}},
    "FileServerBaseProperties": {"vmSize": {"type": "string", "enum": ["STANDARD_D1", "Standard_DS2_v2"]}},
    "DataDisks": {
        "diskSizeInGB": {"type": "integer", "minimum": 1, "maximum": 1023},
        "diskCount": {"type": "integer", "minimum": 1, "maximum": 8},
    },
    "SshConfiguration": {
        "publicIPsToAllow": {"type": "array", "maxItems": 5, "items": {"type": "string", "enum": ["1.2.3.4", "*"]}}
    },
    "UserAccountSettings": {
        "adminUserName": {"type": "string", "pattern": r"^[b-z_][a-z0-9_-]{0,30}\Z"},
        "adminUserSshPublicKey": _TEXT,
        "adminUserPassword": _TEXT,
    },
    "ImageReference": dict.fromkeys(("publisher", "offer", "sku", "version", "virtualMachineImageId"), _TEXT),
    "SetupTask": {"commandLine": _COMMAND, "stdOutErrPathPrefix": _TEXT},
    "AppInsightsReference": {"instrumentationKey": _TEXT},
    "JobBaseProperties": {
        "nodeCount": {"type": "integer", "minimum": 1, "maximum": 100},
        "stdOutErrPathPrefix": {
            "type": "string",
            "enum": ["$AZ_BATCHAI_MOUNT_ROOT/logs", "$AZ_BATCHAI_MOUNT_ROOT/$NOWHERE/x", "/mnt/elsewhere"],
        },
        "constraints": {
            "type": "object",
            "properties": {
                "maxWallClockTime": {"type": "string", "pattern": r"^P([1-9][0-9]{0,2}D|T[1-9][0-9]{0,2}[HMS])\Z"}
            },
        },
    },
    "JobPreparation": {"commandLine": _COMMAND},
    "CustomToolkitSettings": {"commandLine": _COMMAND},
    "CustomMpiSettings": {"commandLine": _COMMAND, "processCount": _PROCESSES},
    "PyTorchSettings": {
        "communicationBackend": {"type": "string", "enum": ["TCP", "Gloo", "MPI"]},
        "processCount": _PROCESSES,
        "pythonScriptFilePath": _TEXT,
        "pythonInterpreterPath": _TEXT,
    },
    # At most nodeCount x GPUs workers, at most nodeCount parameter servers (section 6).
    "TensorFlowSettings": {
        "workerCount": {"type": "integer", "minimum": 1, "maximum": 1},
        "parameterServerCount": {"type": "integer", "minimum": 0, "maximum": 1},
        "pythonScriptFilePath": _TEXT,
        "pythonInterpreterPath": _TEXT,
    },
    "Caffe2Settings": {"pythonScriptFilePath": _TEXT, "pythonInterpreterPath": _TEXT},
    "ChainerSettings": {"processCount": _PROCESSES, "pythonScriptFilePath": _TEXT, "pythonInterpreterPath": _TEXT},
    "HorovodSettings": {"processCount": _PROCESSES, "pythonScriptFilePath": _TEXT, "pythonInterpreterPath": _TEXT},
    "ContainerSettings": {"shmSize": {"type": "string", "pattern": r"^[1-9][0-9]{0,3}[bkmg]?\Z"}},
    "ImageSourceRegistry": {"serverUrl": _TEXT, "image": _TEXT},
    "PrivateRegistryCredentials": {"username": _TEXT, "password": _TEXT},
    "InputDirectory": {"id": _DIRECTORY_ID, "path": _TEXT},
    "OutputDirectory": {"id": _DIRECTORY_ID, "pathPrefix": _TEXT, "pathSuffix": _RELATIVE},
    "EnvironmentVariable": {"name": _VARIABLE},
    "EnvironmentVariableWithSecretValue": {"name": _VARIABLE, "value": _TEXT},
    "AzureFileShareReference": {
        "accountName": _TEXT,
        "azureFileUrl": {
            "type": "string",
            "pattern": r"^https://[a-z0-9]{3,10}\.file\.core\.windows\.net/[a-z]{3,8}\Z",
        },
        "relativeMountPath": _RELATIVE,
        "fileMode": {"type": "string", "pattern": r"^0?[0-7]{3}\Z"},
        "directoryMode": {"type": "string", "pattern": r"^0?[0-7]{3}\Z"},
    },
    "AzureBlobFileSystemReference": {
        "accountName": _TEXT,
        "containerName": {"type": "string", "pattern": r"^[a-z0-9]{3,20}\Z"},
        "relativeMountPath": _RELATIVE,
    },
    "FileServerReference": {"relativeMountPath": _RELATIVE, "sourceDirectory": _RELATIVE},
    "UnmanagedFileSystemReference": {"mountCommand": _COMMAND, "relativeMountPath": _RELATIVE},
    "AzureStorageCredentialsInfo": {"accountKey": _TEXT},
    "ResourceId": {"id": _ID},
    "WorkspaceCreateParameters": {"location": {"type": "string", "enum": ["local", "Local", "northeurope"]}},
}
#: Members that are needed although the schema does not say so: "one of the two", "effectively R" (section 6).
_REQUEST_REQUIRED: dict[str, list[str]] = {
    "ClusterBaseProperties": ["vmSize", "userAccountSettings", "scaleSettings"],
    "ClusterCreateParameters": ["properties"],
    "JobCreateParameters": ["properties"],
    "FileServerCreateParameters": ["properties"],
    "UserAccountSettings": ["adminUserName", "adminUserPassword"],
    "AppInsightsReference": ["component", "instrumentationKey"],
    "PrivateRegistryCredentials": ["username", "password"],
    "EnvironmentVariableWithSecretValue": ["name", "value"],
    "AzureStorageCredentialsInfo": ["accountKey"],
    "CustomToolkitSettings": ["commandLine"],
}
#: Definitions that are said anew: their prose has alternatives.
_REQUEST_INSTEAD: dict[str, Schema] = {
    # "exactly one of the two"
    "ScaleSettings": {
        "oneOf": [
            _only({"manual": {"$ref": "#/definitions/ManualScaleSettings"}}, "manual"),
            _only({"autoScale": {"$ref": "#/definitions/AutoScaleSettings"}}, "autoScale"),
        ]
    },
    # configFilePath is BrainScript's, the Python members are Python's.
    "CNTKsettings": {
        "oneOf": [
            _only({"configFilePath": _TEXT, "languageType": {"enum": ["BrainScript"]}, "processCount": _PROCESSES},
                  "configFilePath", "languageType"),
            _only({"pythonScriptFilePath": _TEXT, "pythonInterpreterPath": _TEXT, "languageType": {"enum": ["Python"]},
                   "commandLineArgs": _TEXT}, "pythonScriptFilePath", "languageType"),
        ]
    },
    # configFilePath xor pythonScriptFilePath; the interpreter goes with the script.
    "CaffeSettings": {
        "oneOf": [
            _only({"configFilePath": _TEXT, "commandLineArgs": _TEXT, "processCount": _PROCESSES}, "configFilePath"),
            _only({"pythonScriptFilePath": _TEXT, "pythonInterpreterPath": _TEXT}, "pythonScriptFilePath"),
        ]
    },
}  # fmt: skip

_TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,2}[1-9])?Z$"}
_SEGMENT = {
    "type": "string",
    "pattern": r"^[^/]+/[^/A-Z]+/workspaces/[^/]+/experiments/[^/]+/jobs/[^/]+/[0-9a-f-]{36}$",
}

#: What the real service returned beside or instead of what the schema says (sections 1, 6 and 15).
_ANSWER_MEMBERS: dict[str, Schema] = {
    "JobProperties": {
        "experimentName": {"type": "string"},
        "jobOutputDirectoryPathSegment": _SEGMENT,
        "constraints": _only({"maxWallClockTime": {"type": "string", "pattern": r"^P(?=.)(\d+D)?(T.+)?$"}},
                             "maxWallClockTime"),
    },
    # The prose names pytorch, the enum forgot it.
    "ToolType": {},
    "UserAccountSettings": {"adminUserPassword": False},
    "AzureStorageCredentialsInfo": {"accountKey": False},
    "AppInsightsReference": {"instrumentationKey": False},
    "PrivateRegistryCredentials": {"password": False},
    "EnvironmentVariableWithSecretValue": {"value": False},
    "FileProperties": {"lastModified": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"}},
    "CloudErrorBody": {
        "code": {"type": "string", "pattern": "^[A-Z][A-Za-z]+$"},
        "message": {"type": "string", "minLength": 10},
        "target": {"type": "string", "minLength": 1},
        "details": {"type": "array", "minItems": 1, "items": {"$ref": "#/definitions/CloudErrorBody"}},
    },
}  # fmt: skip
#: Members that every answer has (sections 1 and 6): "always present", defaults that the service fills in.
_ANSWER_REQUIRED: dict[str, list[str]] = {
    "Workspace": ["id", "name", "type", "location", "properties"],
    "Experiment": ["id", "name", "type", "properties"],
    "Cluster": ["id", "name", "type", "properties"],
    "Job": ["id", "name", "type", "properties"],
    "FileServer": ["id", "name", "type", "properties"],
    "WorkspaceProperties": ["creationTime", "provisioningState", "provisioningStateTransitionTime"],
    "ExperimentProperties": ["creationTime", "provisioningState", "provisioningStateTransitionTime"],
    "ClusterProperties": [
        "provisioningState", "allocationState", "creationTime", "allocationStateTransitionTime",
        "provisioningStateTransitionTime", "vmSize", "currentNodeCount", "nodeStateCounts", "vmPriority",
        "scaleSettings", "virtualMachineConfiguration", "userAccountSettings",
    ],
    "NodeStateCounts": [
        "runningNodeCount", "idleNodeCount", "unusableNodeCount", "preparingNodeCount", "leavingNodeCount",
    ],
    "ManualScaleSettings": ["targetNodeCount", "nodeDeallocationOption"],
    "AutoScaleSettings": ["minimumNodeCount", "maximumNodeCount", "initialNodeCount"],
    "ImageReference": ["publisher", "offer", "sku", "version"],
    "AzureFileShareReference": [
        "accountName", "azureFileUrl", "credentials", "relativeMountPath", "fileMode", "directoryMode",
    ],
    "JobProperties": [
        "experimentName", "schedulingPriority", "cluster", "jobOutputDirectoryPathSegment", "nodeCount", "toolType",
        "stdOutErrPathPrefix", "constraints", "creationTime", "provisioningState", "provisioningStateTransitionTime",
        "executionState", "executionStateTransitionTime",
    ],
    "FileServerProperties": [
        "vmSize", "sshConfiguration", "dataDisks", "creationTime", "provisioningState",
        "provisioningStateTransitionTime",
    ],
    "DataDisks": ["diskSizeInGB", "cachingType", "diskCount", "storageAccountType"],
    "RemoteLoginInformation": ["nodeId", "ipAddress", "port"],
    "File": ["name", "fileType"],
    "FileProperties": ["lastModified", "contentLength"],
    "Usage": ["unit", "currentValue", "limit", "name"],
    "UsageName": ["value", "localizedValue"],
    "Operation": ["name", "display", "origin"],
    "BatchAIError": ["code", "message"],
    "CloudError": ["error"],
    "CloudErrorBody": ["code", "message"],
    **{
        f"{list_}Result": ["value"]
        for list_ in (
            "WorkspaceList", "ExperimentList", "ClusterList", "JobList", "FileServerList", "FileList",
            "RemoteLoginInformationList", "ListUsages", "OperationList",
        )
    },
}  # fmt: skip


def specification() -> Schema:
    """The file, without its examples (which are files of their own)."""
    read: Schema = json.loads(SPECIFICATION.read_text())
    for _, operation in operations(read):
        operation.pop("x-ms-examples", None)
    return read


def operations(document: Schema) -> list[tuple[str, Schema]]:
    """Path and operation, with the method in lower case at ``x-method``."""
    found = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            operation["x-method"] = method
            found.append((path, operation))
    return found


def letter() -> Schema:
    """The file's own schemas, as objects: what a body must be by their letter alone."""
    document = specification()
    for definition in document["definitions"].values():
        _make_object(definition)
    return document


def for_requests() -> Schema:
    """Bodies that a client may send. Members that the service sets, and references to vaults, are left out."""
    document = specification()
    for name, definition in document["definitions"].items():
        _make_object(definition)
        members = definition.get("properties", {})
        if name.endswith(("Parameters", "BaseProperties", "Task")):
            for member in [member for member, schema in members.items() if schema.get("readOnly")]:
                del members[member]
        for member in [member for member in members if member.endswith("SecretReference")]:
            del members[member]
        for member, schema in members.items():
            if schema.get("type") == "string" and "enum" not in schema:
                members[member] = {"type": "string", "pattern": r"^[ -~\u00a1-\u024f]{0,40}\Z"}
            elif schema.get("type") == "array":
                schema["maxItems"] = 3
        members |= copy.deepcopy(_REQUEST_MEMBERS.get(name, {}))
        if name in _REQUEST_REQUIRED:
            definition["required"] = _REQUEST_REQUIRED[name]
        if name in _REQUEST_INSTEAD:
            document["definitions"][name] = copy.deepcopy(_REQUEST_INSTEAD[name])
    for name in ("WorkspaceCreateParameters", "WorkspaceUpdateParameters"):
        tags = document["definitions"][name]["properties"]["tags"]
        tags["maxProperties"] = 5
    # Unknown members are ignored: made-up ones would crowd out those that matter.
    for definition in document["definitions"].values():
        _close(definition)
    _narrow_parameters(document)
    return document


def for_answers() -> Schema:
    """Bodies that the service may send: closed objects, so that a member outside the specification is a fault."""
    document = specification()
    definitions = document["definitions"]
    for name, definition in definitions.items():
        definition.setdefault("properties", {}).update(copy.deepcopy(_ANSWER_MEMBERS.get(name, {})))
        if name in _ANSWER_REQUIRED:
            definition["required"] = _ANSWER_REQUIRED[name]
        elif name not in ("KeyVaultSecretReference", "ResourceId"):
            definition.pop("required", None)
    definitions["ToolType"] = {"type": "string", "enum": [*definitions["ToolType"]["enum"], "pytorch"]}
    del definitions["DeallocationOption"]["properties"]
    # allOf with a closed object would refuse the other's members: the envelope becomes the resource's own.
    for definition in definitions.values():
        for part in definition.pop("allOf", []):
            envelope = definitions[part["$ref"].rpartition("/")[2]]["properties"]
            definition["properties"] = {**envelope, **definition["properties"]}
    for definition in definitions.values():
        _make_object(definition)
        _close(definition)
    return document


def _make_object(schema: Schema) -> None:
    """What has properties is an object (AutoRest reads the file so)."""
    if "properties" in schema:
        schema.setdefault("type", "object")
        for member in schema["properties"].values():
            if isinstance(member, dict):
                _make_object(member)


def _close(schema: Schema) -> None:
    if schema.get("type") == "object" and "properties" in schema and "additionalProperties" not in schema:
        schema["additionalProperties"] = False
    if schema.get("format") == "date-time" and "pattern" not in schema:
        schema |= _TIME
    for member in schema.get("properties", {}).values():
        if isinstance(member, dict):
            _close(member)


def _narrow_parameters(document: Schema) -> None:
    """One version, and names of the rarer sort: a walk puts names that exist in the place of most of them."""
    parameters = document["parameters"]
    parameters["ApiVersionParameter"]["enum"] = [document["info"]["version"]]
    # Short pages, so that there are several.
    parameters["MaxResultsParameter"]["enum"] = [1, 2, 1000]
    parameters["OutputDirectoryIdParameter"]["enum"] = ["stdouterr"]
    # "The path to the directory", relative to the output directory (section 9).
    parameters["Directory"]["enum"] = [".", "folder", "./folder//deeper", "no-such"]
    given = [entry for _, operation in operations(document) for entry in operation["parameters"]]
    for parameter in (*parameters.values(), *given):
        if parameter.get("in") == "path":
            parameter["enum"] = ["-", "_", "0", "A-b_9", "n" * 64]
