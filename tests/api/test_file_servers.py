"""File servers: the contract's verbs, who mounts them, and the subnet that clusters take over."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.service import (
    CLUSTER,
    CLUSTER_KEY,
    JOB,
    JOB_KEY,
    OLD,
    WS,
    WS_KEY,
    Service,
    cluster_body,
    file_server_body,
    job_body,
)
from trainshed.resources.exports import mount_settings
from trainshed.resources.lifecycle import OperationEvent, OperationVerb, ProvisioningEvent
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import clusters, file_servers, jobs, operations, secrets

SERVER = f"{WS}/fileServers/nfs_1"
SERVER_KEY = f"{WS_KEY}/nfs_1"
SUBNET = "/subscriptions/sub/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/v/subnets/s"


def mounting(server: str = SERVER) -> dict[str, Any]:
    return {"fileServers": [{"fileServer": {"id": server}, "relativeMountPath": "nfs"}]}


def provision(service: Service, key: str = SERVER_KEY) -> None:
    """As the controller does it."""

    def change(tx: Any) -> None:
        file_servers.set_mount_settings(tx, key, mount_settings("127.230.1.2"))
        file_servers.apply(tx, key, ProvisioningEvent.PROVISIONED, service.clock())
        operations.finish_for(tx, OperationVerb.CREATE_FILE_SERVER, key, OperationEvent.SUCCEEDED, service.clock())

    service.apply(change)


@pytest.fixture
def served(shed: Service) -> Service:
    """The API with workspace, experiment, cluster and a provisioned file server ``nfs_1``."""
    assert shed.send("PUT", SERVER, file_server_body()).status_code == 202
    provision(shed)
    return shed


def test_creation_is_an_operation(shed: Service) -> None:
    wakes = shed.controller.wakes
    answer = shed.send("PUT", SERVER, file_server_body())
    assert (answer.status_code, answer.content) == (202, b"")
    assert shed.controller.wakes == wakes + 1
    creating = shed.send("GET", SERVER).json()["properties"]
    assert creating["provisioningState"] == "creating"
    assert "mountSettings" not in creating and "subnet" not in creating
    assert shed.send("GET", answer.headers["Azure-AsyncOperation"]).json()["status"] == "InProgress"
    provision(shed)
    result = shed.send("GET", answer.headers["Azure-AsyncOperation"]).json()
    assert (result["status"], result["properties"]["resourceId"]) == ("Succeeded", "sub$group$ws$nfs_1")


def test_a_file_server_as_the_contract_shows_it(served: Service) -> None:
    uid = served.apply(lambda tx: file_servers.get(tx, SERVER_KEY)).uid
    assert served.send("GET", SERVER).json() == {
        "id": "/subscriptions/sub/resourceGroups/group/providers/Microsoft.BatchAI/workspaces/ws/fileservers/nfs_1",
        "name": "nfs_1",
        "type": "Microsoft.BatchAI/workspaces/fileservers",
        "properties": {
            "vmSize": "STANDARD_D1",
            "sshConfiguration": {"userAccountSettings": {"adminUserName": "trainer"}},
            "dataDisks": {
                "diskSizeInGB": 10, "cachingType": "none", "diskCount": 2, "storageAccountType": "Standard_LRS",
            },
            "subnet": {
                "id": f"/subscriptions/sub/resourceGroups/fileserverrg-{uid}/providers/Microsoft.Network"
                f"/virtualNetworks/{uid}vnet/subnets/Subnet-1"
            },
            "mountSettings": {
                "mountPoint": "/mnt/data", "fileServerPublicIP": "127.230.1.2", "fileServerInternalIP": "127.230.1.2",
            },
            "creationTime": "2018-06-06T21:06:02Z",
            "provisioningState": "succeeded",
            "provisioningStateTransitionTime": "2018-06-06T21:06:02Z",
        },
    }  # fmt: skip


def test_its_password_goes_in_and_never_comes_out(served: Service) -> None:
    record = served.apply(lambda tx: file_servers.get(tx, SERVER_KEY))
    sealed = served.apply(lambda tx: secrets.get(tx, record.uid))
    (path,) = sealed
    assert path == "/sshConfiguration/userAccountSettings/adminUserPassword"
    assert served.vault.unseal_text(sealed[path], record.uid) == "pass-w0rd-in-clear"
    assert "pass-w0rd-in-clear" not in str(served.dump()) + served.send("GET", SERVER).text


def test_the_same_again_is_the_same(served: Service) -> None:
    before, first = served.dump(), served.send("GET", SERVER)
    served.clock.now += 5000
    again = served.send("PUT", SERVER, file_server_body(vmSize="STANDARD_d1"))
    assert (again.status_code, again.json(), again.headers["ETag"]) == (200, first.json(), first.headers["ETag"])
    assert served.dump() == before


@pytest.mark.parametrize(
    ("change", "named"),
    [({"vmSize": "Standard_D2"}, "properties.vmSize"), ({"subnet": {"id": SUBNET}}, "properties.subnet")],
)
def test_another_of_the_same_name_is_refused(served: Service, change: dict[str, Any], named: str) -> None:
    before = served.dump()
    answer = served.send("PUT", SERVER, file_server_body(**change))
    assert (answer.status_code, answer.json()["error"]["target"]) == (409, named)
    assert served.dump() == before


def test_a_failed_creation_is_told_in_both_ways(shed: Service) -> None:
    answer = shed.send("PUT", SERVER, file_server_body())

    def fail(tx: Any) -> None:
        reason = Reason(ReasonCode.FILE_SERVER_FAILED, "The disk is full.")
        file_servers.apply(tx, SERVER_KEY, ProvisioningEvent.PROVISIONING_FAILED, 1)
        operations.finish_for(tx, OperationVerb.CREATE_FILE_SERVER, SERVER_KEY, OperationEvent.FAILED, 1, reason)

    shed.apply(fail)
    for header in ("Azure-AsyncOperation", "Location"):
        polled = shed.send("GET", answer.headers[header])
        assert polled.status_code == 200
        assert polled.json()["status"] == "Failed"
        assert polled.json()["error"] == {"code": "FileServerFailed", "message": "The disk is full."}
        assert "properties" not in polled.json()
    assert shed.send("GET", SERVER).json()["properties"]["provisioningState"] == "failed"
    assert shed.send("DELETE", SERVER).status_code == 202


def test_they_are_listed_in_pages(served: Service) -> None:
    for name in ("b", "A"):
        served.send("PUT", f"{WS}/fileServers/{name}", file_server_body())
    first = served.send("GET", f"{WS}/fileservers", maxresults=2).json()
    second = served.send("GET", first["nextLink"]).json()
    assert [server["name"] for server in first["value"] + second["value"]] == ["A", "b", "nfs_1"]


def test_deletion_is_an_operation_and_can_be_repeated(served: Service) -> None:
    answers = [served.send("DELETE", SERVER) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert served.send("GET", SERVER).json()["properties"]["provisioningState"] == "deleting"
    assert served.send("PUT", SERVER, file_server_body()).json()["error"]["code"] == "ResourceBeingDeleted"
    assert served.send("DELETE", f"{WS}/fileServers/no").status_code == 204


def test_not_deleted_while_a_cluster_mounts_it(served: Service) -> None:
    body = cluster_body(nodeSetup={"mountVolumes": mounting(SERVER.upper())})
    assert served.send("PUT", f"{WS}/clusters/user", body).status_code == 202
    before = served.dump()
    answer = served.send("DELETE", SERVER)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (409, "FileServerInUse")
    assert "cluster user" in error["message"]
    assert served.dump() == before

    def forget(tx: Any) -> None:
        clusters.apply_provisioning(tx, f"{WS_KEY}/user", ProvisioningEvent.DELETE_REQUESTED, 1)
        clusters.delete(tx, f"{WS_KEY}/user")

    served.apply(forget)
    assert served.send("DELETE", SERVER).status_code == 202


def test_not_deleted_while_a_job_that_mounts_it_is_not_over(served: Service) -> None:
    served.make_job(body=job_body(mountVolumes=mounting()))
    assert "job j" in served.send("DELETE", SERVER).json()["error"]["message"]
    served.controller.provision(CLUSTER_KEY, count=1)
    served.controller.finish(served.controller.start(["tvm-1_0-20180606t210834z"]))
    assert served.apply(lambda tx: jobs.get(tx, JOB_KEY)).ended_at is not None
    assert served.send("DELETE", SERVER).status_code == 202


def test_a_similar_name_is_not_its_user(served: Service) -> None:
    """``_`` is a wildcard of SQL, and a name may be the beginning of another."""
    for name in ("nfsx1", "nfs_10"):
        served.send("PUT", f"{WS}/fileServers/{name}", file_server_body())
        body = cluster_body(nodeSetup={"mountVolumes": mounting(f"{WS}/fileServers/{name}")})
        assert served.send("PUT", f"{WS}/clusters/of-{name}", body).status_code == 202
    assert served.send("DELETE", SERVER).status_code == 202


def test_a_cluster_takes_over_its_subnet(served: Service) -> None:
    subnet = served.send("GET", SERVER).json()["properties"]["subnet"]
    body = cluster_body(nodeSetup={"mountVolumes": mounting()})
    served.send("PUT", f"{WS}/clusters/user", body)
    assert served.send("GET", f"{WS}/clusters/user").json()["properties"]["subnet"] == subnet
    again = served.send("PUT", f"{WS}/clusters/user", body)
    assert (again.status_code, again.json()["properties"]["subnet"]) == (200, subnet)
    named = cluster_body(nodeSetup={"mountVolumes": mounting()}, subnet={"id": subnet["id"].upper()})
    assert served.send("PUT", f"{WS}/clusters/user", named).status_code == 200


def test_a_subnet_of_its_own_is_the_clusters_too(shed: Service) -> None:
    shed.send("PUT", SERVER, file_server_body(subnet={"id": SUBNET}))
    shed.send("PUT", f"{WS}/clusters/user", cluster_body(nodeSetup={"mountVolumes": mounting()}))
    assert shed.send("GET", f"{WS}/clusters/user").json()["properties"]["subnet"] == {"id": SUBNET}


def test_a_cluster_elsewhere_is_refused(served: Service) -> None:
    before = served.dump()
    body = cluster_body(nodeSetup={"mountVolumes": mounting()}, subnet={"id": SUBNET})
    answer = served.send("PUT", f"{WS}/clusters/user", body)
    assert (answer.status_code, answer.json()["error"]["target"]) == (400, "properties.subnet.id")
    assert served.dump() == before


def test_a_file_server_that_is_being_deleted_is_not_mounted(served: Service) -> None:
    served.send("DELETE", SERVER)
    for path, body in (
        (f"{WS}/clusters/user", cluster_body(nodeSetup={"mountVolumes": mounting()})),
        (JOB, job_body(mountVolumes=mounting())),
    ):
        assert served.send("PUT", path, body, version=OLD).json()["error"]["code"] == "ResourceBeingDeleted"
    assert served.send("GET", CLUSTER).status_code == 200
