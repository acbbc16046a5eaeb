"""The contract's verbs (rest-contract section 8), and what is stored and shown."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.api.service import (
    CLUSTER,
    CLUSTER_KEY,
    EXPERIMENT,
    JOB,
    NEW,
    OLD,
    PROVIDER,
    WS,
    Service,
    cluster_body,
    delete_experiment_requested,
    delete_workspace_requested,
    job_body,
)
from trainshed.resources.lifecycle import ProvisioningEvent
from trainshed.store import clusters, jobs, secrets

LOCATIONS = "/subscriptions/sub/providers/Microsoft.BatchAI/locations/local"


def test_workspace_is_made_at_once(service: Service) -> None:
    answer = service.send("PUT", WS, {"location": "North Europe", "tags": {"a": "b"}})
    assert answer.status_code == 200
    assert answer.json() == {
        "id": "/subscriptions/sub/resourceGroups/group/providers/Microsoft.BatchAI/workspaces/ws",
        "name": "ws",
        "type": "Microsoft.BatchAI/workspaces",
        "location": "North Europe",
        "tags": {"a": "b"},
        "properties": {
            "creationTime": "2018-06-06T21:06:02Z",
            "provisioningState": "succeeded",
            "provisioningStateTransitionTime": "2018-06-06T21:06:02Z",
        },
    }


def test_the_same_workspace_again_changes_nothing(shed: Service) -> None:
    before = shed.dump()
    first = shed.send("GET", WS)
    shed.clock.now += 5000
    again = shed.send("PUT", WS, {"location": "LOCAL"})
    assert (again.status_code, again.content, again.headers["ETag"]) == (200, first.content, first.headers["ETag"])
    assert shed.dump() == before


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_tags_are_replaced(service: Service, method: str) -> None:
    created = service.send("PUT", WS, {"location": "local", "tags": {"a": "1", "b": "2"}})
    service.clock.now += 5000
    answer = service.send(method, WS, {"location": "local", "tags": {"c": "3"}})
    assert answer.json()["tags"] == {"c": "3"}
    assert answer.headers["ETag"] != created.headers["ETag"]


def test_patch_without_tags_changes_nothing(service: Service) -> None:
    service.send("PUT", WS, {"location": "local", "tags": {"a": "1"}})
    assert service.send("PATCH", WS, {}).json()["tags"] == {"a": "1"}


def test_the_same_experiment_again_changes_nothing(shed: Service) -> None:
    before = shed.dump()
    answer = shed.send("PUT", EXPERIMENT, {"properties": {}})
    assert (answer.status_code, answer.json()["properties"]["provisioningState"]) == (200, "succeeded")
    assert shed.dump() == before


def test_the_same_job_again_is_the_same_job(shed: Service) -> None:
    job = shed.make_job()
    shed.controller.provision(count=1)
    shed.controller.start(["tvm-1_0-20180606t210834z"])
    before = shed.dump()
    shed.clock.now += 5000
    again = shed.send("PUT", JOB, job_body())
    assert again.status_code == 200
    assert "Azure-AsyncOperation" not in again.headers
    assert again.json()["properties"]["jobOutputDirectoryPathSegment"] == job.segment
    assert again.headers["ETag"] == shed.send("GET", JOB).headers["ETag"]
    assert shed.dump() == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"nodeCount": 2}, "properties.nodeCount"),
        ({"customToolkitSettings": {"commandLine": "false"}}, "properties.customToolkitSettings.commandLine"),
        ({"environmentVariables": [{"name": "A", "value": "1"}]}, "properties.environmentVariables"),
    ],
)
def test_another_job_of_the_same_name_is_refused(shed: Service, change: dict[str, object], named: str) -> None:
    shed.make_job()
    before = shed.dump()
    answer = shed.send("PUT", JOB, job_body(**change))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["target"]) == (409, "Conflict", named)
    assert "another name" in error["message"]
    assert shed.dump() == before


def test_a_repeated_job_may_spell_its_cluster_in_other_case(shed: Service) -> None:
    shed.make_job()
    assert shed.send("PUT", JOB, job_body(cluster={"id": CLUSTER.upper()})).status_code == 200


def test_cluster_as_the_contract_shows_it(shed: Service) -> None:
    properties = shed.send("GET", CLUSTER).json()["properties"]
    assert list(properties) == [
        "provisioningState", "allocationState", "creationTime", "allocationStateTransitionTime",
        "provisioningStateTransitionTime", "vmSize", "currentNodeCount", "nodeStateCounts", "vmPriority",
        "scaleSettings", "virtualMachineConfiguration", "userAccountSettings",
    ]  # fmt: skip
    assert (properties["provisioningState"], properties["allocationState"]) == ("creating", "resizing")
    assert properties["vmSize"] == "STANDARD_D1"
    assert properties["scaleSettings"]["manual"] == {"targetNodeCount": 2, "nodeDeallocationOption": "requeue"}
    assert "adminUserPassword" not in properties["userAccountSettings"]


def test_the_same_cluster_again_has_a_new_etag_only(shed: Service) -> None:
    shed.controller.provision()
    first = shed.send("GET", CLUSTER)
    shed.clock.now += 5000
    again = shed.send("PUT", CLUSTER, cluster_body())
    assert again.status_code == 200
    assert again.json() == first.json()
    assert again.headers["ETag"] != first.headers["ETag"]
    assert shed.send("GET", CLUSTER).json() == first.json()


def test_a_cluster_that_is_being_made_says_when_to_ask_again(shed: Service) -> None:
    """A PUT that is repeated after a lost answer is polled by GET of the cluster (rest-contract section 3)."""
    again, asked = shed.send("PUT", CLUSTER, cluster_body()), shed.send("GET", CLUSTER)
    assert (again.status_code, again.json()["properties"]["provisioningState"]) == (200, "creating")
    assert (again.headers["Retry-After"], asked.headers["Retry-After"]) == ("1", "1")
    shed.controller.provision()
    assert "Retry-After" not in shed.send("GET", CLUSTER).headers


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_scale_changes_at_once_but_answers_with_the_old_allocation(shed: Service, method: str) -> None:
    shed.controller.provision()
    scale = {"scaleSettings": {"manual": {"targetNodeCount": 5}}}
    body = cluster_body(**scale) if method == "PUT" else {"properties": scale}
    shed.clock.now += 1000
    answer = shed.send(method, CLUSTER, body).json()["properties"]
    assert answer["scaleSettings"]["manual"]["targetNodeCount"] == 5
    assert answer["allocationState"] == "steady"
    after = shed.send("GET", CLUSTER).json()["properties"]
    assert (after["allocationState"], after["allocationStateTransitionTime"]) == ("resizing", "2018-06-06T21:06:03Z")


def test_scale_can_change_while_it_is_resizing(shed: Service) -> None:
    body = {"properties": {"scaleSettings": {"autoScale": {"minimumNodeCount": 0, "maximumNodeCount": 3}}}}
    assert shed.send("PATCH", CLUSTER, body).status_code == 200
    scale = shed.send("GET", CLUSTER).json()["properties"]["scaleSettings"]
    assert scale == {"autoScale": {"minimumNodeCount": 0, "maximumNodeCount": 3, "initialNodeCount": 0}}


def test_patch_of_nothing_changes_nothing(shed: Service) -> None:
    before = shed.dump()
    assert shed.send("PATCH", CLUSTER, {"properties": {}}).status_code == 200
    assert shed.dump() == before


@pytest.mark.parametrize("path", [WS, EXPERIMENT, CLUSTER, JOB])
def test_delete_is_an_operation_that_the_controller_finishes(shed: Service, path: str) -> None:
    shed.make_job()
    wakes = shed.controller.wakes
    answer = shed.send("DELETE", path)
    assert answer.status_code == 202
    assert shed.controller.wakes == wakes + 1
    assert shed.send("GET", path).json()["properties"]["provisioningState"] == "deleting"
    assert shed.send("GET", answer.headers["Azure-AsyncOperation"]).json()["status"] == "InProgress"


@pytest.mark.parametrize("path", [WS, EXPERIMENT, CLUSTER, JOB])
def test_delete_again_is_accepted_again(shed: Service, path: str) -> None:
    shed.make_job()
    shed.send("DELETE", path)
    assert shed.send("DELETE", path).status_code == 202


@pytest.mark.parametrize(
    "path",
    [f"{PROVIDER}/workspaces/no", f"{WS}/experiments/no", f"{WS}/clusters/no", f"{EXPERIMENT}/jobs/no",
     f"{PROVIDER}/workspaces/no/experiments/e/jobs/j", f"{WS}/fileServers/no"],
)  # fmt: skip
def test_delete_of_what_is_absent_is_204(shed: Service, path: str) -> None:
    before = shed.dump()
    answer = shed.send("DELETE", path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert shed.dump() == before


@pytest.mark.parametrize("deleted", [WS, EXPERIMENT, CLUSTER])
def test_nothing_new_below_what_is_being_deleted(shed: Service, deleted: str) -> None:
    shed.send("DELETE", deleted)
    answer = shed.send("PUT", JOB, job_body())
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "ResourceBeingDeleted")


@pytest.mark.parametrize(
    ("path", "body"), [(WS, {"location": "local"}), (EXPERIMENT, None), (CLUSTER, cluster_body()), (JOB, job_body())]
)
def test_put_of_what_is_being_deleted_is_refused(shed: Service, path: str, body: object) -> None:
    shed.make_job()
    shed.send("DELETE", path)
    answer = shed.send("PUT", path, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "ResourceBeingDeleted")


@pytest.mark.parametrize(
    ("change", "path", "body"),
    [
        (delete_workspace_requested, CLUSTER, cluster_body()),
        (delete_workspace_requested, EXPERIMENT, None),
        (delete_experiment_requested, JOB, job_body()),
    ],
)
def test_put_below_a_parent_that_is_being_deleted_is_refused(
    shed: Service, change: Callable[..., None], path: str, body: object
) -> None:
    shed.apply(change)
    assert shed.send("PUT", path, body).json()["error"]["code"] == "ResourceBeingDeleted"


def test_terminate_a_queued_job(shed: Service) -> None:
    shed.make_job()
    answer = shed.send("POST", f"{JOB}/terminate")
    assert answer.status_code == 202
    assert shed.send("GET", JOB).json()["properties"]["executionState"] == "terminating"
    assert shed.send("POST", f"{JOB}/terminate").status_code == 202


def test_terminate_a_finished_job_does_nothing(shed: Service) -> None:
    shed.make_job()
    shed.controller.provision(count=1)
    shed.controller.finish(shed.controller.start(["tvm-1_0-20180606t210834z"]))
    before = shed.dump()
    answer = shed.send("POST", f"{JOB}/terminate")
    assert (answer.status_code, answer.content) == (200, b"")
    assert "Azure-AsyncOperation" not in answer.headers
    assert shed.dump() == before


def test_secrets_go_in_and_never_come_out(shed: Service) -> None:
    body = job_body(
        secrets=[{"name": "TOKEN", "value": "t0ken-in-clear"}],
        containerSettings={
            "imageSourceRegistry": {"image": "i", "credentials": {"username": "u", "password": "pass-w0rd-in-clear"}}
        },
    )
    job = shed.make_job(body=body)
    shown = shed.send("GET", JOB)
    assert shown.json()["properties"]["secrets"] == [{"name": "TOKEN"}]
    shed.close()
    stored = b"".join(path.read_bytes() for path in shed.home.glob("trainshed.db*"))
    for secret in (b"t0ken-in-clear", b"pass-w0rd-in-clear"):
        assert secret not in shown.content
        assert secret not in stored
    reopened = type(shed.db).open(f"sqlite:///{shed.database}")
    sealed = reopened.read_sync(lambda tx: secrets.get(tx, job.uid))
    reopened.close_sync()
    assert shed.vault.unseal_text(sealed["/secrets/0"], job.uid) == "t0ken-in-clear"


def test_a_new_cluster_of_the_same_name_has_another_uid(shed: Service) -> None:
    first = shed.apply(lambda tx: clusters.get(tx, CLUSTER_KEY))
    shed.apply(lambda tx: clusters.apply_provisioning(tx, CLUSTER_KEY, ProvisioningEvent.DELETE_REQUESTED, 1))
    shed.apply(lambda tx: clusters.delete(tx, CLUSTER_KEY))
    shed.send("PUT", CLUSTER, cluster_body())
    second = shed.apply(lambda tx: clusters.get(tx, CLUSTER_KEY))
    assert second.uid != first.uid
    assert second.pool > first.pool


def test_a_job_stores_what_the_scheduler_needs(shed: Service) -> None:
    job = shed.make_job(body=job_body(schedulingPriority="high", constraints={"maxWallClockTime": "PT2H"}))
    cluster = shed.apply(lambda tx: clusters.get(tx, CLUSTER_KEY))
    assert (job.priority, job.node_count, job.wall_clock_seconds) == (1000, 1, 7200)
    assert (job.cluster_uid, job.tool_type) == (cluster.uid, "custom")
    assert job.segment == f"sub/group/workspaces/ws/experiments/exp/jobs/j/{job.uid}"


def test_usages_count_the_subscriptions_clusters_in_a_region(shed: Service) -> None:
    shed.controller.provision(count=2)
    shed.send("PUT", f"{PROVIDER.replace('sub/', 'other/', 1)}/workspaces/ws", {"location": "local"})
    rows = {
        row["name"]["value"]: row["currentValue"] for row in shed.send("GET", f"{LOCATIONS}/usages").json()["value"]
    }
    assert rows["Clusters"] == 1
    assert rows["Standard D Family Cluster Dedicated vCPUs"] == 2
    elsewhere = shed.send("GET", f"{LOCATIONS.replace('local', 'moon')}/usages").json()["value"]
    assert elsewhere[0]["currentValue"] == 0


def test_the_providers_operations(service: Service) -> None:
    assert len(service.send("GET", "/providers/Microsoft.BatchAI/operations").json()["value"]) == 26


def test_remote_logins_of_cluster_and_job(shed: Service) -> None:
    shed.make_job()
    ids = shed.controller.provision(count=2, ssh_port=50000)
    expected = [{"nodeId": node, "ipAddress": f"127.40.1.{4 + n}", "port": 50000} for n, node in enumerate(ids)]
    assert shed.send("POST", f"{CLUSTER}/listRemoteLoginInformation").json() == {"value": expected}
    assert shed.send("POST", f"{JOB}/listRemoteLoginInformation").json() == {"value": []}
    shed.controller.start([ids[1]])
    assert shed.send("POST", f"{JOB}/listRemoteLoginInformation").json() == {"value": expected[1:]}
    first = shed.send("POST", f"{CLUSTER}/listRemoteLoginInformation", maxresults=1).json()
    second = shed.send("POST", first["nextLink"]).json()
    assert [first["value"], second] == [expected[:1], {"value": expected[1:]}]


def test_newer_members_are_not_in_the_older_version(shed: Service) -> None:
    shed.make_job()
    older, newer = (shed.send("GET", JOB, version=version).json()["properties"] for version in (OLD, NEW))
    assert set(newer) - set(older) == {"attempt", "whyWaiting"}
    assert shed.apply(lambda tx: jobs.get(tx, "sub/group/ws/exp/j")).attempts == newer["attempt"] == 0
