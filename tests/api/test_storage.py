"""Embedded storage accounts: the part of Microsoft.Storage that clients of Batch AI use, and its directories."""

from __future__ import annotations

import base64
import stat

import pytest

from tests.api.service import ACCOUNTS, GROUP, JOB, SUB, WS, Service, cluster_body, job_body
from trainshed.store import removals, secrets, storage_accounts

pytestmark = pytest.mark.slow

ACCOUNT = f"{ACCOUNTS}/mydata"
ALL = f"{SUB}/providers/Microsoft.Storage/storageAccounts"
CHECK = f"{SUB}/providers/Microsoft.Storage/checkNameAvailability"
BODY = {"location": "local", "kind": "storagev2", "sku": {"name": "Standard_LRS"}, "tags": {"a": "1"},
        "properties": {"supportsHttpsTrafficOnly": True}}  # fmt: skip


@pytest.fixture
def stored(service: Service) -> Service:
    """The API with group ``Group`` and account ``mydata``."""
    assert service.send("PUT", GROUP, {"location": "local"}).status_code == 201
    assert service.send("PUT", ACCOUNT, BODY, version="2018-11-01").status_code == 200
    return service


def key_of(service: Service, number: int = 0) -> str:
    key: str = service.send("POST", f"{ACCOUNT}/listKeys").json()["keys"][number]["value"]
    return key


def test_an_account_as_clients_read_it(stored: Service) -> None:
    account = stored.send("GET", ACCOUNT, version="2019-04-01").json()
    assert account == {
        "id": ACCOUNT,
        "name": "mydata",
        "type": "Microsoft.Storage/storageAccounts",
        "location": "local",
        "tags": {"a": "1"},
        "sku": {"name": "Standard_LRS", "tier": "Standard"},
        "kind": "StorageV2",
        "properties": {
            "provisioningState": "Succeeded",
            "creationTime": "2018-06-06T21:06:02Z",
            "primaryLocation": "local",
            "statusOfPrimary": "available",
            "primaryEndpoints": {
                "blob": "http://mydata.blob.localhost:8080/",
                "file": "http://mydata.file.localhost:8080/",
            },
            "supportsHttpsTrafficOnly": False,
        },
    }
    for path in (ACCOUNTS, ALL, ACCOUNTS.lower()):
        assert stored.send("GET", path).json() == {"value": [account]}


def test_its_directories_are_the_owners_alone(stored: Service) -> None:
    for path in ("storage", "storage/mydata", "storage/mydata/files", "storage/mydata/blobs"):
        assert stat.S_IMODE((stored.home / path).stat().st_mode) == 0o700


def test_the_same_account_again_keeps_its_keys_and_files(stored: Service) -> None:
    before, key = stored.dump(), key_of(stored)
    (stored.home / "storage/mydata/files/kept").mkdir()
    stored.clock.now += 5000
    assert stored.send("PUT", ACCOUNT, BODY).status_code == 200
    assert stored.dump() == before
    changed = stored.send("PUT", ACCOUNT, {**BODY, "kind": "Storage", "tags": {}}).json()
    assert (changed["kind"], changed["tags"]) == ("Storage", {})
    assert key_of(stored) == key
    assert (stored.home / "storage/mydata/files/kept").is_dir()


def test_an_account_cannot_move(stored: Service) -> None:
    answer = stored.send("PUT", ACCOUNT, {**BODY, "location": "moon"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "InvalidResourceLocation")


def test_names_are_unique_in_the_whole_service(stored: Service) -> None:
    for group in (f"{SUB}/resourceGroups/other", "/subscriptions/sub2/resourceGroups/Group"):
        stored.send("PUT", group, {"location": "local"})
        answer = stored.send("PUT", f"{group}/providers/Microsoft.Storage/storageAccounts/mydata", BODY)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "StorageAccountAlreadyTaken")
        assert stored.send("GET", f"{group}/providers/Microsoft.Storage/storageAccounts/mydata").status_code == 404


