"""The original's own Python client, unpatched, from a workspace to its deletion (issue 2, show 2).

``azure-mgmt-batchai`` 2.0.0 as PyPI has it; only its base URL and token are ours.
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

pytest.importorskip("azure.mgmt.batchai", reason="azure-mgmt-batchai 2.0.0 is not installed")

from azure.mgmt.batchai import BatchAIManagementClient, models
from msrest.authentication import BasicTokenAuthentication
from msrestazure.azure_exceptions import CloudError

from tests.support.live_service import LiveService

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

T = TypeVar("T")

SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
GROUP = "sdkGroup"
PREFIX = "$AZ_BATCHAI_MOUNT_ROOT/logs"
#: Seconds for one long-running operation, and for a job.
PATIENCE = 30.0


@dataclass(frozen=True)
class Sdk:
    """The client, and the calls that every test makes."""

    client: BatchAIManagementClient

    def finished(self, poller: Any) -> Any:
        """The poller's result, with a bound."""
        poller.wait(PATIENCE)
        assert poller.done(), "the operation did not end in time"
        return poller.result()

    def submit(self, workspace: str, name: str, cluster: Any, command: str, nodes: int = 1, **more: Any) -> Any:
        parameters = models.JobCreateParameters(
            cluster=models.ResourceId(id=cluster.id),
            node_count=nodes,
            std_out_err_path_prefix=PREFIX,
            custom_toolkit_settings=models.CustomToolkitSettings(command_line=command),
            **more,
        )
        return self.finished(self.client.jobs.create(GROUP, workspace, "experiment", name, parameters))

    def ended(self, workspace: str, name: str) -> Any:
        def final() -> Any:
            job = self.client.jobs.get(GROUP, workspace, "experiment", name)
            return job if job.execution_state in ("succeeded", "failed") else None

        return until(final, f"the end of {name}")

    def files(self, workspace: str, name: str, output: str = "stdouterr", **more: Any) -> dict[str, Any]:
        options = models.JobsListOutputFilesOptions(outputdirectoryid=output, **more)
        listed = self.client.jobs.list_output_files(GROUP, workspace, "experiment", name, options)
        return {file.name: file for file in listed}


