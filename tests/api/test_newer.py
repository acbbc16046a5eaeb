"""What 2026-11-01 adds: reasons, attempts, events, nodes, VM sizes."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from tests.api.service import (
    CLUSTER,
    CLUSTER_KEY,
    EXPERIMENT,
    JOB,
    JOB_KEY,
    NEW,
    OLD,
    WAITING,
    Service,
    cluster_body,
    job_body,
)
from trainshed.resources.lifecycle import AttemptEvent, NodeEvent, ProvisioningEvent
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import attempts, clusters, jobs, nodes

pytestmark = pytest.mark.slow

BROKEN = Reason(ReasonCode.SETUP_TASK_FAILED, "The setup task failed.", {"exitCode": "1"})


def test_a_queued_job_says_why_it_waits(shed: Service) -> None:
    shed.make_job()
    properties = shed.send("GET", JOB, version=NEW).json()["properties"]
    assert properties["whyWaiting"] == WAITING.to_batchai_error()
    assert properties["whyWaiting"]["details"] == [{"name": "cluster", "value": "c"}]


def test_a_running_job_does_not_wait(shed: Service) -> None:
    shed.make_job()
    shed.controller.start(shed.controller.provision(count=1))
    properties = shed.send("GET", JOB, version=NEW).json()["properties"]
    assert "whyWaiting" not in properties
    assert properties["attempt"] == 1


def test_a_requeued_job_says_why(shed: Service) -> None:
    job = shed.make_job()
    attempt = shed.controller.start(shed.controller.provision(count=1))
    lost = Reason(ReasonCode.NODE_LOST, "The node was lost.")

    def lose(tx: Connection) -> None:
        attempts.finish(tx, attempt, AttemptEvent.LOST, 1, exit_code=None, reason=lost, ended_at=1)
        jobs.requeue(tx, job.id, 1, lost, True)

    shed.apply(lose)
    properties = shed.send("GET", JOB, version=NEW).json()["properties"]
    assert properties["requeueReason"] == {"code": "NodeLost", "message": "The node was lost."}
    [shown] = shed.send("GET", f"{JOB}/attempts", version=NEW).json()["value"]
    assert (shown["state"], shown["reason"]["code"]) == ("lost", "NodeLost")


def test_attempts_name_their_nodes(shed: Service) -> None:
    shed.make_job(body=job_body(nodeCount=2))
    ids = shed.controller.provision(count=2)
    attempt = shed.controller.start([ids[1], ids[0]])
    shed.clock.now += 1500
    shed.controller.finish(attempt, succeeded=False)
    assert shed.send("GET", f"{JOB}/attempts", version=NEW).json()["value"] == [
        {
            "id": attempt,
            "number": 1,
            "state": "failed",
            "nodes": [ids[1], ids[0]],
            "startTime": "2018-06-06T21:06:02Z",
            "endTime": "2018-06-06T21:06:03.5Z",
            "exitCode": 2,
            "reason": {"code": "JobFailed", "message": "Job failed"},
        }
    ]


def test_a_jobs_events_tell_its_story_in_pages(shed: Service) -> None:
    shed.make_job()
    shed.controller.finish(shed.controller.start(shed.controller.provision(count=1)))
    story, url = [], f"{JOB}/events?maxresults=2&api-version={NEW}"
    while url:
        body = shed.send("GET", url, version=None).json()
        assert len(body["value"]) <= 2
        story += [(entry["kind"], entry["event"]) for entry in body["value"]]
        url = body.get("nextLink", "")
    assert story[0] == ("job", "submitted")
    assert ("job", "placed") in story and ("attempt", "succeeded") in story
    assert story[-1] == ("job", "succeeded")


def test_events_of_an_earlier_job_of_the_name_are_not_its_own(shed: Service) -> None:
    job = shed.make_job()
    shed.apply(lambda tx: jobs.request_deletion(tx, job.id, shed.clock()))
    shed.apply(lambda tx: jobs.delete(tx, job.id))
    shed.clock.now += 1000
    shed.make_job()
    events = shed.send("GET", f"{JOB}/events", version=NEW).json()["value"]
    assert [event["event"] for event in events] == ["submitted"]


def test_a_clusters_events_are_not_those_of_an_experiment_of_its_name(shed: Service) -> None:
    shed.send("PUT", CLUSTER.replace("/clusters/c", "/experiments/c"))
    shed.controller.provision(count=1)
    events = shed.send("GET", f"{CLUSTER}/events", version=NEW).json()["value"]
    assert {event["kind"] for event in events} == {"cluster", "node"}


def test_nodes_say_what_they_do_and_why_not(shed: Service) -> None:
    shed.make_job()
    ids = shed.controller.provision(count=3)
    attempt = shed.controller.start([ids[0]])
    shed.apply(lambda tx: nodes.apply(tx, ids[2], NodeEvent.SETUP_FAILED, shed.clock(), BROKEN))
    shown = shed.send("GET", f"{CLUSTER}/nodes", version=NEW).json()["value"]
    assert [(node["id"], node["state"]) for node in shown] == list(
        zip(ids, ["running", "idle", "unusable"], strict=True)
    )
    assert shown[0]["attempt"] == attempt
    assert (shown[0]["address"], shown[0]["hostName"]) == ("127.40.1.4", "c-0")
    assert shown[2]["reason"]["message"] == "The setup task failed."


def test_a_cluster_sums_up_why_nodes_are_not_usable(shed: Service) -> None:
    ids = shed.controller.provision(count=3)
    for node in ids[1:]:
        shed.apply(lambda tx, node=node: nodes.apply(tx, node, NodeEvent.SETUP_FAILED, shed.clock(), BROKEN))
    newer = shed.send("GET", CLUSTER, version=NEW).json()["properties"]
    assert newer["nodeReasons"] == [{**BROKEN.to_batchai_error(), "count": 2, "nodes": ids[1:]}]
    assert "nodeReasons" not in shed.send("GET", CLUSTER).json()["properties"]
    assert newer["nodeStateCounts"]["unusableNodeCount"] == 2


def test_vm_sizes_include_this_machines(shed: Service) -> None:
    path = "/subscriptions/sub/providers/Microsoft.BatchAI/locations/local/vmSizes"
    sizes = {size["name"]: size for size in shed.send("GET", path, version=NEW).json()["value"]}
    assert sizes["LOCAL"] == {"name": "LOCAL", "family": "Local", "numberOfCores": 2, "memoryInMB": 4096, "gpus": 0}
    assert sizes["STANDARD_NC6"]["gpus"] == 1
    assert "STANDARD_A0" not in sizes


def test_a_cluster_may_have_this_machines_size(shed: Service) -> None:
    path = CLUSTER.removesuffix("/c") + "/local"
    assert shed.send("PUT", path, cluster_body(vmSize="local")).status_code == 202


def test_a_second_clusters_events_start_anew(shed: Service) -> None:
    shed.apply(lambda tx: clusters.apply_provisioning(tx, CLUSTER_KEY, ProvisioningEvent.DELETE_REQUESTED, 1))
    shed.apply(lambda tx: clusters.delete(tx, CLUSTER_KEY))
    shed.clock.now += 1000
    shed.send("PUT", CLUSTER, cluster_body())
    events = shed.send("GET", f"{CLUSTER}/events", version=NEW).json()["value"]
    assert [event["event"] for event in events] == ["created"]


def test_the_jobs_key_is_what_the_paths_say(shed: Service) -> None:
    assert shed.make_job().key == JOB_KEY


RETRIES = {
    "maxRetries": 2,
    "exitCodes": [3],
    "backoff": {"initialDelay": "PT1S", "multiplier": 3.0, "maxDelay": "PT9S"},
}


def test_a_retry_policy_is_shown_by_the_newer_version_only(shed: Service) -> None:
    shed.make_job(body=job_body(retryPolicy=RETRIES), version=NEW)
    newer = shed.send("GET", JOB, version=NEW).json()["properties"]
    assert (newer["retryPolicy"], newer["retries"]) == (RETRIES, 0)
    [listed] = shed.send("GET", f"{EXPERIMENT}/jobs", version=NEW).json()["value"]
    assert listed["properties"]["retryPolicy"] == RETRIES
    original = shed.send("GET", JOB).json()["properties"]
    assert "retryPolicy" not in original and "retries" not in original


def test_a_job_sent_again_is_the_same_in_its_version(shed: Service) -> None:
    body = job_body(retryPolicy=RETRIES)
    shed.make_job(body=body, version=NEW)
    again = shed.send("PUT", JOB, body, version=NEW)
    assert (again.status_code, again.json()["properties"]["retryPolicy"]) == (200, RETRIES)
    # A client of the original sends what it knows of the job.
    assert shed.send("PUT", JOB, job_body()).status_code == 200
    other = shed.send("PUT", JOB, job_body(retryPolicy={"maxRetries": 2}), version=NEW)
    assert other.status_code == 409
    assert "properties.retryPolicy.exitCodes" in other.json()["error"]["message"]


def test_todays_toolkits_are_shown_by_the_newer_version_only(shed: Service) -> None:
    settings = {"pythonScriptFilePath": "train.py", "processCount": 4}
    body = job_body(jaxSettings=settings)
    del body["properties"]["customToolkitSettings"]
    shed.make_job(body=body, version=NEW)
    newer = shed.send("GET", JOB, version=NEW).json()["properties"]
    assert (newer["toolType"], newer["jaxSettings"]) == ("jax", settings)
    original = shed.send("GET", JOB).json()["properties"]
    # Tables of the original's clients have a column for it.
    assert original["toolType"] == "jax" and "jaxSettings" not in original


def test_newer_members_in_the_original_are_named_in_a_warning(shed: Service) -> None:
    answer = shed.send("PUT", JOB, job_body(retryPolicy=RETRIES))
    assert answer.status_code == 202
    assert "properties.retryPolicy" in answer.headers["Warning"]
    assert "retryPolicy" not in shed.send("GET", JOB, version=NEW).json()["properties"]
    scale = {"autoScale": {"minimumNodeCount": 0, "maximumNodeCount": 3, "idleTimeBeforeScaleDown": "PT1H"}}
    answer = shed.send("PATCH", CLUSTER, {"properties": {"scaleSettings": scale}})
    assert "properties.scaleSettings.autoScale.idleTimeBeforeScaleDown" in answer.headers["Warning"]
    assert _idle_time(shed) == "PT5M"


def test_unknown_members_of_newer_members_are_refused_and_change_nothing(shed: Service) -> None:
    answer = shed.send("PUT", JOB, job_body(retryPolicy={"maxRetries": 1, "backoff": {"jitter": 1}}), version=NEW)
    assert (answer.status_code, answer.json()["error"]["target"]) == (400, "properties.retryPolicy.backoff.jitter")
    assert shed.send("GET", JOB).status_code == 404


def test_idle_time_is_changed_by_the_newer_version_and_kept_by_the_original(shed: Service) -> None:
    bounds = {"minimumNodeCount": 0, "maximumNodeCount": 3}
    scale = {"autoScale": {**bounds, "idleTimeBeforeScaleDown": "PT1H"}}
    changed = shed.send("PATCH", CLUSTER, {"properties": {"scaleSettings": scale}}, version=NEW)
    assert changed.json()["properties"]["scaleSettings"]["autoScale"]["idleTimeBeforeScaleDown"] == "PT1H"
    original = shed.send("GET", CLUSTER).json()["properties"]["scaleSettings"]
    assert original == {"autoScale": {**bounds, "initialNodeCount": 0}}
    wider = {"autoScale": {**bounds, "maximumNodeCount": 5}}
    shown = shed.send("PATCH", CLUSTER, {"properties": {"scaleSettings": wider}}).json()["properties"]["scaleSettings"]
    assert shown == {"autoScale": {"minimumNodeCount": 0, "maximumNodeCount": 5, "initialNodeCount": 0}}
    assert _idle_time(shed) == "PT1H"
    assert shed.send("PUT", CLUSTER, cluster_body(scaleSettings=scale)).status_code == 200
    assert _idle_time(shed) == "PT1H"
    shed.send("PATCH", CLUSTER, {"properties": {"scaleSettings": wider}}, version=NEW)
    assert _idle_time(shed) == "PT5M"


def _idle_time(shed: Service) -> str:
    scale = shed.send("GET", CLUSTER, version=NEW).json()["properties"]["scaleSettings"]
    return str(scale["autoScale"]["idleTimeBeforeScaleDown"])


def test_images_ahead_are_the_newer_versions_alone(shed: Service) -> None:
    image = {"image": "a:1", "credentials": {"username": "u", "password": "only-for-tests"}}
    path = CLUSTER.replace("/clusters/", "/clusters/with-images-")
    body = cluster_body(nodeSetup={"containerImages": [image]})
    assert shed.send("PUT", path, body, version=NEW).status_code in (200, 202)
    shown = shed.send("GET", path, version=NEW).json()["properties"]["nodeSetup"]
    assert shown["containerImages"] == [{"image": "a:1", "credentials": {"username": "u"}}]
    assert "containerImages" not in str(shed.send("GET", path).json())
    assert shed.send("PUT", path, cluster_body(nodeSetup={})).status_code == 200
    assert shed.send("GET", path, version=NEW).json()["properties"]["nodeSetup"] == shown


def test_attempts_name_their_containers(shed: Service) -> None:
    shed.make_job(body=job_body(containerSettings={"imageSourceRegistry": {"image": "a"}}), version=NEW)
    attempt = shed.controller.start(shed.controller.provision(count=2))
    container = {"image": "a", "digest": "sha256:1"}
    shed.apply(
        lambda tx: attempts.finish(
            tx,
            attempt,
            AttemptEvent.SUCCEEDED,
            shed.clock(),
            exit_code=0,
            reason=None,
            ended_at=1,
            container=container,
        )
    )
    [shown] = shed.send("GET", f"{JOB}/attempts", version=NEW).json()["value"]
    assert shown["container"] == container


def test_what_was_read_can_be_sent_back(shed: Service) -> None:
    job = shed.make_job(body=job_body(retryPolicy=RETRIES), version=NEW)
    attempt = shed.controller.start(shed.controller.provision(count=2))
    failed = Reason(ReasonCode.JOB_RETRIED, "It failed.")

    def fail(tx: Connection) -> None:
        attempts.finish(tx, attempt, AttemptEvent.FAILED, 1, exit_code=3, reason=failed, ended_at=1)
        jobs.retry(tx, job.id, 1, failed, shed.clock() + 1000)

    shed.apply(fail)
    [node, _] = shed.apply(lambda tx: nodes.of_cluster(tx, job.cluster_uid))
    shed.apply(lambda tx: nodes.apply(tx, node.id, NodeEvent.SETUP_FAILED, shed.clock(), BROKEN))
    read = shed.send("GET", JOB, version=NEW).json()
    assert {"requeueReason", "whyWaiting", "retries", "attempt"} <= set(read["properties"])
    assert shed.send("PUT", JOB, read, version=NEW).status_code == 200
    cluster = shed.send("GET", CLUSTER, version=NEW).json()
    assert "nodeReasons" in cluster["properties"]
    changeable = ("scaleSettings", "nodeReasons", "nodeStateCounts", "errors")
    sent = {name: value for name, value in cluster["properties"].items() if name in changeable}
    assert shed.send("PATCH", CLUSTER, {"properties": sent}, version=NEW).status_code == 200


def test_newer_volumes_are_shown_by_the_newer_version_only(shed: Service) -> None:
    blobs = {"accountName": "a", "containerName": "c", "relativeMountPath": "b", "credentials": {"accountKey": "k"}}
    volumes = {
        "hostDirectories": [{"path": "/data", "relativeMountPath": "h"}],
        "azureBlobFileSystems": [{**blobs, "cache": {"maxSizeInGB": 1}}],
    }
    body = job_body(mountVolumes=volumes)
    shed.make_job(body=body, version=NEW)
    newer = shed.send("GET", JOB, version=NEW).json()["properties"]["mountVolumes"]
    assert newer["hostDirectories"] == [{"path": "/data", "relativeMountPath": "h", "readOnly": False}]
    assert newer["azureBlobFileSystems"][0]["cache"] == {"maxSizeInGB": 1}
    original = shed.send("GET", JOB).json()["properties"]["mountVolumes"]
    assert list(original) == ["azureBlobFileSystems"] and "cache" not in original["azureBlobFileSystems"][0]
    # A client of the original sends what it knows of the job.
    same = job_body(mountVolumes={"azureBlobFileSystems": [blobs]})
    assert (shed.send("PUT", JOB, same).status_code, shed.send("PUT", JOB, body, version=NEW).status_code) == (200, 200)


def test_a_node_is_evicted_once_and_only_from_its_own_cluster(shed: Service) -> None:
    node_id, other = shed.controller.provision(count=2)
    url = f"{CLUSTER}/nodes/{node_id}/evict"
    assert shed.send("POST", url, version=OLD).status_code == 400
    for _ in range(2):
        answer = shed.send("POST", url, version=NEW)
        assert (answer.status_code, answer.json()["state"]) == (200, "leaving")
        assert answer.json()["reason"]["code"] == "NodeEvicted"
    states = {node["id"]: node["state"] for node in shed.send("GET", f"{CLUSTER}/nodes", version=NEW).json()["value"]}
    assert states == {node_id: "leaving", other: "idle"}
    shed.send("PUT", f"{CLUSTER}2", cluster_body())
    for path in (f"{CLUSTER}/nodes/absent/evict", f"{CLUSTER}2/nodes/{other}/evict"):
        refused = shed.send("POST", path, version=NEW)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "NodeNotFound")
