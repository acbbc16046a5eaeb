"""Bad inputs: each gets the right status and code and a message that names the field and the way out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.api.service import (
    ACCOUNTS,
    CLUSTER,
    EXPERIMENT,
    GROUP,
    JOB,
    NEW,
    OLD,
    PROVIDER,
    SUB,
    WS,
    Service,
    cluster_body,
    file_server_body,
    job_body,
)

pytestmark = pytest.mark.slow

BIG = b'{"location":"' + b"x" * (5 << 20) + b'"}'
AUTO = {"minimumNodeCount": 0, "maximumNodeCount": 2}
SNAPSHOT = "0" * 64


@dataclass(frozen=True)
class Bad:
    """A request, and what its answer must say. ``words``: all must be in the message."""

    method: str
    path: str
    status: int
    code: str
    words: tuple[str, ...]
    body: Any = None
    target: str | None = None
    version: str | None = OLD
    token: str | None = "right"
    headers: dict[str, str] = field(default_factory=dict)
    query: dict[str, Any] = field(default_factory=dict)


def bad_job(words: tuple[str, ...], target: str, **properties: Any) -> Bad:
    return Bad("PUT", JOB, 400, "InvalidPropertyValue", words, job_body(**properties), target)


def bad_cluster(words: tuple[str, ...], target: str, **properties: Any) -> Bad:
    return Bad("PUT", f"{WS}/clusters/new", 400, "InvalidPropertyValue", words, cluster_body(**properties), target)


CASES: dict[str, Bad] = {
    # Who asks, and for which version.
    "no token": Bad("GET", WS, 401, "AuthenticationFailed", ("bearer", "admin.token"), token=None),
    "wrong token": Bad("GET", WS, 401, "AuthenticationFailed", ("not valid", "admin.token"), token="wrong"),
    "other scheme": Bad("GET", WS, 401, "AuthenticationFailed", ("Bearer",), headers={"Authorization": "Basic eDp5"}),
    "no version": Bad("GET", WS, 400, "MissingApiVersionParameter", ("api-version", OLD, NEW), version=None),
    "unknown version": Bad(
        "GET", WS, 400, "InvalidApiVersionParameter", ("2018-03-01", OLD, NEW), version="2018-03-01"
    ),
    "newer route, older version": Bad("GET", f"{JOB}/events", 400, "InvalidApiVersionParameter", (NEW,)),
    "unknown path": Bad("GET", f"{WS}/gadgets", 404, "InvalidResourceType", ("gadgets", "/openapi.json")),
    "wrong method": Bad("POST", WS, 405, "MethodNotAllowed", ("POST", "PUT", "PATCH")),
    # Bodies as such.
    "malformed JSON": Bad("PUT", JOB, 400, "InvalidRequestContent", ("JSON",), b'{"properties": {'),
    "not an object": Bad("PUT", JOB, 400, "InvalidRequestContent", ("object",), b"[1, 2]"),
    "NaN": Bad("PUT", JOB, 400, "InvalidRequestContent", ("NaN",), b'{"properties": {"nodeCount": NaN}}'),
    "not UTF-8": Bad("PUT", WS, 400, "InvalidRequestContent", ("UTF-8",), b'{"location": "\xff\xfe"}'),
    "deep nesting": Bad("PUT", JOB, 400, "InvalidRequestContent", ("JSON",), b"[" * 200_000),
    "no body": Bad("PUT", JOB, 400, "InvalidRequestContent", ("Properties", "required")),
    "too large": Bad("PUT", WS, 413, "RequestEntityTooLarge", ("4,194,304", "limit"), BIG),
    "wrong media type": Bad(
        "PUT", WS, 415, "UnsupportedMediaType", ("text/plain", "application/json"), b"{}",
        headers={"Content-Type": "text/plain"},
    ),
    "wrong charset": Bad(
        "PUT", WS, 415, "UnsupportedMediaType", ("utf-16", "utf-8"), b"{}",
        headers={"Content-Type": "application/json; charset=utf-16"},
    ),
    # Names.
    "workspace name": Bad(
        "PUT", f"{PROVIDER}/workspaces/a b", 400, "InvalidResourceName", ("a b", "64"), {"location": "l"}
    ),
    "long name": Bad("PUT", f"{EXPERIMENT}/jobs/{'n' * 65}", 400, "InvalidResourceName", ("64",), job_body()),
    "name with letters beyond ASCII": Bad("PUT", f"{WS}/experiments/größe", 400, "InvalidResourceName", ("A-Z",)),
    "group name": Bad(
        "PUT", "/subscriptions/s/resourceGroups/dot./providers/Microsoft.BatchAI/workspaces/w", 400,
        "InvalidResourceName", ("dot.", "90"), {"location": "local"},
    ),
    # Workspaces.
    "no location": Bad("PUT", f"{PROVIDER}/workspaces/n", 400, "InvalidRequestContent", ("Location",), {}),
    "other location": Bad("PUT", WS, 409, "Conflict", ("location", "local", "another name"), {"location": "moon"}),
    "tags not strings": Bad(
        "PUT", f"{PROVIDER}/workspaces/n", 400, "InvalidPropertyValue", ("Tags",),
        {"location": "local", "tags": {"a": 1}},
    ),
    # Clusters.
    "unknown VM size": bad_cluster(("STANDARD_X99", "VMSize"), "properties.vmSize", vmSize="Standard_X99"),
    "both scales": bad_cluster(
        ("manual", "autoScale"), "properties.scaleSettings",
        scaleSettings={"manual": {"targetNodeCount": 1}, "autoScale": AUTO},
    ),
    "no scale": bad_cluster(("manual", "autoScale"), "properties.scaleSettings", scaleSettings={}),
    "negative target": bad_cluster(
        ("TargetNodeCount", "0", "100"), "properties.scaleSettings.manual.targetNodeCount",
        scaleSettings={"manual": {"targetNodeCount": -1}},
    ),
    "too many nodes": bad_cluster(
        ("TargetNodeCount", "100"), "properties.scaleSettings.manual.targetNodeCount",
        scaleSettings={"manual": {"targetNodeCount": 101}},
    ),
    "minimum above maximum": bad_cluster(
        ("inimumNodeCount",), "properties.scaleSettings.autoScale.minimumNodeCount",
        scaleSettings={"autoScale": {"minimumNodeCount": 3, "maximumNodeCount": 2}},
    ),
        "priority enum": bad_cluster(("VMPriority", "dedicated", "lowpriority"),
        "properties.vmPriority", vmPriority="spot"),
    "user admin": bad_cluster(
        ("admin",), "properties.userAccountSettings.adminUserName",
        userAccountSettings={"adminUserName": "admin", "adminUserPassword": "x"},
    ),
    "no password, no key": bad_cluster(
        ("assword",), "properties.userAccountSettings", userAccountSettings={"adminUserName": "trainer"}
    ),
    "another VM size for an existing cluster": Bad(
        "PUT", CLUSTER, 409, "Conflict", ("properties.vmSize", "scaleSettings"), cluster_body(vmSize="STANDARD_D2"),
        "properties.vmSize",
    ),
    "PATCH with both scales": Bad(
        "PATCH", CLUSTER, 400, "InvalidPropertyValue", ("manual", "autoScale"),
        {"properties": {"scaleSettings": {"manual": {"targetNodeCount": 1}, "autoScale": AUTO}}},
    ),
    # Jobs.
    "no nodes": bad_job(("NodeCount", "1", "100"), "properties.nodeCount", nodeCount=0),
    "node count in quotes": bad_job(("NodeCount", "quotes"), "properties.nodeCount", nodeCount="2"),
    "node count true": bad_job(("NodeCount", "integer"), "properties.nodeCount", nodeCount=True),
    "node count missing": Bad(
        "PUT", JOB, 400, "InvalidRequestContent", ("NodeCount",), job_body(nodeCount=None), "properties.nodeCount"
    ),
    "no toolkit": bad_job(("customToolkitSettings", "pyTorchSettings"), "properties", customToolkitSettings=None),
    "two toolkits": bad_job(
        ("customToolkitSettings", "customMpiSettings"), "properties", customMpiSettings={"commandLine": "true"}
    ),
    "empty command": bad_job(
        ("CommandLine",), "properties.customToolkitSettings.commandLine", customToolkitSettings={"commandLine": ""}
    ),
    "scheduling priority": bad_job(
        ("SchedulingPriority", "low", "normal", "high"), "properties.schedulingPriority", schedulingPriority="urgent"
    ),
    "not a cluster id": Bad(
        "PUT", JOB, 400, "InvalidPropertyValue", ("Cluster", "clusters/"), job_body(cluster={"id": WS}),
    ),
    "absent cluster": Bad(
        "PUT", JOB, 400, "ClusterNotFound", ("nowhere", "Create the cluster"),
        job_body(cluster={"id": f"{WS}/clusters/nowhere"}), "properties.cluster.id",
    ),
    "duration": bad_job(
        ("7 days", "P7D"), "properties.constraints.maxWallClockTime", constraints={"maxWallClockTime": "7 days"}
    ),
    "reserved variable": bad_job(
        ("AZ_BATCHAI_X",), "properties.environmentVariables[0].name",
        environmentVariables=[{"name": "AZ_BATCHAI_X", "value": "1"}],
    ),
    "variable twice": bad_job(
        ("A",), "properties.environmentVariables[1].name",
        environmentVariables=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
    ),
    "directory id": bad_job(
        ("my-data",), "properties.inputDirectories[0].id", inputDirectories=[{"id": "my-data", "path": "/d"}]
    ),
    "reference to nothing": bad_job(
        ("not a secret's URL", "vault.azure.net"), "properties.secrets[0].valueSecretReference",
        secrets=[{"name": "TOKEN", "valueSecretReference": {"sourceVault": {"id": "/v"}, "secretUrl": "https://v/s"}}],
    ),
    "secret without value": bad_job(
        ("alue",), "properties.secrets[0]", secrets=[{"name": "TOKEN"}]
    ),
    "unknown member, newer version": Bad(
        "PUT", JOB, 400, "InvalidPropertyValue", ("Colour", NEW), job_body(colour=1), "properties.colour",
        version=NEW,
    ),
    "code never sent": Bad(
        "PUT", JOB, 400, "CodeSnapshotNotFound", (SNAPSHOT, "Upload"), job_body(codeSnapshot=SNAPSHOT), version=NEW
    ),
    # Parents that are not there.
    "experiment in no workspace": Bad(
        "PUT", f"{PROVIDER}/workspaces/no/experiments/e", 404, "ParentResourceNotFound",
        ("'no'", "Create the workspace")
    ),
    "cluster in no workspace": Bad(
        "PUT", f"{PROVIDER}/workspaces/no/clusters/c", 404, "ParentResourceNotFound", ("'no'",), cluster_body()
    ),
    "job in no experiment": Bad(
        "PUT", f"{WS}/experiments/no/jobs/j", 404, "ParentResourceNotFound", ("'no'", "Create the experiment"),
        job_body()
    ),
    "job in no workspace": Bad(
        "PUT", f"{PROVIDER}/workspaces/no/experiments/e/jobs/j", 404, "ParentResourceNotFound", ("'no'",), job_body()
    ),
    "absent workspace": Bad(
        "GET", f"{PROVIDER}/workspaces/no", 404, "WorkspaceNotFound", ("The specified workspace no is not found",)
    ),
    "absent cluster, GET": Bad(
        "GET", f"{WS}/clusters/no", 404, "ClusterNotFound", ("The specified cluster no is not found",)
    ),
    "absent experiment": Bad(
        "GET", f"{WS}/experiments/no", 404, "ExperimentNotFound", ("The specified experiment no is not found",)
    ),
    "absent job": Bad("GET", JOB, 404, "JobNotFound", ("The specified job j is not found",)),
    "terminate absent job": Bad("POST", f"{JOB}/terminate", 404, "JobNotFound", ("j",)),
    "absent operation": Bad(
        "GET", "/subscriptions/sub/providers/Microsoft.BatchAI/locations/l/operationresults/x", 404,
        "OperationNotFound", ("x",)
    ),
    # File servers and what names them.
    "file server of nothing": Bad("PUT", f"{WS}/fileServers/f", 400, "InvalidRequestContent", ("Properties",), {}),
    "file server's size": Bad(
        "PUT", f"{WS}/fileServers/f", 400, "InvalidPropertyValue", ("FileServer.Properties.VMSize", "STANDARD_X"),
        file_server_body(vmSize="Standard_X"), "properties.vmSize"
    ),
    "file server's disks": Bad(
        "PUT", f"{WS}/fileServers/f", 400, "InvalidPropertyValue", ("FileServer.Properties.DataDisks.DiskCount",),
        file_server_body(dataDisks={"diskSizeInGB": 10, "diskCount": 0, "storageAccountType": "Standard_LRS"}),
        "properties.dataDisks.diskCount",
    ),
    "file server's addresses": Bad(
        "PUT", f"{WS}/fileServers/f", 400, "InvalidPropertyValue", ("203.0.113.0/24",),
        file_server_body(sshConfiguration={
            "publicIPsToAllow": ["everywhere"], "userAccountSettings": {"adminUserName": "u", "adminUserPassword": "p"}
        }), "properties.sshConfiguration.publicIPsToAllow[0]",
    ),
    "file server in an absent workspace": Bad(
        "PUT", f"{PROVIDER}/workspaces/no/fileServers/f", 404, "ParentResourceNotFound", ("no",), file_server_body()
    ),
    "absent file server": Bad(
        "GET", f"{WS}/fileServers/f", 404, "FileServerNotFound", ("The specified file server f is not found",)
    ),
    "cluster mounts an absent file server": Bad(
        "PUT", f"{WS}/clusters/new", 400, "FileServerNotFound", (f"{WS}/fileservers/no", "Create"),
        cluster_body(nodeSetup={"mountVolumes": {"fileServers": [
            {"fileServer": {"id": f"{WS}/fileservers/no"}, "relativeMountPath": "nfs"}]}}),
        "properties.nodeSetup.mountVolumes.fileServers[0].fileServer.id",
    ),
    "cluster mounts a cluster": Bad(
        "PUT", f"{WS}/clusters/new", 400, "FileServerNotFound", (CLUSTER,),
        cluster_body(nodeSetup={"mountVolumes": {"fileServers": [
            {"fileServer": {"id": CLUSTER}, "relativeMountPath": "nfs"}]}}),
    ),
    "job mounts an absent file server": Bad(
        "PUT", JOB, 400, "FileServerNotFound", (f"{WS}/fileservers/no",),
        job_body(mountVolumes={"fileServers": [
            {"fileServer": {"id": f"{WS}/fileservers/no"}, "relativeMountPath": "nfs"}]}),
        "properties.mountVolumes.fileServers[0].fileServer.id",
    ),
    "job mounts what is no resource": Bad(
        "PUT", JOB, 400, "InvalidPropertyValue", ("/subscriptions/x", "Expected"),
        job_body(mountVolumes={"fileServers": [{"fileServer": {"id": "/subscriptions/x"}, "relativeMountPath": "n"}]}),
        "properties.mountVolumes.fileServers[0].fileServer.id",
    ),
    # Quotas.
    "more nodes than the quota": Bad(
        "PUT", f"{WS}/clusters/new", 409, "ClusterCoreQuotaReached",
        ("Maximum allowed: 600, Current in use: 2, Additional requested: 720", "room for 24 nodes of STANDARD_NC24"),
        cluster_body(vmSize="Standard_NC24", scaleSettings={"manual": {"targetNodeCount": 30}}),
        "properties.scaleSettings",
    ),
    # Resource groups and storage accounts.
    "group of nothing": Bad("PUT", GROUP, 400, "InvalidRequestContent", ("Location",), {}),
    "group's name": Bad("PUT", f"{SUB}/resourceGroups/a.", 400, "InvalidResourceName", ("a.", "90"), {"location": "l"}),
    "group elsewhere": Bad(
        "PUT", GROUP, 409, "InvalidResourceGroupLocation", ("moon", "local"), {"location": "moon"}, "location"
    ),
    "absent group": Bad(
        "GET", f"{SUB}/resourceGroups/no", 404, "ResourceGroupNotFound", ("Resource group 'no' could not be found.",)
    ),
    "absent group's deletion": Bad(
        "DELETE", f"{SUB}/resourceGroups/no", 404, "ResourceGroupNotFound", ("Resource group 'no' could not be found.",)
    ),
    "absent provider": Bad("GET", f"{SUB}/providers/Microsoft.No", 404, "InvalidResourceNamespace", ("Microsoft.No",)),
    "account's name": Bad(
        "PUT", f"{ACCOUNTS}/My-data", 400, "InvalidResourceName", ("3 to 24", "lower-case"), {"location": "local"}
    ),
    "account in an absent group": Bad(
        "PUT", ACCOUNTS.replace("Group/", "No/") + "/mydata", 404, "ResourceGroupNotFound", ("No",),
        {"location": "local"}
    ),
    "absent account": Bad(
        "GET", f"{ACCOUNTS}/mydata", 404, "ResourceNotFound", ("Microsoft.Storage/storageAccounts/mydata",)
    ),
    "keys of an absent account": Bad("POST", f"{ACCOUNTS}/mydata/listKeys", 404, "ResourceNotFound", ("mydata",)),
    "third key": Bad(
        "POST", f"{ACCOUNTS}/mydata/regenerateKey", 400, "InvalidPropertyValue", ("key3",), {"keyName": "key3"}
    ),
    # Parameters of the query.
    "page of nothing": Bad(
        "GET", f"{WS}/clusters", 400, "InvalidPropertyValue", ("maxresults", "1 to 1000"), query={"maxresults": 0}
    ),
    "page too long": Bad(
        "GET", f"{WS}/clusters", 400, "InvalidPropertyValue", ("maxresults", "1000"), query={"maxresults": 1001}
    ),
    "page of words": Bad(
        "GET", f"{WS}/clusters", 400, "InvalidPropertyValue", ("maxresults",), query={"maxresults": "ten"}
    ),
    "skip token": Bad(
        "GET", f"{EXPERIMENT}/jobs", 400, "InvalidPropertyValue", ("$skiptoken", "first page"),
        query={"$skiptoken": "!"}
    ),
    "no output directory id": Bad(
        "POST", f"{JOB}/listOutputFiles", 400, "InvalidPropertyValue", ("outputdirectoryid", "stdouterr")
    ),
    "link expiry": Bad(
        "POST", f"{JOB}/listOutputFiles", 400, "InvalidPropertyValue", ("linkexpiryinminutes", "5 to 600"),
        query={"outputdirectoryid": "stdouterr", "linkexpiryinminutes": 4},
    ),
    "directory upwards": Bad(
        "POST", f"{JOB}/listOutputFiles", 400, "InvalidPropertyValue", ("..", "relative"),
        query={"outputdirectoryid": "stdouterr", "directory": "../.."},
    ),
    # Code.
    "hash": Bad(
        "POST", f"{WS}/code/missing", 400, "InvalidPropertyValue", ("SHA-256", "64"), {"sha256": ["x"]}, version=NEW
    ),
    "blob of other content": Bad(
        "PUT", f"{WS}/code/blobs/{SNAPSHOT}", 400, "InvalidPropertyValue", (SNAPSHOT, "repeat"), b"other", version=NEW
    ),
    "manifest upwards": Bad(
        "PUT", f"{WS}/code/snapshots/{SNAPSHOT}", 400, "InvalidPropertyValue", ("../x", "relative"),
        {"../x": {"sha256": SNAPSHOT, "mode": 420}}, version=NEW,
    ),
    "manifest under another id": Bad(
        "PUT", f"{WS}/code/snapshots/{SNAPSHOT}", 400, "InvalidPropertyValue", (SNAPSHOT, "SHA-256"), {}, version=NEW
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_is_refused_and_changes_nothing(shed: Service, case: Bad) -> None:
    before = shed.dump()
    answer = shed.send(
        case.method, case.path, case.body, version=case.version, token=case.token, headers=case.headers, **case.query
    )
    assert answer.status_code == case.status, answer.text
    error = answer.json()["error"]
    assert error["code"] == case.code
    absent = [word for word in case.words if word not in error["message"]]
    assert not absent, error["message"]
    if case.target is not None:
        assert error["target"] == case.target
    assert shed.dump() == before


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 40


def test_several_problems_are_all_named(shed: Service) -> None:
    answer = shed.send("PUT", JOB, job_body(nodeCount=0, schedulingPriority="urgent"))
    targets = {detail["target"] for detail in answer.json()["error"]["details"]}
    assert targets == {"properties.nodeCount", "properties.schedulingPriority"}


def test_unsupported_vm_size_lists_the_supported_ones(shed: Service) -> None:
    error = shed.send("PUT", f"{WS}/clusters/new", cluster_body(vmSize="BIG")).json()["error"]
    supported = next(detail for detail in error["details"] if detail["code"] == "SupportedVMSizes")
    assert {"STANDARD_D1", "LOCAL"} <= set(supported["message"].split(","))


def test_refused_token_says_how_to_authenticate(shed: Service) -> None:
    answer = shed.send("GET", WS, token="wrong")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.headers["x-ms-failure-cause"] == "gateway"
    assert "request-id" not in answer.headers


def test_wrong_method_lists_the_right_ones(shed: Service) -> None:
    assert shed.send("POST", WS).headers["Allow"] == "DELETE, GET, HEAD, PATCH, PUT"


def test_unexpected_failure_is_answered_without_a_stack_trace(shed: Service) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug with a secret in it")

    shed.make_job()
    object.__setattr__(shed.services, "explain", broken)
    answer = shed.send("GET", JOB, version=NEW)
    assert answer.status_code == 500
    error = answer.json()["error"]
    assert error["code"] == "InternalServerError"
    assert answer.headers["x-ms-request-id"] in error["message"]
    assert "ZeroDivision" not in answer.text and "secret" not in answer.text


def test_a_closed_database_is_a_503_that_says_to_try_again(shed: Service) -> None:
    shed.db.close_sync()
    answer = shed.send("GET", WS)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "ServiceUnavailable")
    assert answer.headers["Retry-After"] == "1"


def test_an_unexpected_failure_is_logged_without_local_values(
    shed: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        password = "pass-" + "in-a-local"
        raise ZeroDivisionError(len(password))

    shed.make_job()
    object.__setattr__(shed.services, "explain", broken)
    answer = shed.send("GET", JOB, version=NEW)
    logged = capsys.readouterr().out
    assert answer.headers["x-ms-request-id"] in logged and "ZeroDivisionError" in logged
    assert "pass-in-a-local" not in logged
