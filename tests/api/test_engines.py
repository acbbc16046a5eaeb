"""A cluster names its engine (2026-11-01): what is accepted, shown, refused, and hidden from the original's clients."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.service import CLUSTER as OTHER
from tests.api.service import CLUSTER_KEY, NEW, OLD, Service, cluster_body
from tests.support.engine_kind import KIND
from trainshed.resources.quotas import Quotas, family_cores
from trainshed.store import clusters

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
