"""``az batchai`` 0.4.10 on Python 3.11, unpatched: every command, for people (tables) and for programs (JSON)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clients.az_scenario import CLIENT, RECIPES, run

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(500)]

#: SSH to nodes is not there yet.
LATER = {"batchai cluster node exec", "batchai job node exec"}

#: Commands that must be refused: step, exit status (3: not found, on a ``show``), what is printed.
REFUSED = [
    ("wrong token", 1, "Authentication failed"),
    ("workspace in an absent group", 1, "Resource group 'nowhere' could not be found."),
    ("workspace moved", 1, "a workspace cannot move"),
    ("absent workspace", 3, "The specified workspace absent is not found"),
    ("experiment in an absent workspace", 1, "The parent workspace 'absent' does not exist"),
    ("absent experiment", 3, "The specified experiment absent is not found"),
    ("file server created again", 1, '"files" already exists'),
    ("file server of unknown size", 1, "for property FileServer.Properties.VMSize is not a supported VM size"),
    ("file server in use deleted", 1, "cannot be deleted while it is mounted by cluster filed"),
    ("absent file server", 3, "The specified file server absent is not found"),
    ("cluster created again", 1, '"pair" already exists'),
    ("cluster of unknown size", 1, "for property Cluster.Properties.VMSize is not a supported VM size"),
    ("cluster with unknown storage", 1, 'Cannot find "absent" storage account.'),
    ("cluster beyond the quota", 1, "exceeding quota limits of Standard NC Family Cluster Dedicated vCPUs"),
    ("cluster resized beyond the quota", 1, "exceeding quota limits of Standard NC Family Cluster Dedicated vCPUs"),
    ("absent cluster", 3, "The specified cluster absent is not found"),
    ("absent cluster resized", 1, "The specified cluster absent is not found"),
    ("job created again", 1, "A job with given name, experiment, workspace and resource group already exists."),
    ("job on an absent cluster", 1, "The specified cluster absent is not found"),
    ("job in an absent experiment", 1, "The parent experiment 'absent' does not exist"),
    ("absent job", 3, "The specified job absent is not found"),
    ("absent job terminated", 1, "The specified job absent is not found"),
    ("files of an unknown directory", 1, "The specified outputDirectoryId UNKNOWN is not"),
    ("job after its deletion", 3, "The specified job first is not found"),
    ("cluster after its deletion", 3, "The specified cluster filed is not found"),
    ("experiment after its deletion", 3, "The specified experiment second is not found"),
    ("file server after its deletion", 3, "The specified file server more is not found"),
    ("workspace after its deletion", 3, "The specified workspace whole is not found"),
]
#: Deletions and terminations: they end well and print nothing.
SILENT = [
    "job deleted",
    "absent job deleted",
    "cluster deleted",
    "experiment deleted",
    "file server deleted",
    "workspace deleted",
    "endless job terminated",
    "queued job terminated",
    "finished job terminated",
]


class Told:
    """What the scenario told."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.commands: set[str] = set(told["commands"])
        self.steps: dict[str, dict[str, Any]] = told["steps"]
        self.storage: list[str] = told["storage"]

    def text(self, name: str) -> str:
        """What a command printed that must have gone well."""
        step = self.steps[name]
        assert step["code"] == 0, f"az {step['command']} exited {step['code']}\n{step['err'][-2000:]}"
        return str(step["out"])

    def json(self, name: str) -> Any:
        return json.loads(self.text(name))

    def table(self, name: str) -> dict[str, dict[str, str]]:
        """The rows of a table by their first column."""
        header, rule, *rows = self.text(name).splitlines()
        starts = [0]
        for dashes in rule.split("  ")[:-1]:
            starts.append(starts[-1] + len(dashes) + 2)
        ends = [*starts[1:], None]

        def cells(line: str) -> list[str]:
            return [line[start:end].strip() for start, end in zip(starts, ends, strict=True)]

        names = cells(header)
        return {cells(row)[0]: dict(zip(names, cells(row), strict=True)) for row in rows}


@pytest.fixture(scope="module")
def az(once: Callable[[str, Callable[[Path], dict[str, Any]]], dict[str, Any]]) -> Told:
    return Told(once(CLIENT.name, run))


def test_every_command_was_run(az: Told) -> None:
    assert len(az.commands) > 30
    run_ones = {
        max((known for known in az.commands if f"{step['command']} ".startswith(f"{known} ")), key=len)
        for step in az.steps.values()
    }
    assert az.commands - run_ones == LATER


