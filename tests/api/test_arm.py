"""What clients ask Azure Resource Manager around the provider: subscriptions, resource groups, registration."""

from __future__ import annotations

import pytest

from tests.api.service import BASE, CLUSTER, GROUP, NEW, PROVIDER, SUB, WS, Service, cluster_body
from trainshed.resources.names import LOCAL_SUBSCRIPTION

RESULTS = f"{BASE}{SUB}/operationresults/"


def test_a_group_is_made_read_and_changed(service: Service) -> None:
    made = service.send("PUT", GROUP, {"location": "North Europe", "tags": {"a": "1"}}, version="2018-05-01")
    expected = {
        "id": GROUP,
        "name": "Group",
        "type": "Microsoft.Resources/resourceGroups",
        "location": "North Europe",
        "tags": {"a": "1"},
        "properties": {"provisioningState": "Succeeded"},
    }
    assert (made.status_code, made.json()) == (201, expected)
    assert service.send("GET", GROUP).json() == expected
    again = service.send("PUT", GROUP.upper().replace("SUB", "sub"), {"location": "northeurope", "tags": {"b": "2"}})
    assert (again.status_code, again.json()["tags"], again.json()["name"]) == (200, {"b": "2"}, "Group")
    assert service.send("PATCH", GROUP, {"tags": {"c": "3"}}).json()["tags"] == {"c": "3"}
    assert service.send("PATCH", GROUP, {}).json()["tags"] == {"c": "3"}


@pytest.mark.parametrize("version", [None, "2016-06-01", "2017-05-10", "2018-05-01", "2099-01-01"])
def test_helper_routes_take_any_version_or_none(service: Service, version: str | None) -> None:
    assert service.send("PUT", GROUP, {"location": "local"}, version=version).status_code == 201
    below = ("/locations", "/providers", "/providers/Microsoft.BatchAI", "/providers/Microsoft.Storage/storageAccounts")
    for path in ("/subscriptions", "/tenants", SUB, GROUP, *(SUB + rest for rest in below)):
        assert service.send("GET", path, version=version).status_code == 200, path
    registered = service.send("POST", f"{SUB}/providers/Microsoft.BatchAI/register", version=version)
    assert registered.json()["registrationState"] == "Registered"


def test_the_providers_own_routes_still_need_a_version(service: Service) -> None:
    for path in (f"{SUB}/providers/Microsoft.BatchAI/workspaces", "/providers/Microsoft.BatchAI/operations", WS):
        assert service.send("GET", path, version=None).json()["error"]["code"] == "MissingApiVersionParameter"
        assert service.send("GET", path.upper(), version="1").json()["error"]["code"] == "InvalidApiVersionParameter"


def test_helper_routes_need_a_token(service: Service) -> None:
    for path in ("/subscriptions", SUB, GROUP, "/tenants"):
        assert service.send("GET", path, token=None).status_code == 401


def test_existence_is_asked_with_head(service: Service) -> None:
    assert service.send("HEAD", GROUP).status_code == 404
    service.send("PUT", GROUP, {"location": "local"})
    answer = service.send("HEAD", f"{SUB}/resourcegroups/group")
    assert (answer.status_code, answer.content) == (204, b"")


def test_the_first_workspace_makes_its_group(service: Service) -> None:
    service.send("PUT", WS, {"location": "westus"})
    group = service.send("GET", GROUP).json()
    assert (group["name"], group["location"]) == ("Group", "westus")
    service.send("PUT", f"{PROVIDER}/workspaces/other", {"location": "eastus"})
    assert service.send("GET", GROUP).json() == group


def test_groups_come_in_pages_in_order_of_name(service: Service) -> None:
    for name in ("b", "A", "c"):
        service.send("PUT", f"{SUB}/resourceGroups/{name}", {"location": "local"})
    service.send("PUT", "/subscriptions/sub2/resourceGroups/d", {"location": "local"})
    first = service.send("GET", f"{SUB}/resourcegroups", maxresults=2).json()
    second = service.send("GET", first["nextLink"]).json()
    assert [group["name"] for group in first["value"] + second["value"]] == ["A", "b", "c"]
    assert "nextLink" not in second


