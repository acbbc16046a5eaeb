"""The original's own Python client, azure-mgmt-batchai 2.0.0 from PyPI, unpatched, against a live service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from azure.mgmt.batchai import BatchAIManagementClient
from azure.mgmt.batchai import models as m
from msrest.authentication import BasicTokenAuthentication
from msrestazure.azure_exceptions import CloudError

from tests.support.live_service import LiveService

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

GROUP = "TeamGroup"
SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
WHERE = (GROUP, "vision")


@pytest.fixture
def sdk(service: LiveService) -> Iterator[BatchAIManagementClient]:
    told = service.told()
    credentials = BasicTokenAuthentication({"access_token": told["token"]})
    yield BatchAIManagementClient(credentials, SUBSCRIPTION, base_url=told["url"])


def cluster_parameters(nodes: int) -> Any:
    return m.ClusterCreateParameters(
        vm_size="Standard_D1",
        scale_settings=m.ScaleSettings(manual=m.ManualScaleSettings(target_node_count=nodes)),
        user_account_settings=m.UserAccountSettings(admin_user_name="tester", admin_user_password="only-for-tests-1"),
    )


def job_parameters(cluster_id: str, command: str, nodes: int = 1, **more: Any) -> Any:
    return m.JobCreateParameters(
        cluster=m.ResourceId(id=cluster_id),
        node_count=nodes,
        custom_toolkit_settings=m.CustomToolkitSettings(command_line=command),
        std_out_err_path_prefix="$AZ_BATCHAI_MOUNT_ROOT/logs",
        **more,
    )


def until(check: Any, what: str, seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (answer := check()):
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.05)
    return answer


def test_the_whole_way_through_the_clients_own_pollers(sdk: Any) -> None:
    workspace = sdk.workspaces.create(GROUP, "vision", "northeurope").result()
    assert (workspace.name, workspace.location, workspace.provisioning_state) == ("vision", "northeurope", "succeeded")
    assert sdk.experiments.create(*WHERE, "digits").result().provisioning_state == "succeeded"

    cluster = sdk.clusters.create(*WHERE, "pair", cluster_parameters(2)).result()
    assert cluster.vm_size == "STANDARD_D1" and cluster.provisioning_state == "succeeded"
    assert cluster.user_account_settings.admin_user_password is None
    until(lambda: sdk.clusters.get(*WHERE, "pair").node_state_counts.idle_node_count == 2, "idle nodes")

    command = "echo hello; cat $AZ_BATCHAI_MPI_HOST_FILE; echo model > $AZ_BATCHAI_OUTPUT_MODEL/weights.txt"
    job = sdk.jobs.create(
        *WHERE,
        "digits",
        "train",
        job_parameters(
            cluster.id,
            command,
            nodes=2,
            output_directories=[
                m.OutputDirectory(id="MODEL", path_prefix="$AZ_BATCHAI_MOUNT_ROOT/models", path_suffix="best")
            ],
            secrets=[m.EnvironmentVariableWithSecretValue(name="KEY", value="hush")],
        ),
    ).result()
    assert job.tool_type == "custom" and job.scheduling_priority == "normal"
    assert [(secret.name, secret.value) for secret in job.secrets] == [("KEY", None)]
    until(lambda: sdk.jobs.get(*WHERE, "digits", "train").execution_state == "succeeded", "the job's success")
    ended = sdk.jobs.get(*WHERE, "digits", "train")
    assert ended.execution_info.exit_code == 0 and not ended.execution_info.errors

    logs = {
        file.name: file
        for file in sdk.jobs.list_output_files(
            *WHERE, "digits", "train", m.JobsListOutputFilesOptions(outputdirectoryid="stdouterr")
        )
    }
    assert {"stdout.txt", "stderr.txt", "execution.log"} <= set(logs)
    whole = httpx.get(logs["stdout.txt"].download_url)
    assert whole.status_code == 200 and whole.text.startswith("hello\n127.")
    assert len(whole.content) == logs["stdout.txt"].content_length
    rest = httpx.get(logs["stdout.txt"].download_url, headers={"Range": "bytes=6-"})
    assert rest.status_code == 206 and rest.content == whole.content[6:]
    beyond = httpx.get(logs["stdout.txt"].download_url, headers={"Range": f"bytes={len(whole.content)}-"})
    assert beyond.status_code == 416
    [model] = sdk.jobs.list_output_files(
        *WHERE, "digits", "train", m.JobsListOutputFilesOptions(outputdirectoryid="MODEL")
    )
    assert httpx.get(model.download_url).text == "model\n"

    sdk.jobs.create(*WHERE, "digits", "endless", job_parameters(cluster.id, "sleep 1000")).result()
    until(lambda: sdk.jobs.get(*WHERE, "digits", "endless").execution_state == "running", "the second job's start")
    sdk.jobs.terminate(*WHERE, "digits", "endless").result()
    stopped = sdk.jobs.get(*WHERE, "digits", "endless")
    assert stopped.execution_state == "failed" and stopped.execution_info.exit_code is None
    assert [error.code for error in stopped.execution_info.errors] == ["JobTerminated"]
    assert {found.name for found in sdk.jobs.list_by_experiment(*WHERE, "digits")} == {"train", "endless"}

    sdk.jobs.delete(*WHERE, "digits", "train").result()
    sdk.clusters.delete(*WHERE, "pair").result()
    sdk.workspaces.delete(*WHERE).result()
    assert list(sdk.workspaces.list()) == []


def test_scaling_listing_and_what_else_the_client_offers(sdk: Any) -> None:
    sdk.workspaces.create(GROUP, "vision", "northeurope").result()
    assert sdk.workspaces.update(*WHERE, tags={"team": "a"}).tags == {"team": "a"}
    sdk.clusters.create(*WHERE, "pair", cluster_parameters(1)).result()
    until(lambda: sdk.clusters.get(*WHERE, "pair").node_state_counts.idle_node_count == 1, "an idle node")
    resized = sdk.clusters.update(
        *WHERE, "pair", scale_settings=m.ScaleSettings(manual=m.ManualScaleSettings(target_node_count=0))
    )
    assert resized.scale_settings.manual.target_node_count == 0
    until(lambda: sdk.clusters.get(*WHERE, "pair").current_node_count == 0, "the end of the node")
    assert list(sdk.clusters.list_remote_login_information(*WHERE, "pair")) == []
    for name in ("a", "b", "c"):
        sdk.experiments.create(*WHERE, name).result()
    pages = sdk.experiments.list_by_workspace(*WHERE, m.ExperimentsListByWorkspaceOptions(max_results=2))
    assert [found.name for found in pages] == ["a", "b", "c"]
    assert [usage.name.value for usage in sdk.usages.list("northeurope")][:2] == [
        "Clusters",
        "Total Cluster Dedicated Regional vCPUs",
    ]
    assert len(list(sdk.operations.list())) == 26
    sdk.experiments.delete(*WHERE, "b").result()
    assert [found.name for found in sdk.experiments.list_by_workspace(*WHERE)] == ["a", "c"]


@pytest.mark.parametrize(
    ("call", "status", "code"),
    [
        (lambda sdk: sdk.workspaces.get(GROUP, "absent"), 404, "WorkspaceNotFound"),
        (lambda sdk: sdk.jobs.get(*WHERE, "absent", "j"), 404, "ExperimentNotFound"),
        (lambda sdk: sdk.clusters.create(*WHERE, "c", cluster_parameters(1)), 404, "ParentResourceNotFound"),
    ],
)
def test_refusals_are_the_clients_own_errors(sdk: Any, call: Any, status: int, code: str) -> None:
    if code == "ExperimentNotFound":
        sdk.workspaces.create(GROUP, "vision", "northeurope").result()
    with pytest.raises(CloudError) as refused:
        call(sdk)
    assert refused.value.status_code == status
    assert refused.value.error.error == code
