"""Bad bodies: each gets the right code, names the property as code and in words, and says the way out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.resources.bodies import CLUSTER_ID, DELETE, cluster, file_server, job, job_with, share
from trainshed.resources.errors import InvalidResource
from trainshed.resources.parsing import (
    parse_cluster,
    parse_cluster_update,
    parse_file_server,
    parse_job,
    parse_workspace,
    parse_workspace_update,
)

CONTENT = "InvalidRequestContent"
VALUE = "InvalidPropertyValue"
V18 = "2018-05-01"
V26 = "2026-11-01"

Case = tuple[Callable[..., Any], Any, str, str, list[str]]


def _script(**more: Any) -> dict[str, Any]:
    return {"pythonScriptFilePath": "train.py", **more}


JOBS: list[tuple[Any, str, str, list[str]]] = [
    (b"{", CONTENT, "", ["line 1, column 2", '{"properties"']),
    (b'{"properties": }', CONTENT, "", ["column 16"]),
    (b"[]", CONTENT, "", ["a list, not an object"]),
    (b'"text"', CONTENT, "", ["a string, not an object"]),
    (b"null", CONTENT, "", ["null, not an object"]),
    (b"12", CONTENT, "", ["a number, not an object"]),
    (b"\xff\xfe{}", CONTENT, "", ["not UTF-8"]),
    (b'{"properties": NaN}', CONTENT, "", ["NaN is not JSON"]),
    (b"[" * 100_000, CONTENT, "", ["nested too deeply"]),
    (b'{"properties": {"stdOutErrPathPrefix": "a\\u0000b"}}', CONTENT, "", ["NUL character", "Remove it"]),
    (b'{"properties": {"stdOutErrPathPrefix": "\\ud800"}}', CONTENT, "", ["surrogate pair"]),
    (b'{"a":' * 900 + b'"\\u0000"' + b"}" * 900, CONTENT, "", ["NUL character"]),
    (b"", CONTENT, "properties", ["Job.Properties is missing"]),
    ({"properties": None}, CONTENT, "properties", ["Job.Properties is missing"]),
    ({"properties": []}, VALUE, "properties", ["Job.Properties is not an object", "braces"]),
    ({"properties": "x"}, VALUE, "properties", ["Job.Properties is not an object"]),
    (job(cluster=DELETE), CONTENT, "properties.cluster", ["Job.Properties.Cluster", "/clusters/{c}"]),
    (job(nodeCount=DELETE), CONTENT, "properties.nodeCount", ["Job.Properties.NodeCount is missing", "example 1"]),
    (job(nodeCount=None), CONTENT, "properties.nodeCount", ["Job.Properties.NodeCount is missing"]),
    (job(stdOutErrPathPrefix=DELETE), CONTENT, "properties.stdOutErrPathPrefix", ["$AZ_BATCHAI_MOUNT_ROOT/logs"]),
    (job(stdOutErrPathPrefix=""), VALUE, "properties.stdOutErrPathPrefix", ["is empty"]),
    (job(stdOutErrPathPrefix="  "), VALUE, "properties.stdOutErrPathPrefix", ["is empty", "MOUNT_ROOT"]),
    (job(nodeCount="2"), VALUE, "properties.nodeCount", ['"2"', "not an integer", "without quotes"]),
    (job(nodeCount=True), VALUE, "properties.nodeCount", ["true", "not an integer"]),
    (job(nodeCount=1.5), VALUE, "properties.nodeCount", ["1.5", "not an integer"]),
    (job(nodeCount=0), VALUE, "properties.nodeCount", ["from 1 to 100"]),
    (job(nodeCount=-1), VALUE, "properties.nodeCount", ["from 1 to 100"]),
    (job(nodeCount=101), VALUE, "properties.nodeCount", ["from 1 to 100"]),
    (job(nodeCount=10**40), VALUE, "properties.nodeCount", ["from 1 to 100"]),
    (job(schedulingPriority="urgent"), VALUE, "properties.schedulingPriority", ['"urgent"', "low, normal or high"]),
    (job(schedulingPriority=5), VALUE, "properties.schedulingPriority", ["low, normal or high"]),
    (job(cluster__id=""), VALUE, "properties.cluster.id", ["Job.Properties.Cluster.Id", "is empty"]),
    (job(cluster__id="c"), VALUE, "properties.cluster.id", ['"c"', "/subscriptions/{s}", "/clusters/{c}"]),
    (
        job(cluster__id=CLUSTER_ID.replace("clusters", "experiments")),
        VALUE,
        "properties.cluster.id",
        ["(experiment)", "/clusters/{c}"],
    ),
    (job(customToolkitSettings=DELETE), VALUE, "properties", ["exactly one toolkit", "it has none", "cntkSettings"]),
    (
        job(customMpiSettings={"commandLine": "a"}),
        VALUE,
        "properties",
        ["customToolkitSettings and customMpiSettings", "exactly one toolkit"],
    ),
    (job(customToolkitSettings={}), VALUE, "properties.customToolkitSettings.commandLine", ["is empty", "python"]),
    (job(customToolkitSettings__commandLine=" "), VALUE, "properties.customToolkitSettings.commandLine", ["is empty"]),
    (
        job(customToolkitSettings__commandLine="x" * 65_537),
        VALUE,
        "properties.customToolkitSettings.commandLine",
        ["65537 characters", "at most 65536"],
    ),
    (job_with("customMpiSettings", {}), CONTENT, "properties.customMpiSettings.commandLine", ["is missing"]),
    (
        job_with("customMpiSettings", {"commandLine": "a", "processCount": 0}),
        VALUE,
        "properties.customMpiSettings.processCount",
        ["CustomMpiSettings.ProcessCount", "from 1 to 10000"],
    ),
    (job_with("pyTorchSettings", {}), CONTENT, "properties.pyTorchSettings.pythonScriptFilePath", ["is missing"]),
    (
        job_with("pyTorchSettings", _script(communicationBackend="smoke")),
        VALUE,
        "properties.pyTorchSettings.communicationBackend",
        ['"smoke"', "TCP, Gloo, MPI, NCCL"],
    ),
    (
        job_with("tensorFlowSettings", _script(parameterServerCount=3), nodeCount=2),
        VALUE,
        "properties.tensorFlowSettings.parameterServerCount",
        ["nodeCount is 2"],
    ),
    (job_with("cntkSettings", {}), VALUE, "properties.cntkSettings", ["needs configFilePath"]),
    (
        job_with("cntkSettings", {"languageType": "Lisp", "configFilePath": "a"}),
        VALUE,
        "properties.cntkSettings.languageType",
        ["BrainScript or Python"],
    ),
    (
        job_with("cntkSettings", {"languageType": "Python"}),
        VALUE,
        "properties.cntkSettings",
        ["needs pythonScriptFilePath"],
    ),
    (
        job_with("cntkSettings", _script(configFilePath="a")),
        VALUE,
        "properties.cntkSettings.configFilePath",
        ["BrainScript only"],
    ),
    (
        job_with("cntkSettings", {"configFilePath": "a", "pythonInterpreterPath": "p"}),
        VALUE,
        "properties.cntkSettings.pythonInterpreterPath",
        ["Python only"],
    ),
    (job_with("caffeSettings", {}), VALUE, "properties.caffeSettings", ["exactly one", "it has neither"]),
    (
        job_with("caffeSettings", _script(configFilePath="a")),
        VALUE,
        "properties.caffeSettings",
        ["exactly one", "it has both"],
    ),
    (
        job_with("caffeSettings", {"configFilePath": "a", "pythonInterpreterPath": "p"}),
        VALUE,
        "properties.caffeSettings.pythonInterpreterPath",
        ["pythonScriptFilePath only"],
    ),
    (job(jobPreparation={}), CONTENT, "properties.jobPreparation.commandLine", ["is missing"]),
    (job(jobPreparation={"commandLine": ""}), VALUE, "properties.jobPreparation.commandLine", ["is empty"]),
    (job(inputDirectories={}), VALUE, "properties.inputDirectories", ["not a list", "brackets"]),
    (job(inputDirectories=[{}]), CONTENT, "properties.inputDirectories[0].id", ["InputDirectories[0].Id is missing"]),
    (
        job(inputDirectories=[{"id": "A-B", "path": "x"}]),
        VALUE,
        "properties.inputDirectories[0].id",
        ['"A-B"', "letters, digits and '_'"],
    ),
    (
        job(outputDirectories=[{"id": "A", "pathPrefix": "x"}, {"id": "A", "pathPrefix": "y"}]),
        VALUE,
        "properties.outputDirectories[1].id",
        ["occurs twice", "outputDirectories[0]"],
    ),
    (
        job(outputDirectories=[{"id": "stdouterr", "pathPrefix": "x"}]),
        VALUE,
        "properties.outputDirectories[0].id",
        ["reserved", "Choose another"],
    ),
    (
        job(outputDirectories=[{"id": "A", "pathPrefix": "x", "pathSuffix": "../y"}]),
        VALUE,
        "properties.outputDirectories[0].pathSuffix",
        ["without '..'"],
    ),
    (
        job(environmentVariables=[{"name": "1A", "value": "x"}]),
        VALUE,
        "properties.environmentVariables[0].name",
        ['"1A"', "followed by letters"],
    ),
    (
        job(environmentVariables=[{"name": "AZ_BATCHAI_X", "value": "x"}]),
        VALUE,
        "properties.environmentVariables[0].name",
        ["reserved", "Rename"],
    ),
    (job(environmentVariables=[{"name": "A"}]), CONTENT, "properties.environmentVariables[0].value", ["is missing"]),
    (
        job(environmentVariables=[{"name": "A", "value": 1}]),
        VALUE,
        "properties.environmentVariables[0].value",
        ["not a string"],
    ),
    (
        job(environmentVariables=[{"name": "A", "value": ""}], secrets=[{"name": "A", "value": "s3cret"}]),
        VALUE,
        "properties.secrets[0].name",
        ["occurs twice", "environmentVariables[0]"],
    ),
    (
        job(environmentVariables=[{"name": f"A{n}", "value": ""} for n in range(1001)]),
        VALUE,
        "properties.environmentVariables",
        ["1001", "at most 1000"],
    ),
    (job(secrets=[{"name": "A"}]), VALUE, "properties.secrets[0]", ["exactly one of value and valueSecretReference"]),
    (
        job(
            secrets=[
                {"name": "A", "value": "s3cret", "valueSecretReference": {"sourceVault": {"id": "v"}, "secretUrl": "u"}}
            ]
        ),
        VALUE,
        "properties.secrets[0]",
        ["it has both"],
    ),
    (job(secrets=[{"name": "A", "value": ["s3cret"]}]), VALUE, "properties.secrets[0].value", ["is not a string"]),
    (job(secrets=[{"name": "A", "value": ""}]), VALUE, "properties.secrets[0].value", ["is empty"]),
    (
        job(constraints={"maxWallClockTime": "soon"}),
        VALUE,
        "properties.constraints.maxWallClockTime",
        ["'soon' is not a duration", "P7D"],
    ),
    (job(constraints={"maxWallClockTime": "PT0S"}), VALUE, "properties.constraints.maxWallClockTime", ["some time"]),
    (
        job(constraints={"maxWallClockTime": "0:0:0.0000001"}),
        VALUE,
        "properties.constraints.maxWallClockTime",
        ["some time"],
    ),
    (
        job(constraints={"maxWallClockTime": "P" + "9" * 400 + "D"}),
        VALUE,
        "properties.constraints.maxWallClockTime",
        ["the longest is P10675199D"],
    ),
    (job(constraints={"maxWallClockTime": 60}), VALUE, "properties.constraints.maxWallClockTime", ["not a string"]),
    (
        job(mountVolumes={"azureFileShares": [share(relativeMountPath="/abs")]}),
        VALUE,
        "properties.mountVolumes.azureFileShares[0].relativeMountPath",
        ['"/abs"', "relative"],
    ),
    (
        job(mountVolumes={"azureFileShares": [share(relativeMountPath="a/../..")]}),
        VALUE,
        "properties.mountVolumes.azureFileShares[0].relativeMountPath",
        ["without '..'"],
    ),
    (
        job(
            mountVolumes={
                "azureFileShares": [share()],
                "unmanagedFileSystems": [{"mountCommand": "mount x", "relativeMountPath": "./data/"}],
            }
        ),
        VALUE,
        "properties.mountVolumes.unmanagedFileSystems[0].relativeMountPath",
        ["used twice", "azureFileShares[0]"],
    ),
    (
        job(mountVolumes={"azureFileShares": [share(credentials={})]}),
        VALUE,
        "properties.mountVolumes.azureFileShares[0].credentials",
        ["exactly one of accountKey and accountKeySecretReference"],
    ),
    (
        job(mountVolumes={"azureFileShares": [share(credentials="s3cret-key")]}),
        VALUE,
        "properties.mountVolumes.azureFileShares[0].credentials",
        ["is not an object"],
    ),
    (
        job(mountVolumes={"azureFileShares": [share(azureFileUrl="share")]}),
        VALUE,
        "properties.mountVolumes.azureFileShares[0].azureFileUrl",
        ["not the URL of a share", "https://"],
    ),
    (
        job(mountVolumes={"azureFileShares": [share(fileMode="rwx")]}),
        VALUE,
        "properties.mountVolumes.azureFileShares[0].fileMode",
        ["octal mode", "0777"],
    ),
    (
        job(mountVolumes={"fileServers": [{"fileServer": {"id": "nfs"}, "relativeMountPath": "n"}]}),
        VALUE,
        "properties.mountVolumes.fileServers[0].fileServer.id",
        ["not a resource id"],
    ),
    (
        job(mountVolumes={"unmanagedFileSystems": [{"mountCommand": " ", "relativeMountPath": "n"}]}),
        VALUE,
        "properties.mountVolumes.unmanagedFileSystems[0].mountCommand",
        ["is empty"],
    ),
    (job(containerSettings={}), CONTENT, "properties.containerSettings.imageSourceRegistry", ["is missing", "ubuntu"]),
    (
        job(containerSettings={"imageSourceRegistry": {"image": "i"}, "shmSize": "big"}),
        VALUE,
        "properties.containerSettings.shmSize",
        ["512m"],
    ),
    (
        job(containerSettings={"imageSourceRegistry": {"image": "i", "credentials": {"username": "u"}}}),
        VALUE,
        "properties.containerSettings.imageSourceRegistry.credentials",
        ["exactly one of password and passwordSecretReference"],
    ),
]

CLUSTERS: list[tuple[Any, str, str, list[str]]] = [
    (cluster(vmSize=DELETE), CONTENT, "properties.vmSize", ["Cluster.Properties.VMSize is missing"]),
    (cluster(vmSize=3), VALUE, "properties.vmSize", ["not a string"]),
    (
        cluster(vmSize="Standard_X9"),
        VALUE,
        "properties.vmSize",
        ["STANDARD_X9", "not a supported VM size", "additional"],
    ),
    (cluster(vmSize="STANDARD_A0"), VALUE, "properties.vmSize", ["not a supported VM size"]),
    (cluster(vmSize="STANDARD_DS1"), VALUE, "properties.vmSize", ["not a supported VM size"]),
    (cluster(vmPriority="cheap"), VALUE, "properties.vmPriority", ["VMPriority", "dedicated or lowpriority"]),
    (cluster(scaleSettings=DELETE), CONTENT, "properties.scaleSettings", ["is missing", "targetNodeCount"]),
    (cluster(scaleSettings={}), VALUE, "properties.scaleSettings", ["exactly one of manual and autoScale", "neither"]),
    (
        cluster(scaleSettings__autoScale={"minimumNodeCount": 0, "maximumNodeCount": 1}),
        VALUE,
        "properties.scaleSettings",
        ["it has both"],
    ),
    (cluster(scaleSettings__manual={}), CONTENT, "properties.scaleSettings.manual.targetNodeCount", ["example 2"]),
    (
        cluster(scaleSettings__manual__targetNodeCount=-1),
        VALUE,
        "properties.scaleSettings.manual.targetNodeCount",
        ["from 0 to 100"],
    ),
    (
        cluster(scaleSettings__manual__targetNodeCount=101),
        VALUE,
        "properties.scaleSettings.manual.targetNodeCount",
        ["from 0 to 100"],
    ),
    (
        cluster(scaleSettings__manual__nodeDeallocationOption="drop"),
        VALUE,
        "properties.scaleSettings.manual.nodeDeallocationOption",
        ["requeue, terminate or waitforjobcompletion"],
    ),
    (
        cluster(scaleSettings={"autoScale": {"minimumNodeCount": 3, "maximumNodeCount": 2}}),
        VALUE,
        "properties.scaleSettings.autoScale.minimumNodeCount",
        ["greater than maximumNodeCount", "2"],
    ),
    (
        cluster(scaleSettings={"autoScale": {"minimumNodeCount": 1, "maximumNodeCount": 2, "initialNodeCount": 3}}),
        VALUE,
        "properties.scaleSettings.autoScale.initialNodeCount",
        ["minimumNodeCount (1) to maximumNodeCount (2)"],
    ),
    (
        cluster(scaleSettings={"autoScale": {"minimumNodeCount": 2, "maximumNodeCount": 4, "initialNodeCount": 1}}),
        VALUE,
        "properties.scaleSettings.autoScale.initialNodeCount",
        ["minimumNodeCount (2)"],
    ),
    (cluster(userAccountSettings=DELETE), CONTENT, "properties.userAccountSettings", ["is missing", "adminUserName"]),
    (
        cluster(userAccountSettings__adminUserPassword=DELETE),
        VALUE,
        "properties.userAccountSettings",
        ["adminUserPassword or adminUserSshPublicKey"],
    ),
    (
        cluster(userAccountSettings__adminUserName="Admin"),
        VALUE,
        "properties.userAccountSettings.adminUserName",
        ["is taken"],
    ),
    (
        cluster(userAccountSettings__adminUserName="a b"),
        VALUE,
        "properties.userAccountSettings.adminUserName",
        ["1 to 32 characters"],
    ),
    (
        cluster(nodeSetup={"setupTask": {"commandLine": "", "stdOutErrPathPrefix": "p"}}),
        VALUE,
        "properties.nodeSetup.setupTask.commandLine",
        ["is empty"],
    ),
    (
        cluster(nodeSetup={"setupTask": {"commandLine": "true"}}),
        CONTENT,
        "properties.nodeSetup.setupTask.stdOutErrPathPrefix",
        ["is missing"],
    ),
    (
        cluster(nodeSetup={"performanceCountersSettings": {"appInsightsReference": {"component": {"id": "/x"}}}}),
        VALUE,
        "properties.nodeSetup.performanceCountersSettings.appInsightsReference",
        ["instrumentationKey and instrumentationKeySecretReference"],
    ),
    (
        cluster(virtualMachineConfiguration={"imageReference": {"publisher": "p", "offer": "o"}}),
        CONTENT,
        "properties.virtualMachineConfiguration.imageReference.sku",
        ["is missing"],
    ),
    (cluster(subnet={"id": "net"}), VALUE, "properties.subnet.id", ["not a resource id"]),
]

FILE_SERVERS: list[tuple[Any, str, str, list[str]]] = [
    (file_server(dataDisks__diskCount=0), VALUE, "properties.dataDisks.diskCount", ["from 1 to 64"]),
    (
        file_server(dataDisks__storageAccountType="SSD"),
        VALUE,
        "properties.dataDisks.storageAccountType",
        ["Standard_LRS or Premium_LRS"],
    ),
    (
        file_server(dataDisks__cachingType="maybe"),
        VALUE,
        "properties.dataDisks.cachingType",
        ["none, readonly or readwrite"],
    ),
    (
        file_server(sshConfiguration__publicIPsToAllow=["1.2.3.4/8", "nonsense"]),
        VALUE,
        "properties.sshConfiguration.publicIPsToAllow[1]",
        ["an address or a range"],
    ),
    (
        file_server(sshConfiguration__publicIPsToAllow=["*"] * 401),
        VALUE,
        "properties.sshConfiguration.publicIPsToAllow",
        ["401", "at most 400"],
    ),
]

OTHERS: list[tuple[Callable[..., Any], Any, str, str, list[str]]] = [
    (parse_workspace, {}, CONTENT, "location", ["Workspace.Location is missing", '"local"']),
    (parse_workspace, {"location": ""}, VALUE, "location", ["is empty"]),
    (parse_workspace, {"location": "a/b"}, VALUE, "location", ["cannot be a region"]),
    (parse_workspace, {"location": "x", "tags": {"a": 1}}, VALUE, "tags.a", ["not a string"]),
    (parse_workspace, {"location": "x", "tags": []}, VALUE, "tags", ["not an object"]),
    (parse_workspace_update, {"tags": {str(n): "" for n in range(51)}}, VALUE, "tags", ["51", "at most 50"]),
    (parse_cluster_update, {"properties": {"scaleSettings": {}}}, VALUE, "properties.scaleSettings", ["neither"]),
]

CASES: list[Case] = [
    *[(parse_job, *case) for case in JOBS],
    *[(parse_cluster, *case) for case in CLUSTERS],
    *[(parse_file_server, *case) for case in FILE_SERVERS],
    *OTHERS,
]


@pytest.mark.parametrize("version", [V18, V26])
@pytest.mark.parametrize(("parse", "body", "code", "target", "words"), CASES)
def test_bad_bodies_are_refused_with_the_way_out(
    parse: Callable[..., Any], body: Any, code: str, target: str, words: list[str], version: str
) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(InvalidResource) as caught:
        parse(raw, version)
    error = caught.value
    assert (error.code, error.target) == (code, target), error.message
    for word in words:
        assert word in error.message
    assert "s3cret" not in json.dumps(error.to_json()), "a secret's value is never repeated"


def test_there_are_many_cases() -> None:
    assert len(CASES) >= 60


def test_supported_sizes_are_in_the_details() -> None:
    with pytest.raises(InvalidResource) as caught:
        parse_cluster(cluster(vmSize="Standard_X9"), V18)
    [detail] = caught.value.to_json()["details"]
    assert detail["code"] == "SupportedVMSizes"
    assert detail["message"].startswith("STANDARD_A1,STANDARD_A10,")


def test_several_problems_are_all_told() -> None:
    with pytest.raises(InvalidResource) as caught:
        parse_job(job(nodeCount=0, schedulingPriority="urgent"), V18)
    told = caught.value.to_json()
    assert told["target"] == told["details"][0]["target"]
    assert {detail["target"] for detail in told["details"]} == {"properties.nodeCount", "properties.schedulingPriority"}


def test_workers_are_bounded_by_known_gpus() -> None:
    body = job_with("tensorFlowSettings", _script(workerCount=5), nodeCount=2)
    assert parse_job(body, V18).model.properties.tensor_flow_settings
    assert parse_job(body, V18, gpus_per_node=4).model.properties.tensor_flow_settings
    with pytest.raises(InvalidResource, match="at most nodeCount x GPUs of a node, 4"):
        parse_job(body, V18, gpus_per_node=2)


@pytest.mark.parametrize(
    ("member", "settings", "nodes", "most"),
    [
        ("pyTorchSettings", _script(processCount=5), 2, 1),
        ("horovodSettings", _script(processCount=4), 2, 2),
        ("tensorFlowSettings", _script(workerCount=4), 4, 4),
        ("caffe2Settings", _script(), 3, 4),
        ("customToolkitSettings", {"commandLine": "true"}, 2, 4),
    ],
)
def test_gpus_of_each_process_are_bounded_by_known_gpus(
    member: str, settings: dict[str, Any], nodes: int, most: int
) -> None:
    def body(each: int) -> dict[str, Any]:
        made = job(nodeCount=nodes, gpusPerProcess=each)
        del made["properties"]["customToolkitSettings"]
        made["properties"][member] = settings
        return made

    assert parse_job(body(most), V26, gpus_per_node=4).model.properties.gpus_per_process == most
    assert parse_job(body(64), V26).model.properties.gpus_per_process == 64
    with pytest.raises(InvalidResource, match="GpusPerProcess is too large: a node has 4 GPUs"):
        parse_job(body(most + 1), V26, gpus_per_node=4)
    with pytest.raises(InvalidResource, match="has 0 GPUs"):
        parse_job(body(1), V26, gpus_per_node=0)


@pytest.mark.parametrize(
    ("member", "why"),
    [
        ("raySettings", "Ray gives GPUs to its tasks and actors itself"),
        ("lightningSettings", "its Trainer takes the GPU of LOCAL_RANK from all GPUs of the node"),
        ("deepSpeedSettings", "its engine takes the GPU of LOCAL_RANK from all GPUs of the node"),
    ],
)
@pytest.mark.parametrize("gpus", [None, 4])
def test_gpus_of_each_process_where_the_toolkit_hands_them_out(member: str, why: str, gpus: int | None) -> None:
    made = job(gpusPerProcess=1)
    del made["properties"]["customToolkitSettings"]
    made["properties"][member] = _script()
    with pytest.raises(InvalidResource, match=f"GpusPerProcess does not go with {member}: {why}.* Leave it out"):
        parse_job(made, V26, gpus_per_node=gpus)
