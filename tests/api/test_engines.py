"""A cluster names its engine (2026-11-01): what is accepted, shown, refused, and hidden from the original's clients."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection

from tests.api.service import CLUSTER as OTHER
from tests.api.service import CLUSTER_KEY, JOB, NEW, OLD, Service, cluster_body
from tests.support.engine_kind import KIND
from trainshed.engines.protocol import EngineTraits
from trainshed.resources.quotas import Quotas, family_cores
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import attempts, clusters, jobs

CLUSTER = f"{OTHER}2"
HPC = {"name": "hpc", "options": {"partition": "gpu"}}


@pytest.fixture
def with_hpc(shed: Service) -> Service:
    """A service with a further engine."""
    object.__setattr__(shed.services, "cluster_options", {"local": (), "hpc": KIND.cluster_options})
    return shed


def body(engine: Any) -> dict[str, Any]:
    made = cluster_body()
    made["properties"]["engine"] = engine
    return made


def test_a_cluster_is_on_the_engine_that_it_names(with_hpc: Service) -> None:
    assert with_hpc.send("PUT", CLUSTER, body(HPC), version=NEW).status_code == 202
    record = with_hpc.db.read_sync(lambda tx: clusters.get(tx, f"{CLUSTER_KEY}2"))
    assert record.engine == "hpc"
    assert with_hpc.send("GET", CLUSTER, version=NEW).json()["properties"]["engine"] == HPC
    # The original's clients neither see it nor take it away.
    assert "engine" not in with_hpc.send("GET", CLUSTER, version=OLD).json()["properties"]
    assert with_hpc.send("PUT", CLUSTER, cluster_body(), version=OLD).status_code == 200
    assert with_hpc.send("GET", CLUSTER, version=NEW).json()["properties"]["engine"] == HPC


def test_what_its_scale_settings_limit_is_said_with_the_engine(with_hpc: Service) -> None:
    limited = {**HPC, "nodeLimit": "cluster"}
    assert with_hpc.send("PUT", CLUSTER, body(limited), version=NEW).status_code == 202
    assert with_hpc.send("GET", CLUSTER, version=NEW).json()["properties"]["engine"] == limited


def test_an_engine_cannot_be_changed(with_hpc: Service) -> None:
    assert with_hpc.send("PUT", CLUSTER, body(HPC), version=NEW).status_code == 202
    refused = with_hpc.send("PUT", CLUSTER, body({"name": "hpc"}), version=NEW)
    assert refused.status_code == 409 and "engine" in refused.text


def test_the_service_s_own_is_named_by_nobody(with_hpc: Service) -> None:
    assert with_hpc.send("PUT", CLUSTER, body({"name": "local"}), version=NEW).status_code == 202
    assert "engine" not in with_hpc.send("GET", CLUSTER, version=NEW).json()["properties"]
    assert with_hpc.send("PUT", CLUSTER, cluster_body(), version=NEW).status_code == 200


@pytest.mark.parametrize(
    ("engine", "target", "says"),
    [
        ({"name": "other"}, "properties.engine.name", "There are: hpc, local."),
        ({"name": "hpc", "options": {"colour": "red"}}, "properties.engine.options.colour", "partition, share"),
        ({"name": "hpc", "options": {"share": "much"}}, "properties.engine.options.share", "it must be a number"),
        ({"name": "local", "options": {"partition": "x"}}, "properties.engine.options.partition", "Known are: none"),
        ({"name": "hpc", "options": {"share": 1}}, "properties.engine.options.share", "string"),
        ({"options": {}}, "properties.engine.name", "missing"),
        ({"name": "hpc", "nodeLimit": "queue"}, "properties.engine.nodeLimit", "cluster"),
    ],
)
def test_what_an_engine_does_not_have_is_refused(with_hpc: Service, engine: Any, target: str, says: str) -> None:
    refused = with_hpc.send("PUT", CLUSTER, body(engine), version=NEW)
    error = refused.json()["error"]
    assert refused.status_code == 400
    assert error["target"] == target
    assert says in error["message"]


def test_cores_of_another_engine_are_not_this_machine_s(with_hpc: Service) -> None:
    object.__setattr__(with_hpc.services, "quotas", Quotas(everyone={family_cores("D", "dedicated"): 0}))
    assert with_hpc.send("PUT", CLUSTER, cluster_body(), version=NEW).status_code == 409
    assert with_hpc.send("PUT", CLUSTER, body(HPC), version=NEW).status_code == 202


def test_a_node_that_is_the_engine_s_own_cannot_be_evicted(with_hpc: Service) -> None:
    object.__setattr__(with_hpc.services, "engines", {"local": EngineTraits(), "hpc": EngineTraits(queues=True)})
    assert with_hpc.send("PUT", CLUSTER, body(HPC), version=NEW).status_code == 202
    refused = with_hpc.send("POST", f"{CLUSTER}/nodes/n1/evict", version=NEW)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "NodeOfEngine")


def test_an_attempt_that_waits_in_an_engine_says_why(shed: Service) -> None:
    job = shed.make_job()
    why = Reason(ReasonCode.WAITING_BEHIND_JOBS, "Reason=Priority", {"said": "Priority"})

    def hand_over(tx: Connection) -> None:
        attempts.hand_over(tx, id="a", job_id=job.id, number=1, cluster_uid=job.cluster_uid, waiting=why, now=1)
        jobs.hand_over(tx, job.id, 1, "a")

    shed.apply(hand_over)
    [shown] = shed.send("GET", f"{JOB}/attempts", version=NEW).json()["value"]
    assert (shown["state"], shown["nodes"], shown["whyWaiting"]["code"]) == ("placed", [], "WaitingBehindJobs")
    assert shed.send("GET", JOB, version=NEW).json()["properties"]["executionState"] == "queued"
