"""Quotas at the door: clusters, cores of a family and of all, and gangs that could never be placed."""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx
import pytest

from tests.api.service import CLUSTER, CLUSTER_KEY, JOB, NEW, OLD, WS, Service, cluster_body, job_body
from trainshed.resources.quotas import Quotas
from trainshed.store import clusters

pytestmark = pytest.mark.slow

USAGES = "/subscriptions/sub/providers/Microsoft.BatchAI/locations/local/usages"
D_CORES = "Standard D Family Cluster Dedicated vCPUs"
ALL_LOW = "Total Cluster LowPriority Regional vCPUs"


def limit(service: Service, **limits: int) -> None:
    """Limits of everyone, by short names."""
    full = {"clusters": "Clusters", "d": D_CORES, "low": ALL_LOW, "all": "Total Cluster Dedicated Regional vCPUs"}
    quotas = Quotas(everyone={full[name]: value for name, value in limits.items()})
    object.__setattr__(service.services, "quotas", quotas)


def manual(count: int) -> dict[str, object]:
    return {"manual": {"targetNodeCount": count}}


def automatic(low: int, high: int, initial: int = 0) -> dict[str, object]:
    return {"autoScale": {"minimumNodeCount": low, "maximumNodeCount": high, "initialNodeCount": initial}}


def create(service: Service, name: str, workspace: str = WS, **properties: object) -> httpx.Response:
    return service.send("PUT", f"{workspace}/clusters/{name}", cluster_body(**properties))


def error_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_clusters_are_counted_with_the_contracts_words(shed: Service) -> None:
    limit(shed, clusters=2)
    assert create(shed, "second").status_code == 202
    before = shed.dump()
    answer = create(shed, "third")
    assert error_of(answer) == (409, "ClusterQuotaReached")
    assert answer.json()["error"]["message"] == (
        "Operation results in exceeding quota limits of Microsoft.BatchAI/clusters. Maximum allowed: 2, Current in "
        "use: 2. Please contact support to increase the quota for resource type Microsoft.BatchAI/clusters"
    )
    assert "quotas.json" in answer.json()["error"]["details"][0]["message"]
    assert shed.dump() == before
    assert create(shed, "second").status_code == 200


def test_other_regions_and_subscriptions_have_their_own(shed: Service) -> None:
    limit(shed, clusters=1)
    elsewhere = WS.replace("/ws", "/moon")
    theirs = WS.replace("/subscriptions/sub", "/subscriptions/other")
    shed.send("PUT", elsewhere, {"location": "moon"})
    shed.send("PUT", theirs, {"location": "local"})
    assert [create(shed, "c2", workspace).status_code for workspace in (WS, elsewhere, theirs)] == [409, 202, 202]


def test_a_subscriptions_own_limit_wins(shed: Service) -> None:
    quotas = Quotas(everyone={"Clusters": 1}, subscriptions={"sub": {"Clusters": 2}})
    object.__setattr__(shed.services, "quotas", quotas)
    assert [create(shed, name).status_code for name in ("two", "three")] == [202, 409]


def test_cores_are_those_in_use_and_those_promised(shed: Service) -> None:
    # Cluster c is promised 2 nodes of one core.
    limit(shed, d=6)
    assert error_of(create(shed, "five", scaleSettings=manual(5))) == (409, "ClusterCoreQuotaReached")
    assert create(shed, "four", scaleSettings=manual(4)).status_code == 202
    assert error_of(create(shed, "one", scaleSettings=manual(1))) == (409, "ClusterCoreQuotaReached")
    assert create(shed, "none", scaleSettings=manual(0)).status_code == 202
    # Other families and priorities are not concerned.
    assert create(shed, "v2", vmSize="Standard_D1_v2", scaleSettings=manual(9)).status_code == 202
    assert create(shed, "low", vmPriority="lowpriority", scaleSettings=manual(9)).status_code == 202


