"""Groups, storage accounts, file servers and usages: what is sent, and what is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.client.stub_service import WORKSPACE, Answer, StubService, answer, refusal

SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-000000000000"
GROUP = f"{SUBSCRIPTION}/resourceGroups/trainshed"
ACCOUNTS = f"{GROUP}/providers/Microsoft.Storage/storageAccounts"
ALL_ACCOUNTS = f"{SUBSCRIPTION}/providers/Microsoft.Storage/storageAccounts"
SERVER = f"{WORKSPACE}/fileServers/nfs"


def account(name: str, group: str = "trainshed") -> dict[str, Any]:
    return {
        "id": f"{SUBSCRIPTION}/resourceGroups/{group}/providers/Microsoft.Storage/storageAccounts/{name}",
        "name": name,
        "location": "local",
        "kind": "StorageV2",
        "properties": {},
    }


FILE_SERVER = {
    "id": f"{WORKSPACE}/fileservers/nfs",
    "name": "nfs",
    "properties": {
        "vmSize": "STANDARD_D2",
        "dataDisks": {"diskCount": 2, "diskSizeInGB": 100},
        "mountSettings": {
            "mountPoint": "/mnt/data",
            "fileServerPublicIP": "127.230.1.2",
            "fileServerInternalIP": "127.230.1.3",
        },
        "provisioningState": "succeeded",
    },
}


def test_a_group_is_created(trainshed: Run, stub: StubService) -> None:
    group = {"id": GROUP, "name": "trainshed", "location": "moon", "properties": {"provisioningState": "Succeeded"}}
    stub.on("PUT", GROUP, answer(group, 201))
    result = trainshed("group", "create", "trainshed", "-l", "moon")
    assert stub.requests("PUT", GROUP)[0].json() == {"location": "moon", "tags": {}}
    assert result.out == (
        "Name       Location  State\n---------  --------  ---------\ntrainshed  moon      Succeeded\n"
    )


def test_deleting_a_group_follows_its_operation(trainshed: Run, stub: StubService) -> None:
    url = f"{stub.url}{SUBSCRIPTION}/operationresults/1"
    stub.on("DELETE", GROUP, Answer(202, headers={"Location": url}))
    stub.on("GET", f"{SUBSCRIPTION}/operationresults/1", Answer(202, headers={"Location": url}), Answer(200))
    result = trainshed("group", "delete", "trainshed", "-y")
    assert (result.code, result.err) == (0, "deleted resource group trainshed\n")
    assert len(stub.requests("GET", f"{SUBSCRIPTION}/operationresults/1")) == 2


def test_deleting_an_absent_group_says_so(trainshed: Run, stub: StubService) -> None:
    stub.on("DELETE", GROUP, refusal(404, "ResourceGroupNotFound", "could not be found"))
    result = trainshed("group", "delete", "trainshed", "-y")
    assert (result.code, result.err) == (0, "there is no resource group trainshed\n")


def test_the_default_group_of_an_account_is_made(trainshed: Run, stub: StubService) -> None:
    missing = refusal(404, "ResourceGroupNotFound", "Resource group 'trainshed' could not be found.")
    stub.on("PUT", f"{ACCOUNTS}/mydata", missing, answer(account("mydata")))
    stub.on("PUT", GROUP, answer({"id": GROUP, "name": "trainshed"}, 201))
    result = trainshed("storage", "create", "mydata", "-o", "quiet")
    assert (result.code, result.out, result.err) == (0, "mydata\n", "made the resource group trainshed\n")


def test_a_group_that_was_named_is_not(trainshed: Run, stub: StubService) -> None:
    stub.on("PUT", f"{ACCOUNTS}/mydata", refusal(404, "ResourceGroupNotFound", "could not be found"))
    assert trainshed("storage", "create", "mydata", "-g", "trainshed").code == 3
    assert stub.requests("PUT", GROUP) == []


def test_accounts_are_listed_everywhere_or_in_a_group(trainshed: Run, stub: StubService) -> None:
    stub.on("GET", ALL_ACCOUNTS, answer({"value": [account("a", "x"), account("b", "y")]}))
    stub.on("GET", ACCOUNTS, answer({"value": [account("c")]}))
    assert trainshed("storage", "list", "-o", "quiet").out == "a\nb\n"
    assert trainshed("storage", "list", "-g", "trainshed").out.splitlines()[2].split() == [
        "c", "trainshed", "local", "StorageV2",
    ]  # fmt: skip


def test_keys_are_printed_and_renewed(trainshed: Run, stub: StubService) -> None:
    keys = [{"keyName": "key1", "value": "b25l"}, {"keyName": "key2", "value": "dHdv"}]
    stub.on("POST", f"{ACCOUNTS}/mydata/listKeys", answer({"keys": keys}))
    stub.on("POST", f"{ACCOUNTS}/mydata/regenerateKey", answer({"keys": keys}))
    assert trainshed("storage", "keys", "mydata").out == "Name  Value\n----  -----\nkey1  b25l\nkey2  dHdv\n"
    assert trainshed("storage", "keys", "mydata", "-o", "quiet").out == "b25l\ndHdv\n"
    trainshed("storage", "keys", "mydata", "--renew", "key2")
    assert stub.requests("POST", f"{ACCOUNTS}/mydata/regenerateKey")[0].json() == {"keyName": "key2"}


def test_the_file_server_table(trainshed: Run, stub: StubService) -> None:
    stub.on("GET", f"{WORKSPACE}/fileServers", answer({"value": [FILE_SERVER]}))
    assert trainshed("file-server", "list").out == (
        "Name  Resource Group  Size         Disks       Public IP    Internal IP  Mount Point  State\n"
        "----  --------------  -----------  ----------  -----------  -----------  -----------  ---------\n"
        "nfs   trainshed       STANDARD_D2  2 x 100 Gb  127.230.1.2  127.230.1.3  /mnt/data    succeeded\n"
    )


def test_a_file_server_is_created_from_arguments_and_a_file(trainshed: Run, stub: StubService) -> None:
    stub.on("PUT", SERVER, answer(FILE_SERVER))
    Path("server.json").write_text(
        '// disks\n{"properties": {"vmSize": "STANDARD_D1", "dataDisks": {"diskCount": 1, "diskSizeInGB": 9}}}'
    )
    result = trainshed(
        "file-server", "create", "nfs", "-f", "server.json", "--disk-size", "10", "-u", "me", "-p", "secret-1",
        "--caching-type", "readonly", "-o", "json",
    )  # fmt: skip
    assert result.code == 0, result.err
    (asked,) = stub.requests("PUT", SERVER)
    assert asked.query["api-version"] == "2018-05-01"
    assert asked.json()["properties"] == {
        "vmSize": "STANDARD_D1",
        "dataDisks": {
            "diskCount": 1, "diskSizeInGB": 10, "cachingType": "readonly", "storageAccountType": "Premium_LRS",
        },
        "sshConfiguration": {"userAccountSettings": {"adminUserName": "me", "adminUserPassword": "secret-1"}},
    }  # fmt: skip
    assert json.loads(result.out) == FILE_SERVER


def test_usages_leave_out_families_that_nobody_uses(trainshed: Run, stub: StubService) -> None:
    def row(name: str, used: int) -> dict[str, Any]:
        return {"currentValue": used, "limit": 9, "name": {"value": name, "localizedValue": name}}

    rows = [row("Clusters", 0), row("Standard D Family", 2), row("Standard NC Family", 0)]
    path = f"{SUBSCRIPTION}/providers/Microsoft.BatchAI/locations/moon/usages"
    stub.on("GET", path, answer({"value": rows}))
    assert trainshed("usage", "list", "-l", "moon").out.splitlines()[2:] == [
        "Clusters               0      9",
        "Standard D Family      2      9",
    ]
    assert len(trainshed("usage", "list", "-l", "moon", "--all").out.splitlines()) == 5
    assert json.loads(trainshed("usage", "list", "-l", "moon", "-o", "json").out) == rows


@pytest.mark.parametrize(("held", "sent"), [("mydata", {"accountKey": "b25l"}), ("other", None)])
def test_the_key_of_an_account_of_this_service_is_looked_up(
    trainshed: Run, stub: StubService, held: str, sent: dict[str, str] | None
) -> None:
    cluster = f"{WORKSPACE}/clusters/c"
    stub.on("GET", cluster, refusal(404, "ClusterNotFound", "no"))
    stub.on("PUT", cluster, answer({"id": cluster, "name": "c", "properties": {}}))
    stub.on("GET", ALL_ACCOUNTS, answer({"value": [account(held)]}))
    stub.on("POST", f"{ACCOUNTS}/{held}/listKeys", answer({"keys": [{"keyName": "key1", "value": "b25l"}]}))
    result = trainshed(
        "cluster", "create", "c", "-s", "LOCAL", "-t", "1", "-p", "secret-1", "--storage-account-name", "mydata",
        "--afs-name", "share",
    )  # fmt: skip
    assert result.code == 0, result.err
    volumes = stub.requests("PUT", cluster)[0].json()["properties"]["nodeSetup"]["mountVolumes"]
    assert volumes["azureFileShares"][0].get("credentials") == sent