@pytest.mark.parametrize(
    ("name", "available", "reason"),
    [("mydata", False, "AlreadyExists"), ("my", False, "AccountNameInvalid"), ("MyData2", False, "AccountNameInvalid"),
     ("mydata2", True, None)],
)  # fmt: skip
def test_names_can_be_checked(stored: Service, name: str, available: bool, reason: str | None) -> None:
    body = {"name": name, "type": "Microsoft.Storage/storageAccounts"}
    answer = stored.send("POST", CHECK, body).json()
    assert (answer["nameAvailable"], answer.get("reason")) == (available, reason)
    assert available or name in answer["message"]


def test_names_are_checked_of_a_subscription_that_can_be(stored: Service) -> None:
    refused = stored.send("POST", CHECK.replace("/sub/", "/not one/"), {"name": "mydata"})
    assert refused.status_code == 400 and refused.json()["error"]["target"] == "subscriptionId"


def test_keys_are_shown_by_list_keys_alone(stored: Service) -> None:
    keys = stored.send("POST", f"{ACCOUNT}/listKeys").json()["keys"]
    assert [(key["keyName"], key["permissions"]) for key in keys] == [("key1", "FULL"), ("key2", "FULL")]
    values = [key["value"] for key in keys]
    assert [len(base64.b64decode(value)) for value in values] == [64, 64] and values[0] != values[1]
    others = "".join(stored.send("GET", path).text for path in (ACCOUNT, ACCOUNTS, ALL))
    assert not any(value in others or value in str(stored.dump()) for value in values)


def test_a_key_is_regenerated(stored: Service) -> None:
    before = [key_of(stored, number) for number in (0, 1)]
    answer = stored.send("POST", f"{ACCOUNT}/regenerateKey", {"keyName": "KEY2"}).json()
    after = [key["value"] for key in answer["keys"]]
    assert after == [key_of(stored, number) for number in (0, 1)]
    assert after[0] == before[0] and after[1] != before[1]


def test_deleting_frees_the_name_and_leaves_no_file_in_its_place(stored: Service) -> None:
    share = stored.home / "storage/mydata/files/share"
    share.mkdir()
    (share / "model.bin").write_bytes(b"weights")
    uid = stored.apply(lambda tx: storage_accounts.get(tx, "mydata")).uid
    assert stored.send("DELETE", ACCOUNT).status_code == 200
    assert stored.send("GET", ACCOUNT).status_code == 404
    assert stored.apply(lambda tx: secrets.get(tx, uid)) == {}
    assert not (stored.home / "storage/mydata").exists()
    # What was moved aside is the controller's to remove.
    assert stored.apply(removals.pending) == {uid: f"storage/.removed/{uid}"}
    assert stored.send("DELETE", ACCOUNT).status_code == 204
    assert stored.send("PUT", ACCOUNT, BODY).status_code == 200
    assert list((stored.home / "storage/mydata/files").iterdir()) == []


def test_a_name_whose_directory_is_still_there_is_not_free(stored: Service) -> None:
    """As after a crash between the deletion's commit and the move."""
    stored.apply(lambda tx: storage_accounts.delete(tx, "mydata"))
    stored.apply(lambda tx: removals.request(tx, "uid", "storage/mydata"))
    assert stored.send("PUT", ACCOUNT, BODY).json()["error"]["code"] == "StorageAccountAlreadyTaken"
    assert stored.send("POST", CHECK, {"name": "mydata"}).json()["nameAvailable"] is False


def test_another_groups_account_is_not_deleted(stored: Service) -> None:
    stored.send("PUT", f"{SUB}/resourceGroups/other", {"location": "local"})
    other = f"{SUB}/resourceGroups/other/providers/Microsoft.Storage/storageAccounts/mydata"
    assert stored.send("DELETE", other).status_code == 204
    assert stored.send("GET", ACCOUNT).status_code == 200


