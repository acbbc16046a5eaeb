"""The models against the original's specification: every property is there, required ones are required."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainshed.resources import cluster, common, fileserver, images, job, mounts, settings, workspace
from trainshed.resources.operations import operations
from trainshed.resources.parsing import parse_cluster, parse_file_server, parse_job
from trainshed.resources.quotas import Limits, default_limits
from trainshed.resources.usage import usage_rows

REST = Path(__file__).parents[3] / "shared" / "reference" / "rest-api-2018-05-01"
MODELS: dict[str, type[common.Model]] = {
    "WorkspaceCreateParameters": workspace.WorkspaceCreate,
    "WorkspaceUpdateParameters": workspace.WorkspaceUpdate,
    "ClusterBaseProperties": cluster.ClusterProperties,
    "ClusterUpdateProperties": cluster.ClusterUpdateProperties,
    "ScaleSettings": cluster.ScaleSettings,
    "ManualScaleSettings": cluster.ManualScaleSettings,
    "AutoScaleSettings": cluster.AutoScaleSettings,
    "ImageReference": cluster.ImageReference,
    "UserAccountSettings": cluster.UserAccountSettings,
    "NodeSetup": cluster.NodeSetup,
    "SetupTask": cluster.SetupTask,
    "AppInsightsReference": cluster.AppInsightsReference,
    "PerformanceCountersSettings": cluster.PerformanceCountersSettings,
    "FileServerBaseProperties": fileserver.FileServerProperties,
    "SshConfiguration": fileserver.SshConfiguration,
    "DataDisks": fileserver.DataDisks,
    "MountVolumes": mounts.MountVolumes,
    "AzureFileShareReference": mounts.AzureFileShare,
    "AzureBlobFileSystemReference": mounts.AzureBlobFileSystem,
    "FileServerReference": mounts.FileServerMount,
    "UnmanagedFileSystemReference": mounts.UnmanagedFileSystem,
    "AzureStorageCredentialsInfo": mounts.AzureStorageCredentials,
    "KeyVaultSecretReference": common.KeyVaultSecretReference,
    "EnvironmentVariable": common.EnvironmentVariable,
    "EnvironmentVariableWithSecretValue": common.SecretVariable,
    "JobBaseProperties": job.JobProperties,
    "ContainerSettings": job.ContainerSettings,
    "ImageSourceRegistry": images.ImageSourceRegistry,
    "PrivateRegistryCredentials": images.PrivateRegistryCredentials,
    "JobPreparation": job.JobPreparation,
    "InputDirectory": job.InputDirectory,
    "OutputDirectory": job.OutputDirectory,
    "CNTKsettings": settings.CntkSettings,
    "PyTorchSettings": settings.PyTorchSettings,
    "TensorFlowSettings": settings.TensorFlowSettings,
    "CaffeSettings": settings.CaffeSettings,
    "Caffe2Settings": settings.Caffe2Settings,
    "ChainerSettings": settings.ChainerSettings,
    "HorovodSettings": settings.HorovodSettings,
    "CustomToolkitSettings": settings.CustomToolkitSettings,
    "CustomMpiSettings": settings.CustomMpiSettings,
}


@pytest.fixture(scope="module")
def specification() -> dict[str, Any]:
    path = REST / "BatchAI.json"
    if not path.exists():
        pytest.skip(f"the original's specification is not at {path}")
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def _example(name: str) -> Any:
    path = REST / "examples" / name
    if not path.exists():
        pytest.skip(f"the original's example is not at {path}")
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", MODELS)
def test_models_have_the_contracts_properties(specification: dict[str, Any], name: str) -> None:
    model = MODELS[name]
    theirs = specification["definitions"][name]
    ours = {field.alias: field for field in model.model_fields.values()}
    writable = {member for member, detail in theirs["properties"].items() if not detail.get("readOnly")}
    assert set(ours) - model.since_2026 == writable
    # scaleSettings is required in effect (section 6 of the contract's notes), exactly one kind in it.
    effectively = {"scaleSettings"} if name == "ClusterBaseProperties" else set()
    required = {member for member, field in ours.items() if field.is_required()}
    assert required == set(theirs.get("required", [])) | effectively


@pytest.mark.parametrize(
    ("example", "parse"),
    [("PutJob.json", parse_job), ("PutCluster.json", parse_cluster), ("PutFileServer.json", parse_file_server)],
)
def test_the_specifications_own_examples_are_accepted(example: str, parse: Any) -> None:
    body = _example(example)["parameters"]["parameters"]
    assert parse(json.dumps(body).encode(), "2018-05-01").ignored == ()


def test_operations_are_the_originals() -> None:
    theirs = _example("ListOperation.json")["responses"]["200"]["body"]["value"]
    assert operations() == [{key: value for key, value in row.items() if value is not None} for row in theirs]


def test_there_are_26_operations() -> None:
    assert len({row["name"] for row in operations()}) == 26


def test_usages_are_the_originals() -> None:
    theirs = _example("ListUsages.json")["responses"]["200"]["body"]["value"]
    assert [row["name"] for row in usage_rows([], Limits(default_limits(1)))] == [row["name"] for row in theirs]