@pytest.mark.parametrize(("name", "code", "message"), REFUSED, ids=[name for name, _, _ in REFUSED])
def test_a_refusal_is_told(az: Told, name: str, code: int, message: str) -> None:
    step = az.steps[name]
    assert step["code"] == code, step
    assert f"ERROR: {message}" in step["err"] or (message in step["err"] and "ERROR: " in step["err"])
    assert "Traceback" not in step["err"]


@pytest.mark.parametrize("name", SILENT)
def test_what_ends_well_says_nothing(az: Told, name: str) -> None:
    assert az.text(name) == ""


def test_workspaces(az: Told) -> None:
    created = az.json("workspace created")
    assert (created["location"], created["provisioningState"]) == ("northeurope", "succeeded")
    assert created["resourceGroup"] == "azgroup"
    assert az.json("workspace shown") == created
    # Without --location: the resource group's.
    assert az.json("workspace in the groups region")["location"] == "northeurope"
    assert [workspace["name"] for workspace in az.json("workspaces")] == ["second", "whole"]
    row = {"Name": "whole", "Resource Group": "azgroup", "Location": "northeurope", "State": "succeeded"}
    assert az.table("workspaces as a table")["whole"] == row
    assert az.table("workspace as a table") == {"whole": row}


def test_experiments(az: Told) -> None:
    assert az.json("experiment created") == az.json("experiment shown")
    assert set(az.table("experiments")) == {"first", "second"}


def test_file_servers(az: Told) -> None:
    created = az.json("file server created")
    assert (created["provisioningState"], created["vmSize"]) == ("succeeded", "STANDARD_D2")
    assert created["dataDisks"]["storageAccountType"] == "Premium_LRS"
    assert created["mountSettings"]["fileServerInternalIp"]
    assert az.json("file server shown") == created
    rows = az.table("file servers")
    assert set(rows) == {"files", "more"}
    assert rows["files"]["Disks"] == "2 x 10 Gb"
    assert rows["files"]["Internal IP"] == created["mountSettings"]["fileServerInternalIp"]
    assert az.table("file server as a table") == {"files": rows["files"]}


def test_clusters(az: Told) -> None:
    created = az.json("cluster created")
    assert (created["provisioningState"], created["vmSize"]) == ("succeeded", "STANDARD_D1")
    assert created["scaleSettings"]["manual"] == {"nodeDeallocationOption": "requeue", "targetNodeCount": 2}
    assert created["userAccountSettings"]["adminUserPassword"] is None
    assert az.json("cluster shown")["currentNodeCount"] == 2
    (row,) = az.table("cluster as a table").values()
    assert (row["Workspace"], row["VM Size"], row["State"], row["Running"]) == ("whole", "STANDARD_D1", "steady", "0")
    assert set(az.table("clusters")) == {"auto", "filed", "gpus", "pair", "stored"}
    assert [cluster["name"] for cluster in az.json("clusters as json")] == ["auto", "filed", "gpus", "pair", "stored"]
    # Nothing listens for logins on nodes yet, and this cluster has no setup task.
    assert (az.json("nodes"), az.json("setup files")) == ([], [])


def test_a_cluster_from_a_file(az: Told) -> None:
    """With members that the contract does not have, and a file server given on the command line."""
    created = az.json("cluster of a file")
    assert created["scaleSettings"]["autoScale"]["maximumNodeCount"] == 1
    assert created["vmPriority"] == "lowpriority"
    assert created["nodeSetup"]["setupTask"]["commandLine"] == "echo prepared"
    (mounted,) = created["nodeSetup"]["mountVolumes"]["fileServers"]
    assert mounted["relativeMountPath"] == "nfs"
    assert mounted["fileServer"]["id"].lower().endswith("/workspaces/whole/fileservers/files")
    assert created["subnet"] == az.json("file server shown")["subnet"]


def test_the_key_of_a_storage_account_is_looked_up(az: Told) -> None:
    volumes = az.json("cluster with storage")["nodeSetup"]["mountVolumes"]
    (share,), (container,) = volumes["azureFileShares"], volumes["azureBlobFileSystems"]
    assert share["azureFileUrl"] == "https://azrecipes.file.core.windows.net/logs"
    assert (share["fileMode"], container["containerName"]) == ("0777", "data")
    # Keys go in and never come out.
    assert share["credentials"]["accountKey"] is None and container["credentials"]["accountKey"] is None
    # With the right key, what is named is made.
    assert {"storage/azrecipes/files/logs", "storage/azrecipes/blobs/data"} <= set(az.storage)


