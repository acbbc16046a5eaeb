"""Output directories on volumes: which volume holds them, and who may read it through the service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.service import CLUSTER, JOB, WS, Service, cluster_body, file_server_body, job_body
from tests.api.test_file_servers import SERVER, mounting, provision
from tests.api.test_storage import BODY, key_of, volumes
from trainshed.store import file_servers

pytestmark = pytest.mark.slow

ACCOUNTS = CLUSTER.partition("/providers/")[0] + "/providers/Microsoft.Storage/storageAccounts"
LIST = f"{JOB}/listOutputFiles"
ON_SHARE = "$AZ_BATCHAI_JOB_MOUNT_ROOT/afs"


@pytest.fixture
def stored(shed: Service) -> Service:
    """The API with workspace, experiment, cluster and the embedded account ``mydata``."""
    assert shed.send("PUT", f"{ACCOUNTS}/mydata", BODY, version="2018-11-01").status_code == 200
    return shed


def submit(service: Service, prefix: str, **more: Any) -> str:
    """Job ``j``, whose output MODEL and standard output lie below ``prefix``; its path segment."""
    output = {"id": "MODEL", "pathPrefix": prefix, "pathSuffix": "best"}
    record = service.make_job(body=job_body(stdOutErrPathPrefix=prefix, outputDirectories=[output], **more))
    return record.segment


def write(folder: Path, name: str = "stdout.txt", content: bytes = b"line\n") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def listed(service: Service, directory_id: str = "stdouterr", **query: Any) -> httpx.Response:
    return service.send("POST", LIST, outputdirectoryid=directory_id, **query)


def names(service: Service, directory_id: str = "stdouterr", **query: Any) -> list[str]:
    answer = listed(service, directory_id, **query)
    assert answer.status_code == 200, answer.text
    return [entry["name"] for entry in answer.json()["value"]]


def share(service: Service, name: str = "myshare") -> Path:
    return service.home / "storage/mydata/files" / name


def test_outputs_on_a_share_of_the_job_are_listed_and_fetched_without_any_node(stored: Service) -> None:
    segment = submit(stored, ON_SHARE, mountVolumes=volumes(key_of(stored)))
    write(share(stored) / segment / "stdouterr")
    write(share(stored) / segment / "outputs/best/deep", "model.bin", b"0123456789")
    assert names(stored) == ["stdout.txt"]
    assert names(stored, "MODEL") == ["deep"]
    answer = listed(stored, "MODEL", directory="deep").json()["value"][0]
    part = stored.send("GET", answer["downloadUrl"], token=None, headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")


def test_logs_on_a_container_are_streamed(stored: Service) -> None:
    segment = submit(stored, "$AZ_BATCHAI_JOB_MOUNT_ROOT/bfs/logs", mountVolumes=volumes(key_of(stored)))
    write(stored.home / "storage/mydata/blobs/mycontainer/logs" / segment / "stdouterr")
    answer = stored.send("GET", f"{JOB}/logs/stdout.txt", version="2026-11-01")
    assert answer.content == b"line\n"
    found = stored.send("GET", f"{JOB}/logs", version="2026-11-01").json()["value"]
    assert [log["name"] for log in found] == ["stdout.txt"]


def test_outputs_on_a_share_of_the_cluster(stored: Service) -> None:
    setup = {"mountVolumes": volumes(key_of(stored, 1))}
    assert stored.send("PUT", f"{WS}/clusters/new", cluster_body(nodeSetup=setup)).status_code == 202
    segment = submit(stored, "$AZ_BATCHAI_MOUNT_ROOT/afs", cluster={"id": f"{WS}/clusters/new"})
    write(share(stored) / segment / "stdouterr")
    assert names(stored) == ["stdout.txt"]


def test_the_innermost_volume_holds_the_directory(stored: Service) -> None:
    both = volumes(key_of(stored))
    both["azureBlobFileSystems"][0]["relativeMountPath"] = "./afs/inner/"  # type: ignore[index]
    segment = submit(stored, f"{ON_SHARE}/inner", mountVolumes=both)
    write(share(stored) / "inner" / segment / "stdouterr", "covered.txt")
    write(stored.home / "storage/mydata/blobs/mycontainer" / segment / "stdouterr", "seen.txt")
    assert names(stored) == ["seen.txt"]


def test_who_does_not_hold_the_key_reads_nothing(stored: Service) -> None:
    segment = submit(stored, ON_SHARE, mountVolumes=volumes(None))
    write(share(stored) / segment / "stdouterr")
    for answer in (listed(stored), stored.send("GET", f"{JOB}/logs/stdout.txt", version="2026-11-01")):
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "OutputDirectoryNotReadable")
        assert "none of the account's keys" in answer.text


def test_a_key_that_was_replaced_shuts_links_too(stored: Service) -> None:
    segment = submit(stored, ON_SHARE, mountVolumes=volumes(key_of(stored)))
    write(share(stored) / segment / "stdouterr")
    url = listed(stored).json()["value"][0]["downloadUrl"]
    assert stored.send("GET", url, token=None).content == b"line\n"
    stored.send("POST", f"{ACCOUNTS}/mydata/regenerateKey", {"keyName": "key1"}, version="2018-11-01")
    assert stored.send("GET", url, token=None).status_code == 409


def test_links_out_of_the_share_lead_nowhere(stored: Service) -> None:
    segment = submit(stored, ON_SHARE, mountVolumes=volumes(key_of(stored)))
    folder = share(stored) / segment / "stdouterr"
    write(folder)
    (folder / "keys").symlink_to(stored.home)
    (folder / "neighbour").symlink_to(share(stored, "other"))
    share(stored, "other").mkdir()
    assert names(stored) == ["stdout.txt"]
    assert listed(stored, directory="keys").status_code == 400


def test_outputs_on_a_file_server(shed: Service) -> None:
    assert shed.send("PUT", SERVER, file_server_body()).status_code == 202
    provision(shed)
    disks = shed.home / "fileservers" / shed.apply(lambda tx: file_servers.get(tx, "sub/group/ws/nfs_1")).uid
    described = mounting()
    described["fileServers"][0]["sourceDirectory"] = "data"
    segment = submit(shed, "$AZ_BATCHAI_JOB_MOUNT_ROOT/nfs", mountVolumes=described)
    write(disks / "data" / segment / "stdouterr")
    assert names(shed) == ["stdout.txt"]


def test_what_lies_on_no_volume_stays_on_the_nodes(stored: Service) -> None:
    submit(stored, "$AZ_BATCHAI_JOB_MOUNT_ROOT/elsewhere", mountVolumes=volumes(key_of(stored)))
    answer = listed(stored)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "OutputDirectoryNotOnMountRoot")


def test_a_deleted_account_is_named(stored: Service) -> None:
    key = key_of(stored)
    submit(stored, ON_SHARE, mountVolumes=volumes(key))
    stored.send("DELETE", f"{ACCOUNTS}/mydata", version="2018-11-01")
    answer = listed(stored)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "OutputDirectoryNotReadable")
    assert "Azure Files share mydata/myshare" in answer.text and key not in answer.text
