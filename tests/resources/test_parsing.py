"""Good bodies: defaults that the service fills in, members that a version ignores or refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.resources.bodies import CLUSTER_ID, cluster, file_server, job, job_with
from trainshed.resources.definition import definition
from trainshed.resources.errors import InvalidResource
from trainshed.resources.parsing import (
    parse_cluster,
    parse_cluster_update,
    parse_experiment,
    parse_file_server,
    parse_job,
    parse_workspace,
    parse_workspace_update,
)
from trainshed.resources.vmsizes import local_sizes

V18 = "2018-05-01"
V26 = "2026-11-01"


def test_defaults_of_a_job() -> None:
    assert definition(parse_job(json.dumps(job()).encode(), V18).model) == {
        "schedulingPriority": "normal",
        "cluster": {"id": CLUSTER_ID},
        "nodeCount": 1,
        "customToolkitSettings": {"commandLine": "true"},
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
        "constraints": {"maxWallClockTime": "P7D"},
    }


def test_defaults_of_a_cluster() -> None:
    body = cluster(vmSize="Standard_d1", scaleSettings={"autoScale": {"minimumNodeCount": 1, "maximumNodeCount": 2}})
    assert definition(parse_cluster(body, V18).model) == {
        "vmSize": "STANDARD_D1",
        "vmPriority": "dedicated",
        "scaleSettings": {
            "autoScale": {
                "minimumNodeCount": 1,
                "maximumNodeCount": 2,
                "initialNodeCount": 0,
                "idleTimeBeforeScaleDown": "PT5M",
            }
        },
        "virtualMachineConfiguration": {
            "imageReference": {
                "publisher": "Canonical",
                "offer": "UbuntuServer",
                "sku": "16.04-LTS",
                "version": "latest",
            }
        },
        "userAccountSettings": {"adminUserName": "trainer"},
    }


def test_default_of_node_deallocation() -> None:
    scale = definition(parse_cluster(cluster(), V18).model)["scaleSettings"]
    assert scale == {"manual": {"targetNodeCount": 1, "nodeDeallocationOption": "requeue"}}


def test_default_of_caching_type() -> None:
    disks = definition(parse_file_server(file_server(), V18).model)["dataDisks"]
    assert disks == {
        "diskSizeInGB": 10,
        "cachingType": "none",
        "diskCount": 2,
        "storageAccountType": "Standard_LRS",
    }


@pytest.mark.parametrize(
    ("member", "settings", "filled"),
    [
        ("customMpiSettings", {"commandLine": "x"}, {"commandLine": "x", "processCount": 3}),
        ("pyTorchSettings", {"pythonScriptFilePath": "x"}, {"pythonScriptFilePath": "x", "processCount": 3}),
        ("horovodSettings", {"pythonScriptFilePath": "x"}, {"pythonScriptFilePath": "x", "processCount": 3}),
        ("chainerSettings", {"pythonScriptFilePath": "x"}, {"pythonScriptFilePath": "x", "processCount": 3}),
        ("caffe2Settings", {"pythonScriptFilePath": "x"}, {"pythonScriptFilePath": "x"}),
        ("caffeSettings", {"configFilePath": "x"}, {"configFilePath": "x", "processCount": 3}),
        (
            "cntkSettings",
            {"pythonScriptFilePath": "x", "processCount": 8},
            {"languageType": "Python", "pythonScriptFilePath": "x", "processCount": 8},
        ),
        (
            "cntkSettings",
            {"configFilePath": "x"},
            {"languageType": "BrainScript", "configFilePath": "x", "processCount": 3},
        ),
        (
            "tensorFlowSettings",
            {"pythonScriptFilePath": "x"},
            {"pythonScriptFilePath": "x", "workerCount": 3, "parameterServerCount": 1},
        ),
    ],
)
def test_counts_default_to_the_nodes(member: str, settings: dict[str, Any], filled: dict[str, Any]) -> None:
    assert definition(parse_job(job_with(member, settings, nodeCount=3), V18).model)[member] == filled


def test_a_tensorflow_job_of_one_node_has_no_parameter_server() -> None:
    parsed = parse_job(job_with("tensorFlowSettings", {"pythonScriptFilePath": "x"}), V18)
    assert definition(parsed.model)["tensorFlowSettings"] == {"pythonScriptFilePath": "x", "workerCount": 1}


def test_choices_are_read_in_any_case_and_returned_in_the_contracts() -> None:
    parsed = parse_job(job(schedulingPriority="HIGH"), V18)
    assert parsed.model.properties.scheduling_priority == "high"


def test_a_backend_is_returned_as_written() -> None:
    body = job_with("pyTorchSettings", {"pythonScriptFilePath": "x", "communicationBackend": "gLoO"})
    assert definition(parse_job(body, V18).model)["pyTorchSettings"]["communicationBackend"] == "gLoO"


def test_a_duration_becomes_canonical() -> None:
    body = job(constraints={"maxWallClockTime": "1.12:00:00"})
    assert definition(parse_job(body, V18).model)["constraints"] == {"maxWallClockTime": "P1DT12H"}


def test_the_clusters_id_becomes_canonical() -> None:
    mixed = "/SUBSCRIPTIONS/s/resourcegroups/Group/providers/microsoft.batchai/workspace/w/Clusters/C"
    parsed = parse_job(job(cluster__id=mixed), V18)
    assert parsed.model.properties.cluster.id == (
        "/subscriptions/s/resourceGroups/group/providers/Microsoft.BatchAI/workspaces/w/clusters/C"
    )


def test_engine_sizes_are_accepted_in_any_case() -> None:
    parsed = parse_cluster(cluster(vmSize="local"), V18, extra_sizes=local_sizes(2, 4096, 0))
    assert parsed.model.properties.vm_size == "LOCAL"


def test_the_old_version_ignores_and_names_unknown_members() -> None:
    body = job(foo=1, outputDirectories=[{"id": "A", "pathPrefix": "x", "createNew": True}]) | {"location": "here"}
    assert set(parse_job(body, V18).ignored) == {
        "location",
        "properties.foo",
        "properties.outputDirectories[0].createNew",
    }


def test_the_new_version_refuses_unknown_members() -> None:
    with pytest.raises(InvalidResource) as caught:
        parse_job(job(foo=1), V26)
    assert (caught.value.code, caught.value.target) == ("InvalidPropertyValue", "properties.foo")
    assert "2026-11-01" in caught.value.message


@pytest.mark.parametrize("version", [V18, V26])
def test_read_only_members_are_ignored_without_a_word(version: str) -> None:
    body = job(toolType="custom", provisioningState="succeeded", executionInfo={"exitCode": 1})
    body |= {"id": "i", "name": "n", "type": "t"}
    parsed = parse_job(body, version)
    assert parsed.ignored == ()
    assert "toolType" not in definition(parsed.model)


def test_the_code_snapshot_is_of_the_new_version_only() -> None:
    body = job(codeSnapshot="0" * 64)
    assert parse_job(body, V26).model.properties.code_snapshot == "0" * 64
    old = parse_job(body, V18)
    assert old.model.properties.code_snapshot is None
    assert old.ignored == ("properties.codeSnapshot",)


def test_attribute_names_are_not_members() -> None:
    with pytest.raises(InvalidResource) as caught:
        parse_job({"properties": {**job()["properties"], "nodeCount": None, "node_count": 2}}, V18)
    assert caught.value.target == "properties.nodeCount"


@pytest.mark.parametrize("body", [None, b"", b"{}", b'{"properties": {}}', {"properties": {"creationTime": "x"}}])
def test_an_experiment_needs_no_body(body: Any) -> None:
    assert parse_experiment(body, V26).ignored == ()


def test_bodies_of_workspaces() -> None:
    parsed = parse_workspace(b'{"location": "northeurope", "tags": {"a": "b"}}', V18)
    assert (parsed.model.location, parsed.model.tags) == ("northeurope", {"a": "b"})
    assert parse_workspace_update(b'{"tags": {"a": "c"}}', V18).model.tags == {"a": "c"}


def test_an_update_of_a_cluster_may_be_empty() -> None:
    assert parse_cluster_update(b"{}", V18).model.properties is None


def test_initial_nodes_of_zero_go_with_any_minimum() -> None:
    scale = {"autoScale": {"minimumNodeCount": 2, "maximumNodeCount": 4, "initialNodeCount": 0}}
    assert parse_cluster(cluster(scaleSettings=scale), V18).model.properties.scale_settings.auto_scale