def until(check: Callable[[], T | None], what: str) -> T:
    """The first answer that is not None; fails after PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while (answer := check()) is None:
        assert time.monotonic() < deadline, f"{what} did not come within {PATIENCE:g} s"
        time.sleep(0.05)
    return answer


def client_of(service: LiveService, token: str | None = None) -> BatchAIManagementClient:
    told = service.told()
    credentials = BasicTokenAuthentication({"access_token": token or told["token"]})
    return BatchAIManagementClient(credentials, SUBSCRIPTION, base_url=told["url"])


@pytest.fixture(scope="module")
def sdk(shared_service: LiveService) -> Iterator[Sdk]:
    yield Sdk(client_of(shared_service))


def two_nodes() -> Any:
    return models.ClusterCreateParameters(
        vm_size="Standard_D1",
        user_account_settings=models.UserAccountSettings(
            admin_user_name="tester", admin_user_password="only-for-tests-1"
        ),
        scale_settings=models.ScaleSettings(manual=models.ManualScaleSettings(target_node_count=2)),
    )


def test_from_a_workspace_to_its_deletion(sdk: Sdk) -> None:
    client = sdk.client
    workspace = sdk.finished(client.workspaces.create(GROUP, "whole", "northeurope"))
    assert workspace.id.endswith("/resourceGroups/sdkgroup/providers/Microsoft.BatchAI/workspaces/whole")
    assert (workspace.location, workspace.provisioning_state) == ("northeurope", "succeeded")
    assert client.workspaces.update(GROUP, "whole", tags={"team": "a"}).tags == {"team": "a"}
    experiment = sdk.finished(client.experiments.create(GROUP, "whole", "experiment"))
    assert experiment.provisioning_state == "succeeded"
    cluster = sdk.finished(client.clusters.create(GROUP, "whole", "pair", two_nodes()))
    assert (cluster.vm_size, cluster.user_account_settings.admin_user_password) == ("STANDARD_D1", None)
    until(lambda: _idle(client.clusters.get(GROUP, "whole", "pair"), 2), "two idle nodes")

    command = "echo hello from $(hostname); echo $WHO; echo made > $AZ_BATCHAI_OUTPUT_MODEL/model.txt"
    job = sdk.submit(
        "whole",
        "first",
        cluster,
        command,
        nodes=2,
        environment_variables=[models.EnvironmentVariable(name="WHO", value="an official client")],
        secrets=[models.EnvironmentVariableWithSecretValue(name="KEY", value="hush")],
        output_directories=[
            models.OutputDirectory(id="MODEL", path_prefix="$AZ_BATCHAI_MOUNT_ROOT/models", path_suffix="best")
        ],
        job_preparation=models.JobPreparation(command_line="echo prepared"),
    )
    assert (job.tool_type, job.scheduling_priority, job.node_count) == ("custom", "normal", 2)
    assert [(secret.name, secret.value) for secret in job.secrets] == [("KEY", None)]
    job = sdk.ended("whole", "first")
    assert (job.execution_state, job.execution_info.exit_code, job.execution_info.errors) == ("succeeded", 0, None)

    files = sdk.files("whole", "first")
    assert {"stdout.txt", "stderr.txt", "execution.log"} <= set(files)
    with urllib.request.urlopen(files["stdout.txt"].download_url, timeout=PATIENCE) as answer:
        printed = answer.read()
    assert printed == b"hello from pair-1\nan official client\n"
    assert len(printed) == files["stdout.txt"].content_length
    (model,) = sdk.files("whole", "first", "MODEL").values()
    with urllib.request.urlopen(model.download_url, timeout=PATIENCE) as answer:
        assert (model.name, answer.read()) == ("model.txt", b"made\n")

    sdk.submit("whole", "endless", cluster, "sleep 1000")
    until(lambda: _in_state(client.jobs.get(GROUP, "whole", "experiment", "endless"), "running"), "the second job")
    sdk.finished(client.jobs.terminate(GROUP, "whole", "experiment", "endless"))
    endless = client.jobs.get(GROUP, "whole", "experiment", "endless")
    assert (endless.execution_state, endless.execution_info.exit_code) == ("failed", None)
    assert [error.code for error in endless.execution_info.errors] == ["JobTerminated"]

    listed = client.jobs.list_by_experiment(GROUP, "whole", "experiment")
    assert {found.name for found in listed} == {"first", "endless"}
    sdk.finished(client.jobs.delete(GROUP, "whole", "experiment", "first"))
    sdk.finished(client.clusters.delete(GROUP, "whole", "pair"))
    sdk.finished(client.experiments.delete(GROUP, "whole", "experiment"))
    sdk.finished(client.workspaces.delete(GROUP, "whole"))
    with pytest.raises(CloudError) as gone:
        client.workspaces.get(GROUP, "whole")
    assert gone.value.status_code == 404
    assert "whole" not in {found.name for found in client.workspaces.list()}


def test_a_growing_log_is_followed_by_range(sdk: Sdk, shared_service: LiveService) -> None:
    """As ``az batchai job file stream`` does: the rest is asked for again and again; 416 says that there is none."""
    prepare(sdk, "stream")
    cluster = shared_service.client.clusters.get("c")
    # It goes on when the reader has said that it saw the first line, so that the log grows between two readings.
    gate = shared_service.home.parent / "gate"
    command = f"echo first; while [ ! -e {gate} ]; do sleep 0.05; done; echo second; rm {gate}"
    sdk.submit("stream", "growing", cluster, command)
    log = until(lambda: _with_content(sdk.files("stream", "growing").get("stdout.txt")), "the first line")
    first = ranged(log.download_url, 0)
    assert first == (206, b"first\n")
    assert ranged(log.download_url, len(first[1]))[0] == 416
    gate.touch()
    assert sdk.ended("stream", "growing").execution_state == "succeeded"
    assert ranged(log.download_url, len(first[1])) == (206, b"second\n")


def test_lists_come_in_pages(sdk: Sdk, shared_service: LiveService) -> None:
    """The client follows ``nextLink`` by itself, with POST where the first call was one."""
    prepare(sdk, "paged")
    cluster = shared_service.client.clusters.get("c")
    names = ["a", "b", "c"]
    for name in names:
        sdk.submit("paged", name, cluster, "true")
    listed = sdk.client.jobs.list_by_experiment(
        GROUP, "paged", "experiment", models.JobsListByExperimentOptions(max_results=1)
    )
    listed.advance_page()
    assert [job.name for job in listed.current_page] == ["a"]
    assert listed.next_link is not None
    listed.reset()
    assert [job.name for job in listed] == names
    sdk.ended("paged", "a")
    assert set(sdk.files("paged", "a", max_results=1)) == set(sdk.files("paged", "a"))
    for name in ("f", "g"):
        sdk.finished(sdk.client.experiments.create(GROUP, "paged", name))
    pages = models.ExperimentsListByWorkspaceOptions(max_results=2)
    experiments = sdk.client.experiments.list_by_workspace(GROUP, "paged", pages)
    assert [found.name for found in experiments] == ["experiment", "f", "g"]
    workspaces = sdk.client.workspaces.list_by_resource_group(
        GROUP, models.WorkspacesListByResourceGroupOptions(max_results=1)
    )
    assert "paged" in {workspace.name for workspace in workspaces}


def test_usages_operations_and_logins(sdk: Sdk, shared_service: LiveService) -> None:
    usages = {usage.name.value: usage for usage in sdk.client.usages.list("local")}
    assert usages["Clusters"].current_value >= 1
    assert usages["Standard D Family Cluster Dedicated vCPUs"].current_value == 2
    assert list(usages)[:2] == ["Clusters", "Total Cluster Dedicated Regional vCPUs"]
    operations = {operation.name for operation in sdk.client.operations.list()}
    assert (len(operations), "Microsoft.BatchAI/workspaces/read" in operations) == (26, True)
    (cluster,) = sdk.client.clusters.list_by_workspace("trainshed", "default")
    # Nothing listens for logins on the local engine's nodes yet: a page without entries, and no error.
    assert list(sdk.client.clusters.list_remote_login_information("trainshed", "default", cluster.name)) == []
    prepare(sdk, "logins")
    sdk.submit("logins", "j", cluster, "true", nodes=2)
    assert list(sdk.client.jobs.list_remote_login_information(GROUP, "logins", "experiment", "j")) == []
    sdk.ended("logins", "j")


def test_a_cluster_is_resized(sdk: Sdk) -> None:
    prepare(sdk, "resized")
    sdk.finished(sdk.client.clusters.create(GROUP, "resized", "one", two_nodes()))
    scale = models.ScaleSettings(manual=models.ManualScaleSettings(target_node_count=0))
    answered = sdk.client.clusters.update(GROUP, "resized", "one", scale_settings=scale)
    assert answered.scale_settings.manual.target_node_count == 0

    def empty() -> Any:
        found = sdk.client.clusters.get(GROUP, "resized", "one")
        return found if (found.allocation_state, found.current_node_count) == ("steady", 0) else None

    until(empty, "an empty cluster")
    sdk.finished(sdk.client.workspaces.delete(GROUP, "resized"))


def test_a_failed_job_says_so(sdk: Sdk, shared_service: LiveService) -> None:
    prepare(sdk, "failing")
    cluster = shared_service.client.clusters.get("c")
    sdk.submit("failing", "j", cluster, "exit 7")
    job = sdk.ended("failing", "j")
    assert (job.execution_state, job.execution_info.exit_code) == ("failed", 7)
    assert [error.code for error in job.execution_info.errors] == ["JobFailed"]


BAD_CALLS: list[tuple[str, int, str, Callable[[BatchAIManagementClient], Any]]] = [
    ("an absent workspace", 404, "WorkspaceNotFound", lambda client: client.workspaces.get(GROUP, "absent")),
    ("an absent job", 404, "JobNotFound", lambda client: client.jobs.get(GROUP, "refused", "experiment", "absent")),
    (
        "an absent experiment",
        404,
        "ExperimentNotFound",
        lambda client: client.jobs.get(GROUP, "refused", "absent", "j"),
    ),
    (
        "an absent parent",
        404,
        "ParentResourceNotFound",
        lambda client: client.experiments.create(GROUP, "absent", "experiment"),
    ),
    (
        "an unknown size",
        400,
        "InvalidPropertyValue",
        lambda client: client.clusters.create(
            GROUP,
            "refused",
            "c",
            models.ClusterCreateParameters(
                vm_size="Standard_Abacus",
                user_account_settings=models.UserAccountSettings(admin_user_name="u", admin_user_password="p4ssw0rd-1"),
                scale_settings=models.ScaleSettings(manual=models.ManualScaleSettings(target_node_count=1)),
            ),
        ),
    ),
    (
        "a job without a toolkit",
        400,
        "InvalidPropertyValue",
        lambda client: client.jobs.create(
            GROUP,
            "refused",
            "experiment",
            "j",
            models.JobCreateParameters(
                cluster=models.ResourceId(id=_cluster_id("refused", "c")),
                node_count=1,
                std_out_err_path_prefix=PREFIX,
            ),
        ),
    ),
]


@pytest.mark.parametrize(("status", "code", "call"), [bad[1:] for bad in BAD_CALLS], ids=[bad[0] for bad in BAD_CALLS])
def test_bad_requests_are_cloud_errors(
    sdk: Sdk, status: int, code: str, call: Callable[[BatchAIManagementClient], Any]
) -> None:
    prepare(sdk, "refused")
    with pytest.raises(CloudError) as refused:
        call(sdk.client)
    assert (refused.value.status_code, refused.value.error.error) == (status, code)
    assert refused.value.message


def test_a_wrong_token_is_a_cloud_error(shared_service: LiveService) -> None:
    with pytest.raises(CloudError) as refused:
        client_of(shared_service, token="wrong").workspaces.get(GROUP, "any")
    assert (refused.value.status_code, refused.value.error.error) == (401, "AuthenticationFailed")


def prepare(sdk: Sdk, workspace: str) -> None:
    """A workspace with an experiment ``experiment``."""
    sdk.finished(sdk.client.workspaces.create(GROUP, workspace, "local"))
    sdk.finished(sdk.client.experiments.create(GROUP, workspace, "experiment"))


def ranged(url: str, start: int) -> tuple[int, bytes]:
    """A plain GET from a byte on, without a token: status and body."""
    try:
        asked = urllib.request.Request(url, headers={"Range": f"bytes={start}-"})
        with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, b""


def _idle(cluster: Any, count: int) -> Any:
    return cluster if cluster.node_state_counts.idle_node_count == count else None


def _in_state(job: Any, state: str) -> Any:
    return job if job.execution_state == state else None


def _with_content(file: Any) -> Any:
    return file if file is not None and file.content_length else None


def _cluster_id(workspace: str, name: str) -> str:
    return (
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.BatchAI"
        f"/workspaces/{workspace}/clusters/{name}"
    )