def test_deleting_a_group_is_an_operation_of_the_subscription(shed: Service) -> None:
    answer = shed.send("DELETE", GROUP)
    assert (answer.status_code, answer.content) == (202, b"")
    location = answer.headers["Location"]
    assert location.startswith(RESULTS)
    polled = shed.send("GET", location)
    assert (polled.status_code, polled.headers["Location"]) == (202, location)
    assert shed.send("GET", GROUP).json()["properties"]["provisioningState"] == "Deleting"
    assert shed.send("DELETE", GROUP).status_code == 202
    shed.controller.finish_operations()
    assert shed.send("GET", location).status_code == 200
    assert shed.send("GET", location.replace("/sub/", "/other/")).status_code == 404


def test_a_group_being_deleted_takes_nothing_new(shed: Service) -> None:
    shed.send("DELETE", GROUP)
    before = shed.dump()
    for path, body, code in (
        (GROUP, {"location": "local"}, "ResourceGroupBeingDeleted"),
        (f"{PROVIDER}/workspaces/new", {"location": "local"}, "ResourceGroupBeingDeleted"),
        (f"{GROUP}/providers/Microsoft.Storage/storageAccounts/mydata", {"location": "local"},
         "ResourceGroupBeingDeleted"),
        (WS, {"location": "local"}, "ResourceBeingDeleted"),
        (f"{WS}/clusters/new", cluster_body(), "ResourceBeingDeleted"),
        (f"{WS}/experiments/new", None, "ResourceBeingDeleted"),
    ):  # fmt: skip
        answer = shed.send("PUT", path, body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, code), path
    assert shed.send("PATCH", GROUP, {"tags": {}}).status_code == 409
    assert shed.dump() == before


def test_subscriptions_exist_by_being_named(service: Service) -> None:
    assert service.send("GET", "/subscriptions/any-thing").json()["state"] == "Enabled"
    assert service.send("GET", "/subscriptions/a b").json()["error"]["code"] == "InvalidResourceName"
    for subscription in ("Used", "USED", LOCAL_SUBSCRIPTION):
        service.send("PUT", f"/subscriptions/{subscription}/resourceGroups/g-{subscription}", {"location": "local"})
    listed = [entry["subscriptionId"] for entry in service.send("GET", "/SUBSCRIPTIONS").json()["value"]]
    assert [name.lower() for name in listed] == [LOCAL_SUBSCRIPTION, "used"]
    tenants = service.send("GET", "/Tenants").json()["value"]
    assert {entry["tenantId"] for entry in service.send("GET", "/subscriptions").json()["value"]} == {
        tenants[0]["tenantId"]
    }


def test_locations_are_those_in_use(service: Service) -> None:
    service.send("PUT", GROUP, {"location": "North Europe"})
    listed = service.send("GET", f"{SUB}/locations").json()["value"]
    assert [(place["name"], place["displayName"]) for place in listed] == [
        ("local", "local"),
        ("northeurope", "North Europe"),
    ]


@pytest.mark.parametrize("namespace", ["Microsoft.BatchAI", "microsoft.storage", "MICROSOFT.RESOURCES"])
def test_providers_are_registered(service: Service, namespace: str) -> None:
    for method, path in (("GET", ""), ("POST", "/register"), ("POST", "/Unregister")):
        answer = service.send(method, f"{SUB}/providers/{namespace}{path}").json()
        assert (answer["namespace"].lower(), answer["registrationState"]) == (namespace.lower(), "Registered")
        assert answer["resourceTypes"]


def test_all_providers_are_listed(service: Service) -> None:
    listed = [entry["namespace"] for entry in service.send("GET", f"{SUB}/providers").json()["value"]]
    assert listed == ["Microsoft.BatchAI", "Microsoft.Storage", "Microsoft.Resources", "Microsoft.Authorization"]


def test_a_cluster_is_reached_below_the_lower_case_group(shed: Service) -> None:
    """``az batchai`` writes ``resourcegroups``."""
    assert shed.send("GET", CLUSTER.replace("resourceGroups", "resourcegroups"), version=NEW).status_code == 200