def test_all_cores_of_a_priority_have_a_limit(shed: Service) -> None:
    limit(shed, low=10)
    assert create(shed, "a", vmPriority="lowpriority", vmSize="Standard_F8", scaleSettings=manual(1)).status_code == 202
    answer = create(shed, "b", vmPriority="lowpriority", scaleSettings=manual(3))
    assert ALL_LOW in answer.json()["error"]["message"]
    assert "room for 2 nodes of STANDARD_D1" in answer.json()["error"]["message"]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_growing_beyond_the_quota_is_refused_and_shrinking_never(shed: Service, method: str) -> None:
    def rescale(scale: dict[str, object]) -> httpx.Response:
        body = cluster_body(scaleSettings=scale) if method == "PUT" else {"properties": {"scaleSettings": scale}}
        return shed.send(method, CLUSTER, body)

    limit(shed, d=4)
    assert rescale(manual(4)).status_code == 200
    before = shed.dump()
    assert error_of(rescale(manual(5))) == (409, "ClusterCoreQuotaReached")
    assert shed.dump() == before
    limit(shed, d=1)
    assert [rescale(manual(count)).status_code for count in (4, 3, 2)] == [200, 200, 200]
    assert rescale(manual(3)).status_code == 409


def test_automatic_clusters_are_promised_their_minimum_only(shed: Service) -> None:
    limit(shed, d=6)
    assert create(shed, "auto", scaleSettings=automatic(2, 100)).status_code == 202
    assert create(shed, "rest", scaleSettings=manual(2)).status_code == 202
    assert error_of(create(shed, "more", scaleSettings=automatic(1, 1))) == (409, "ClusterCoreQuotaReached")
    assert error_of(create(shed, "first", scaleSettings=automatic(0, 9, 3))) == (409, "ClusterCoreQuotaReached")


def test_nodes_count_until_they_are_gone(shed: Service) -> None:
    limit(shed, d=3)
    shed.controller.provision(count=2)
    assert shed.send("PATCH", CLUSTER, {"properties": {"scaleSettings": manual(0)}}).status_code == 200
    assert error_of(create(shed, "two", scaleSettings=manual(2))) == (409, "ClusterCoreQuotaReached")


def test_a_gang_beyond_the_quota_can_never_run(shed: Service) -> None:
    limit(shed, d=2)
    before = shed.dump()
    answer = shed.send("PUT", JOB, job_body(nodeCount=3))
    assert error_of(answer) == (409, "JobNodeCountExceedsCoreQuota")
    assert "at most 2 nodes" in answer.json()["error"]["message"]
    assert shed.dump() == before
    assert shed.send("PUT", JOB, job_body(nodeCount=2)).status_code == 202


def test_requests_at_once_do_not_pass_the_quota_together(shed: Service) -> None:
    limit(shed, clusters=4, d=5)

    async def all_at_once() -> list[httpx.Response]:
        body = cluster_body(scaleSettings=manual(1))
        return await asyncio.gather(*(shed.asend("PUT", f"{WS}/clusters/n{i}", body) for i in range(12)))

    statuses = Counter(answer.status_code for answer in shed.run(all_at_once()))
    assert statuses == {202: 3, 409: 9}
    assert len(shed.apply(clusters.all)) == 4


def test_usages_show_limits_and_what_is_in_use(shed: Service) -> None:
    limit(shed, clusters=7, d=9)
    shed.controller.provision(CLUSTER_KEY, count=1)

    def rows(version: str) -> dict[str, tuple[int, int]]:
        listed = shed.send("GET", USAGES, version=version).json()["value"]
        return {row["name"]["value"]: (row["currentValue"], row["limit"]) for row in listed}

    assert len(rows(OLD)) == 17
    assert (rows(OLD)["Clusters"], rows(OLD)[D_CORES]) == ((1, 7), (1, 9))
    assert set(rows(NEW)) - set(rows(OLD)) == {
        "Standard Local Family Cluster Dedicated vCPUs",
        "Standard Local Family Cluster LowPriority vCPUs",
    }
