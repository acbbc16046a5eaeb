"""What each official client must see of a live service: one scenario, told by each client in its own language."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import pytest

from tests.e2e.clients.runs import FAULTS, SUBSCRIPTION, Run

#: Refusals: step, status, code (rest-contract section 4, docs/compatibility.md).
REFUSED = [
    ("wrong token", 401, "AuthenticationFailed"),
    ("workspace moved", 409, "Conflict"),
    ("workspace at no place", 400, "InvalidPropertyValue"),
    ("workspace badly named", 400, "InvalidResourceName"),
    ("workspace after its deletion", 404, "WorkspaceNotFound"),
    ("workspace after the retried deletion", 404, "WorkspaceNotFound"),
    ("absent workspace", 404, "WorkspaceNotFound"),
    ("absent workspace tagged", 404, "WorkspaceNotFound"),
    ("absent experiment", 404, "ExperimentNotFound"),
    ("experiment after its deletion", 404, "ExperimentNotFound"),
    ("experiment in an absent workspace", 404, "ParentResourceNotFound"),
    ("experiments of an absent workspace", 404, "WorkspaceNotFound"),
    ("file server changed", 409, "Conflict"),
    ("file server of unknown size", 400, "InvalidPropertyValue"),
    ("file server without disks", 400, "InvalidPropertyValue"),
    ("file server in use deleted", 409, "FileServerInUse"),
    ("file server after its deletion", 404, "FileServerNotFound"),
    ("absent file server", 404, "FileServerNotFound"),
    ("file server in an absent workspace", 404, "ParentResourceNotFound"),
    ("file servers of an absent workspace", 404, "WorkspaceNotFound"),
    ("cluster changed", 409, "Conflict"),
    ("cluster of unknown size", 400, "InvalidPropertyValue"),
    ("cluster with two scales", 400, "InvalidPropertyValue"),
    ("cluster of too many nodes", 400, "InvalidPropertyValue"),
    ("cluster badly scaled", 400, "InvalidPropertyValue"),
    ("cluster of more cores than the quota", 409, "ClusterCoreQuotaReached"),
    ("cluster scaled beyond the quota", 409, "ClusterCoreQuotaReached"),
    ("cluster beyond the quota", 409, "ClusterQuotaReached"),
    ("cluster after its deletion", 404, "ClusterNotFound"),
    ("cluster after the retried deletion", 404, "ClusterNotFound"),
    ("absent cluster", 404, "ClusterNotFound"),
    ("absent cluster scaled", 404, "ClusterNotFound"),
    ("cluster in an absent workspace", 404, "ParentResourceNotFound"),
    ("clusters of an absent workspace", 404, "WorkspaceNotFound"),
    ("logins of an absent cluster", 404, "ClusterNotFound"),
    ("bad cluster", 404, "ClusterNotFound"),
    ("job changed", 409, "Conflict"),
    ("job without a toolkit", 400, "InvalidPropertyValue"),
    ("job with two toolkits", 400, "InvalidPropertyValue"),
    ("job on no nodes", 400, "InvalidPropertyValue"),
    ("job on an absent cluster", 400, "ClusterNotFound"),
    ("job beyond the quota", 409, "JobNodeCountExceedsCoreQuota"),
    ("job after its deletion", 404, "JobNotFound"),
    ("job after the retried deletion", 404, "JobNotFound"),
    ("job after the workspace's deletion", 404, "WorkspaceNotFound"),
    ("absent job", 404, "JobNotFound"),
    ("absent job terminated", 404, "JobNotFound"),
    ("job in an absent experiment", 404, "ParentResourceNotFound"),
    ("jobs of an absent experiment", 404, "ExperimentNotFound"),
    ("logins of an absent job", 404, "JobNotFound"),
    ("files of an absent job", 404, "JobNotFound"),
    ("files of an unknown directory", 400, "OutputDirectoryNotFound"),
    ("files outside", 400, "InvalidPropertyValue"),
    ("usages of no place", 400, "InvalidResourceName"),
    ("bad job", 404, "JobNotFound"),
]
#: Deletions that end well, of what is there and of what is not.
DELETED = [
    "file server deleted",
    "job deleted",
    "cluster deleted",
    "experiment deleted",
    "workspace deleted with all in it",
    "absent workspace deleted",
    "absent experiment deleted",
    "absent cluster deleted",
    "absent file server deleted",
    "absent job deleted",
]
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ROOT = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/clientgroup/providers/Microsoft.BatchAI/workspaces"


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(300)
class ClientContract:
    """Tests of one client's run; a test file of each client derives from it."""

    client: ClassVar[str]
    script: ClassVar[str]
    #: Steps that this client cannot make.
    without: ClassVar[frozenset[str]] = frozenset()

    def test_every_operation_of_the_client_was_called(self, run: Run) -> None:
        assert len(run.operations) >= 25
        assert set(run.operations) - set(run.called) == set()

    def test_the_client_understood_every_answer(self, run: Run) -> None:
        raised = {
            name: told["raised"] for name, told in run.steps.items() if isinstance(told, dict) and "raised" in told
        }
        assert raised == {}

    @pytest.mark.parametrize(("name", "status", "code"), REFUSED, ids=[name for name, _, _ in REFUSED])
    def test_a_refusal_is_typed(self, run: Run, name: str, status: int, code: str) -> None:
        if name in self.without:
            assert name not in run.steps
            return
        error = run.error(name)
        assert (error["status"], error["code"]) == (status, code)
        assert error["message"]

    @pytest.mark.parametrize("name", DELETED)
    def test_a_deletion_ends_well(self, run: Run, name: str) -> None:
        if name in self.without:
            assert name not in run.steps
            return
        result = run.step(name)
        # A poller of the Node client gives the operation's record.
        assert result is None or result["status"] == "Succeeded"

    def test_workspaces(self, run: Run) -> None:
        created = run.step("workspace created")
        assert created["id"] == f"{_ROOT}/whole"
        assert (created["type"], created["location"]) == ("Microsoft.BatchAI/workspaces", "northeurope")
        assert (created["provisioning_state"], created["tags"]) == ("succeeded", {"team": "one"})
        assert run.step("workspace created again") == created
        assert run.step("workspace tagged")["tags"] == {"team": "two"}
        assert run.step("workspace got") == run.step("workspace tagged")
        assert run.step("workspaces of the group") == [["aside"], ["whole"]]
        assert run.step("workspaces of the subscription") == [["aside"], ["whole"], ["other"]]
        assert run.step("workspaces in the end") == [["aside"]]

    def test_experiments(self, run: Run) -> None:
        created = run.step("experiment created")
        assert (created["id"], created["name"]) == (f"{_ROOT}/whole/experiments/first", "first")
        assert created["provisioning_state"] == "succeeded"
        assert run.step("experiment created again") == created == run.step("experiment got")
        assert run.step("experiments") == [["first"], ["second"]]

    def test_file_servers(self, run: Run) -> None:
        created = run.step("file server created")
        assert created["id"] == f"{_ROOT}/whole/fileservers/files"
        assert created["type"] == "Microsoft.BatchAI/workspaces/fileservers"
        assert (created["provisioning_state"], created["vm_size"]) == ("succeeded", "STANDARD_D2")
        assert created["ssh_configuration"]["user_account_settings"] == {"admin_user_name": "tester"}
        disks = created["data_disks"]
        assert (disks["disk_count"], disks["caching_type"], disks["storage_account_type"]) == (
            2,
            "none",
            "Standard_LRS",
        )
        mounted = created["mount_settings"]
        assert mounted["mount_point"].startswith("/") and mounted["file_server_internal_ip"]
        assert created["subnet"]["id"].startswith("/subscriptions/")
        assert run.step("file server created again") == created
        assert run.step("file servers") == [["files"], ["more"]]
        if "file server got" not in self.without:
            assert run.step("file server got") == created
        assert run.step("cluster with files")["subnet"] == created["subnet"]

    def test_clusters(self, run: Run) -> None:
        created = run.step("cluster created")
        assert (created["id"], created["type"]) == (
            f"{_ROOT}/whole/clusters/pair",
            "Microsoft.BatchAI/workspaces/clusters",
        )
        assert (created["provisioning_state"], created["vm_size"]) == ("succeeded", "STANDARD_D1")
        # What the service fills in (rest-contract section 6), and what it never returns.
        assert created["vm_priority"] == "dedicated"
        assert created["scale_settings"] == {"manual": {"target_node_count": 2, "node_deallocation_option": "requeue"}}
        assert created["virtual_machine_configuration"]["image_reference"]["sku"] == "16.04-LTS"
        assert created["user_account_settings"] == {"admin_user_name": "tester"}
        assert run.step("cluster created again")["creation_time"] == created["creation_time"]
        assert run.step("clusters") == [["empty"], ["mounting"], ["pair"]]
        idle = run.step("cluster idle")
        assert (idle["current_node_count"], idle["allocation_state"]) == (2, "steady")
        assert set(idle["node_state_counts"].values()) == {0, 2} and len(idle["node_state_counts"]) == 5
        # Nothing listens for logins on nodes yet: one page, without entries.
        assert run.step("logins of the cluster") == [0]

    def test_an_unknown_size_names_the_known(self, run: Run) -> None:
        error = run.error("cluster of unknown size")
        assert error["message"] == (
            "The specified value STANDARD_ABACUS for property Cluster.Properties.VMSize is not a supported VM size. "
            "See additional details for supported VM sizes."
        )
        (details,) = error["details"]
        assert details["code"] == "SupportedVMSizes" and "STANDARD_D1" in details["message"].split(",")

    def test_clusters_are_scaled(self, run: Run) -> None:
        automatic = run.step("cluster to auto-scale")["scale_settings"]
        assert automatic == {"auto_scale": {"minimum_node_count": 0, "maximum_node_count": 1, "initial_node_count": 0}}
        manual = {"manual": {"target_node_count": 0, "node_deallocation_option": "requeue"}}
        assert run.step("cluster to manual")["scale_settings"] == manual
        # The answer to the change has the new settings and the old allocation (rest-contract section 7).
        resized = run.step("cluster resized")
        assert (resized["scale_settings"], resized["current_node_count"]) == (manual, 2)
        after = run.step("cluster after its resizing")
        assert (after["current_node_count"], after["allocation_state"]) == (0, "steady")

    def test_usages(self, run: Run) -> None:
        used = {value: (shown, count) for value, shown, count in run.step("usages")}
        assert list(used)[:2] == ["Clusters", "Total Cluster Dedicated Regional vCPUs"]
        assert used["Clusters"] == ("Clusters", 4)
        assert used["Standard D Family Cluster Dedicated vCPUs"][1] == 2
        low = used["Standard D Family Cluster LowPriority vCPUs"]
        assert low == ("Standard D Family Cluster Low Priority vCPUs", 0)

    def test_operations(self, run: Run) -> None:
        (names,) = run.step("operations")
        assert (len(names), names[0]) == (26, "Microsoft.BatchAI/workspaces/read")

    def test_a_job_of_two_nodes(self, run: Run) -> None:
        created = run.step("job created")
        assert created["id"] == f"{_ROOT}/whole/experiments/first/jobs/whole"
        assert (created["tool_type"], created["scheduling_priority"], created["node_count"]) == ("custom", "normal", 2)
        assert created["secrets"] == [{"name": "KEY"}]
        assert created["constraints"] in ({"max_wall_clock_time": "P7D"}, {"max_wall_clock_time": "7 days, 0:00:00"})
        prefix = f"{SUBSCRIPTION}/clientgroup/workspaces/whole/experiments/first/jobs/whole/"
        assert created["job_output_directory_path_segment"].startswith(prefix)
        assert _GUID.fullmatch(created["job_output_directory_path_segment"].removeprefix(prefix))
        ended = run.step("job ended")
        assert (ended["execution_state"], ended["execution_info"]["exit_code"]) == ("succeeded", 0)
        assert not ended["execution_info"].get("errors")
        assert run.step("output of the job") == "hello from pair-1\nan official client\n4\n"
        assert run.step("size of the output") == len(run.step("output of the job"))
        assert run.step("model of the job") == "made\n"
        assert run.step("logins of the job") == [0]

    def test_a_job_is_not_run_again(self, run: Run) -> None:
        segment = run.step("job created")["job_output_directory_path_segment"]
        assert run.step("job created again")["job_output_directory_path_segment"] == segment
        ended, after = run.step("job ended"), run.step("job created after its end")
        assert after["job_output_directory_path_segment"] == segment
        assert after["execution_info"] == ended["execution_info"]
        assert run.step("job terminated after its end") is None

    def test_files_come_in_pages(self, run: Run) -> None:
        """With POST for the further pages too."""
        pages = run.step("files of the job")
        assert {len(page) for page in pages} == {1}
        names = [name for page in pages for name in page]
        assert {"stdout.txt", "stderr.txt", "execution.log"} <= set(names)
        assert names == sorted(set(names))

    def test_jobs_that_fail_or_are_terminated(self, run: Run) -> None:
        failed = run.step("job failed")
        assert (failed["execution_state"], failed["execution_info"]["exit_code"]) == ("failed", 7)
        assert [error["code"] for error in failed["execution_info"]["errors"]] == ["JobFailed"]
        for name in ("queued job after its termination", "running job after its termination"):
            _assert_terminated(run.step(name))
        jobs = run.step("jobs")
        names = sorted(name for page in jobs for name in (page if isinstance(page, list) else [page]))
        assert names == ["endless", "failing", "queued", "whole"]

    @pytest.mark.parametrize("name", FAULTS)
    def test_a_lost_answer_does_no_harm(self, run: Run, name: str) -> None:
        """The request arrived, the client heard a failure of the gateway and repeated it: nothing is wrong."""
        (first, heard), *others = run.repeated[name]
        assert heard == FAULTS[name].status
        assert (first is None) is not FAULTS[name].passed and (first is None or first < 300)
        assert others, "the client did not repeat the request"
        assert all(said == heard and heard in (200, 202, 204) for said, heard in others)
        run.step(name)

    def test_a_repeated_job_runs_once(self, run: Run) -> None:
        created, ended = run.step("retried job"), run.step("retried job ended")
        assert created["job_output_directory_path_segment"] == ended["job_output_directory_path_segment"]
        assert ended["execution_state"] == "succeeded"
        assert run.step("output of the retried job") == "ran\n"
        assert run.step("jobs after the retries") == [["once", "endless"]]

    def test_a_repeated_termination_terminates(self, run: Run) -> None:
        _assert_terminated(run.step("job after the retried termination"))

    def test_a_repeated_scaling_holds(self, run: Run) -> None:
        assert run.step("retried scaling")["scale_settings"]["manual"]["target_node_count"] == 1


def _assert_terminated(job: dict[str, Any]) -> None:
    """``failed``, with JobTerminated and without an exit code (rest-contract section 8)."""
    info = job["execution_info"]
    assert (job["execution_state"], info.get("exit_code")) == ("failed", None)
    assert [error["code"] for error in info["errors"]] == ["JobTerminated"]
    assert info["start_time"] <= info["end_time"]
