"""Groups, storage accounts, file servers and quotas on a real service, by the command line: made, used, gone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.live_service import LiveService
from tests.support.machine import needs_namespaces
from tests.support.program import Program
from tests.support.services import running
from trainshed.client.models import segment_after

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LIMITS = {"*": {"Standard D Family Cluster Dedicated vCPUs": 2}}


@pytest.fixture
def limited(tmp_path: Path) -> object:
    """A service whose administrator allows two cores of family D."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "quotas.json").write_text(json.dumps(LIMITS))
    with running(home) as live:
        yield live


@needs_namespaces
def test_from_a_group_to_its_deletion(limited: LiveService, tmp_path: Path) -> None:
    trainshed = Program(limited.home, tmp_path)
    home = limited.home

    def done(*arguments: str) -> str:
        result = trainshed(*arguments, "-g", "team")
        assert result.code == 0, result.err
        return result.out

    assert trainshed("group", "create", "team").code == 0
    done("storage", "create", "mydata")
    done("workspace", "create", "w")
    done("file-server", "create", "nfs", "-w", "w", "-s", "STANDARD_D1", "--disk-count", "1", "--disk-size", "1",
         "-p", "only-for-tests-1")  # fmt: skip
    server = json.loads(done("file-server", "show", "nfs", "-w", "w", "-o", "json"))
    assert server["properties"]["mountSettings"]["fileServerInternalIP"].startswith("127.")
    (folder,) = (home / "fileservers").iterdir()

    # The share comes with the first cluster that names it, the file server's subnet with the one that mounts it.
    size = ("-s", "STANDARD_D1", "-p", "only-for-tests-1")
    done("cluster", "create", "c", "-w", "w", "-t", "0", *size, "--nfs", "nfs",
         "--storage-account-name", "mydata", "--afs-name", "my-share", "--bfs-name", "my-container")  # fmt: skip
    assert (home / "storage/mydata/files/my-share").is_dir()
    assert (home / "storage/mydata/blobs/my-container").is_dir()
    cluster = json.loads(done("cluster", "show", "c", "-w", "w", "-o", "json"))
    assert cluster["properties"]["subnet"] == server["properties"]["subnet"]
    assert segment_after(cluster["properties"]["subnet"]["id"], "subnets") == "Subnet-1"
    refused = trainshed("file-server", "delete", "nfs", "-w", "w", "-g", "team", "-y")
    assert refused.code == 1 and "FileServerInUse" in refused.err and "cluster c" in refused.err

    refused = trainshed("cluster", "create", "d", "-w", "w", "-g", "team", "-t", "3", *size)
    assert refused.code == 1 and "ClusterCoreQuotaReached" in refused.err
    usages = {row["name"]["value"]: row["limit"] for row in json.loads(trainshed("usage", "list", "-o", "json").out)}
    assert usages["Standard D Family Cluster Dedicated vCPUs"] == 2

    key = json.loads(done("storage", "keys", "mydata", "-o", "json"))[0]["value"]
    stored = b"".join(path.read_bytes() for path in home.glob("trainshed.db*"))
    assert key.encode() not in stored

    assert trainshed("group", "delete", "team", "-y").err == "deleted resource group team\n"
    assert trainshed("workspace", "list", "-o", "quiet").out == ""
    limited.wait_for(lambda: not (home / "storage/mydata").exists() and not folder.exists(), "the directories' end")


def test_quotas_that_cannot_be_read_are_told_at_the_start(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "quotas.json").write_text('{"*": {"Cluster": 1}}')
    result = Program(home, tmp_path)("serve", "--home", str(home))
    assert result.code == 1
    assert str(home / "quotas.json") in result.err and "did you mean 'Clusters'" in result.err


def test_auto_storage_is_one_account_that_is_found_again(service: LiveService, tmp_path: Path) -> None:
    trainshed = Program(service.home, tmp_path)
    for cluster in ("auto1", "auto2"):
        made = trainshed("cluster", "create", cluster, "-t", "0", "-p", "only-for-tests-1", "--use-auto-storage")
        assert made.code == 0, made.err
    (name,) = trainshed("storage", "list", "-g", "batchaiautostorage", "-o", "quiet").out.split()
    assert re.fullmatch("bai[a-z]{12}", name)
    assert (service.home / "storage" / name / "files/batchaishare").is_dir()
    assert (service.home / "storage" / name / "blobs/batchaicontainer").is_dir()
    for cluster in ("auto1", "auto2"):
        shown = json.loads(trainshed("cluster", "show", cluster, "-o", "json").out)
        volumes = shown["properties"]["nodeSetup"]["mountVolumes"]
        found = [(kind, entry["accountName"], entry["relativeMountPath"]) for kind, (entry,) in volumes.items()]
        assert found == [("azureFileShares", name, "autoafs"), ("azureBlobFileSystems", name, "autobfs")]
        assert trainshed("cluster", "delete", cluster, "-y").code == 0