def test_accounts_come_in_pages(stored: Service) -> None:
    for name in ("zzz", "aaa"):
        stored.send("PUT", f"{ACCOUNTS}/{name}", BODY)
    first = stored.send("GET", ALL, maxresults=2).json()
    second = stored.send("GET", first["nextLink"]).json()
    assert [account["name"] for account in first["value"] + second["value"]] == ["aaa", "mydata", "zzz"]


def volumes(key: str | None, share: str = "myshare", container: str = "mycontainer") -> dict[str, object]:
    """mountVolumes on the account."""
    credentials = {"accountKey": key or "bm9uZQ=="}
    return {
        "azureFileShares": [
            {
                "accountName": "mydata",
                "azureFileUrl": f"https://mydata.file.core.windows.net/{share}",
                "relativeMountPath": "afs",
                "credentials": credentials,
            }
        ],
        "azureBlobFileSystems": [
            {
                "accountName": "mydata",
                "containerName": container,
                "relativeMountPath": "bfs",
                "credentials": credentials,
            }
        ],
    }


def made(service: Service) -> set[str]:
    """Shares and containers that are there."""
    root = service.home / "storage/mydata"
    return {str(path.relative_to(root)) for kind in ("files", "blobs") for path in (root / kind).iterdir()}


def test_shares_are_made_when_a_cluster_or_job_first_names_them(stored: Service) -> None:
    stored.make_parents()
    setup = {"mountVolumes": volumes(key_of(stored), "clusters", "of-cluster")}
    for _ in range(2):
        assert stored.send("PUT", f"{WS}/clusters/new", cluster_body(nodeSetup=setup)).status_code in (200, 202)
    assert made(stored) == {"files/clusters", "blobs/of-cluster"}
    job = job_body(mountVolumes=volumes(key_of(stored, 1), "jobs", "of-job"))
    assert stored.send("PUT", JOB, job).status_code == 202
    assert made(stored) == {"files/clusters", "blobs/of-cluster", "files/jobs", "blobs/of-job"}
    assert stat.S_IMODE((stored.home / "storage/mydata/files/jobs").stat().st_mode) == 0o700


def test_without_a_key_of_the_account_nothing_is_made(stored: Service) -> None:
    stored.make_parents()
    assert stored.send("PUT", JOB, job_body(mountVolumes=volumes(None))).status_code == 202
    assert made(stored) == set()


def test_accounts_that_are_not_embedded_are_somebody_elses(stored: Service) -> None:
    stored.make_parents()
    stored.send("DELETE", ACCOUNT)
    assert stored.send("PUT", JOB, job_body(mountVolumes=volumes("bm9uZQ=="))).status_code == 202
    assert not (stored.home / "storage/mydata").exists()


@pytest.mark.parametrize("name", ["..", "UPPER", "a", "a--b", "-ab", "x" * 64, "%2e%2e"])
def test_names_that_no_share_can_have_are_refused(stored: Service, name: str) -> None:
    stored.make_parents()
    before = stored.dump()
    for at_fault, target in (
        (volumes(key_of(stored), share=name), "properties.mountVolumes.azureFileShares[0].azureFileUrl"),
        (volumes(key_of(stored), container=name), "properties.mountVolumes.azureBlobFileSystems[0].containerName"),
    ):
        answer = stored.send("PUT", JOB, job_body(mountVolumes=at_fault))
        assert (answer.status_code, answer.json()["error"]["target"]) == (400, target)
    assert stored.dump() == before
    assert made(stored) == set()


def test_a_group_without_accounts_lists_none(stored: Service) -> None:
    assert stored.send("PUT", f"{SUB}/resourceGroups/empty", {"location": "local"}).status_code == 201
    empty = f"{SUB}/resourceGroups/empty/providers/Microsoft.Storage/storageAccounts"
    assert stored.send("GET", empty).json() == {"value": []}
    assert stored.send("GET", empty.replace("empty", "no")).status_code == 404