def test_clusters_are_scaled(az: Told) -> None:
    assert az.json("cluster that scales itself")["scaleSettings"]["autoScale"]["maximumNodeCount"] == 2
    assert az.json("cluster resized")["scaleSettings"]["manual"]["targetNodeCount"] == 0
    scaled = az.json("cluster to auto-scale")["scaleSettings"]
    assert scaled["manual"] is None
    assert scaled["autoScale"] == {"initialNodeCount": 0, "maximumNodeCount": 1, "minimumNodeCount": 0}


def test_usages(az: Told) -> None:
    rows = az.table("usages")
    assert rows["Clusters"] == {"Value": "Clusters", "Usage": "5", "Limit": "20"}
    assert rows["Standard D Family Cluster Dedicated vCPUs"]["Usage"] == "2"
    assert rows["Standard NC Family Cluster Dedicated vCPUs"]["Limit"] == "12"


def test_jobs(az: Told) -> None:
    created = az.json("job created")
    assert (created["toolType"], created["schedulingPriority"], created["nodeCount"]) == ("custom", "normal", 1)
    assert created["constraints"]["maxWallClockTime"] == "7 days, 0:00:00"
    shown = az.json("job shown")
    assert (shown["executionState"], shown["executionInfo"]["exitCode"]) == ("succeeded", 0)
    (row,) = az.table("job as a table").values()
    assert (row["Cluster"], row["Tool"], row["Nodes"], row["State"], row["Exit code"]) == (
        "pair",
        "custom",
        "1",
        "succeeded",
        "0",
    )
    rows = az.table("jobs")
    assert {name: (row["State"], row["Exit code"]) for name, row in rows.items()} == {
        "first": ("succeeded", "0"),
        "failing": ("failed", "7"),
        "endless": ("failed", ""),
        "queued": ("failed", ""),
        "growing": ("succeeded", "0"),
    }
    assert {job["name"] for job in az.json("jobs as json")} == set(rows)
    assert az.json("job nodes") == []


def test_jobs_are_waited_for(az: Told) -> None:
    """The exit status is the job's; 0 for one that was terminated (rest-contract, the facts that surprise)."""
    succeeded, failed = az.steps["job waited for"], az.steps["failing job waited for"]
    assert (succeeded["code"], failed["code"]) == (0, 7)
    assert "Job state: succeeded" in succeeded["err"]
    assert "Job failed with exit code 7" in failed["err"]
    assert "Job failed with non-zero exit code" in failed["err"]
    terminated = az.steps["endless job waited for"]
    assert terminated["code"] == 0
    assert "The specified job has been terminated by the user" in terminated["err"]


def test_files_are_listed(az: Told) -> None:
    files = {file["name"]: file for file in az.json("files")}
    assert {"stdout.txt", "stderr.txt", "execution.log"} <= set(files)
    assert files["stdout.txt"]["contentLength"] == len("hello from pair-1\n")
    rows = az.table("files as a table")
    assert (rows["stdout.txt"]["Type"], rows["stdout.txt"]["Size"]) == ("file", "18")
    assert [file["name"] for file in az.json("model files")] == ["model.txt"]


def test_a_file_is_streamed_as_it_grows(az: Told) -> None:
    """Byte ranges: what is new is printed once, and nothing twice. The client stops reading when the job has ended."""
    growing = az.steps["growing file streamed"]
    assert (growing["code"], growing["first"]) == (0, "first\n")
    assert growing["out"] in ("", "second\n")
    sizes = {file["name"]: file["contentLength"] for file in az.json("growing job's files")}
    assert sizes["stdout.txt"] == len("first\nsecond\n")
    assert az.text("finished file streamed") == "made\n"
    assert "not found for the completed job" in az.steps["absent file streamed"]["err"]


@pytest.mark.parametrize("recipe", RECIPES or [None], ids=lambda recipe: recipe.name if recipe else "no recipes")
def test_a_recipe_is_accepted_and_queued(az: Told, recipe: Path | None) -> None:
    if recipe is None:
        pytest.skip("the original's recipes are not beside this repository")
    properties = json.loads(recipe.read_text(encoding="utf-8-sig"))["properties"]
    created = az.json(f"recipe {recipe.name}")
    assert (created["provisioningState"], created["executionState"]) == ("succeeded", "queued")
    assert created["nodeCount"] == properties["nodeCount"]
    assert created["stdOutErrPathPrefix"] == properties["stdOutErrPathPrefix"]
    for share in (created["mountVolumes"] or {}).get("azureFileShares") or ():
        assert share["accountName"] == "azrecipes"
        assert share["azureFileUrl"].startswith("https://azrecipes.file.core.windows.net/")
