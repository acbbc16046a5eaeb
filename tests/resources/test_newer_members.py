"""Members of 2026-11-01, which checks them; 2018-05-01 passes them over by name."""

from __future__ import annotations

from typing import Any

import pytest

from tests.resources.bodies import cluster, job
from trainshed.resources.definition import definition, secrets_of
from trainshed.resources.errors import InvalidResource
from trainshed.resources.parsing import parse_cluster, parse_cluster_update, parse_job
from trainshed.resources.versions import KNOWN_VERSIONS

OLD, NEW = KNOWN_VERSIONS


def auto(**more: Any) -> dict[str, Any]:
    return {"autoScale": {"minimumNodeCount": 0, "maximumNodeCount": 2, **more}}


def test_defaults_of_a_retry_policy() -> None:
    policy = definition(parse_job(job(retryPolicy={"maxRetries": 3}), NEW).model)["retryPolicy"]
    assert policy == {"maxRetries": 3, "backoff": {"initialDelay": "PT10S", "multiplier": 2, "maxDelay": "PT10M"}}


def test_a_whole_retry_policy() -> None:
    given = {
        "maxRetries": 0,
        "exitCodes": [1, 255],
        "backoff": {"initialDelay": "0:01:30", "multiplier": 1.5, "maxDelay": "PT120S"},
    }
    policy = definition(parse_job(job(retryPolicy=given), NEW).model)["retryPolicy"]
    assert policy == {
        "maxRetries": 0,
        "exitCodes": [1, 255],
        "backoff": {"initialDelay": "PT1M30S", "multiplier": 1.5, "maxDelay": "PT2M"},
    }


@pytest.mark.parametrize(
    ("policy", "target", "said"),
    [
        ({}, "properties.retryPolicy.maxRetries", "is missing"),
        ({"maxRetries": 101}, "properties.retryPolicy.maxRetries", "an integer from 0 to 100"),
        ({"maxRetries": -1}, "properties.retryPolicy.maxRetries", "an integer from 0 to 100"),
        ({"maxRetries": "3"}, "properties.retryPolicy.maxRetries", "is not an integer"),
        ({"maxRetries": True}, "properties.retryPolicy.maxRetries", "is not an integer"),
        ({"maxRetries": 1, "exitCodes": [0]}, "properties.retryPolicy.exitCodes[0]", "out of range"),
        ({"maxRetries": 1, "exitCodes": [256]}, "properties.retryPolicy.exitCodes[0]", "out of range"),
        ({"maxRetries": 1, "exitCodes": []}, "properties.retryPolicy.exitCodes", "at least 1"),
        ({"maxRetries": 1, "exitCodes": 3}, "properties.retryPolicy.exitCodes", "is not a list"),
        ({"maxRetries": 1, "backoff": {"multiplier": 0.5}}, "properties.retryPolicy.backoff.multiplier", "a number"),
        ({"maxRetries": 1, "backoff": {"multiplier": "2"}}, "properties.retryPolicy.backoff.multiplier", "a number"),
        ({"maxRetries": 1, "backoff": {"initialDelay": 10}}, "properties.retryPolicy.backoff.initialDelay", "string"),
        ({"maxRetries": 1, "backoff": {"maxDelay": "soon"}}, "properties.retryPolicy.backoff.maxDelay", "ISO 8601"),
        ({"maxRetries": 1, "backoff": {"maxDelay": "P" + "9" * 400 + "D"}}, "properties.retryPolicy.backoff.maxDelay",
         "P3650D"),
        ({"maxRetries": 1, "backof": {}}, "properties.retryPolicy.backof", "not known in api-version 2026-11-01"),
        ({"maxRetries": 1, "backoff": {"jitter": 1}}, "properties.retryPolicy.backoff.jitter", "not known"),
    ],
)  # fmt: skip
def test_a_policy_that_is_wrong_is_refused_by_name(policy: dict[str, Any], target: str, said: str) -> None:
    with pytest.raises(InvalidResource) as caught:
        parse_job(job(retryPolicy=policy), NEW)
    assert caught.value.target == target
    assert said in caught.value.message


def test_the_original_passes_over_a_retry_policy_whatever_it_holds() -> None:
    parsed = parse_job(job(retryPolicy={"maxRetries": "many"}), OLD)
    assert parsed.ignored == ("properties.retryPolicy",)
    assert "retryPolicy" not in definition(parsed.model)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({}, {"signal": "SIGUSR2", "gracePeriod": "PT30S"}),
        ({"signal": "sigterm"}, {"signal": "SIGTERM", "gracePeriod": "PT30S"}),
        ({"gracePeriod": "0:02:00"}, {"signal": "SIGUSR2", "gracePeriod": "PT2M"}),
        ({"gracePeriod": "PT0S"}, {"signal": "SIGUSR2", "gracePeriod": "PT0S"}),
        ({"gracePeriod": "P1D"}, {"signal": "SIGUSR2", "gracePeriod": "P1D"}),
    ],
)
def test_preemption_of_a_job(given: dict[str, Any], stored: dict[str, Any]) -> None:
    assert definition(parse_job(job(preemption=given), NEW).model)["preemption"] == stored


@pytest.mark.parametrize(
    ("given", "target", "said"),
    [
        ({"signal": "SIGKILL"}, "properties.preemption.signal", "SIGUSR2, SIGUSR1, SIGTERM or SIGINT"),
        ({"signal": 12}, "properties.preemption.signal", "SIGUSR2, SIGUSR1, SIGTERM or SIGINT"),
        ({"gracePeriod": "PT24H1S"}, "properties.preemption.gracePeriod", "P1D"),
        ({"gracePeriod": 30}, "properties.preemption.gracePeriod", "string"),
        ({"grace": "PT1S"}, "properties.preemption.grace", "not known"),
    ],
)
def test_preemption_that_is_wrong_is_refused_by_name(given: dict[str, Any], target: str, said: str) -> None:
    with pytest.raises(InvalidResource) as caught:
        parse_job(job(preemption=given), NEW)
    assert caught.value.target == target
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({}, {"enabled": False, "maxGracePeriod": "PT10M"}),
        ({"enabled": True, "maxGracePeriod": "PT60S"}, {"enabled": True, "maxGracePeriod": "PT1M"}),
    ],
)
def test_preemption_of_a_cluster(given: dict[str, Any], stored: dict[str, Any]) -> None:
    assert definition(parse_cluster(cluster(preemption=given), NEW).model)["preemption"] == stored


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ({"enabled": "yes"}, "properties.preemption.enabled"),
        ({"maxGracePeriod": "P2D"}, "properties.preemption.maxGracePeriod"),
        ({"signal": "SIGTERM"}, "properties.preemption.signal"),
    ],
)
def test_preemption_of_a_cluster_that_is_wrong(given: dict[str, Any], target: str) -> None:
    with pytest.raises(InvalidResource) as caught:
        parse_cluster(cluster(preemption=given), NEW)
    assert caught.value.target == target


def test_the_original_passes_over_preemption() -> None:
    parsed = parse_job(job(preemption={"signal": 1}), OLD)
    assert (parsed.ignored, "preemption" in definition(parsed.model)) == (("properties.preemption",), False)
    other = parse_cluster(cluster(preemption={"enabled": 1}), OLD)
    assert (other.ignored, "preemption" in definition(other.model)) == (("properties.preemption",), False)


@pytest.mark.parametrize(("given", "stored"), [("PT0S", "PT0S"), ("PT90S", "PT1M30S"), ("1.00:00:00", "P1D")])
def test_idle_time(given: str, stored: str) -> None:
    parsed = parse_cluster(cluster(scaleSettings=auto(idleTimeBeforeScaleDown=given)), NEW)
    assert definition(parsed.model)["scaleSettings"]["autoScale"]["idleTimeBeforeScaleDown"] == stored


@pytest.mark.parametrize("given", ["-PT5M", "five minutes", "P1Y", 300, "P3651D"])
def test_idle_time_that_is_none_is_refused(given: object) -> None:
    with pytest.raises(InvalidResource) as caught:
        parse_cluster(cluster(scaleSettings=auto(idleTimeBeforeScaleDown=given)), NEW)
    assert caught.value.target == "properties.scaleSettings.autoScale.idleTimeBeforeScaleDown"


def test_the_original_passes_over_idle_time_and_names_its_place() -> None:
    ignored = ("properties.scaleSettings.autoScale.idleTimeBeforeScaleDown",)
    body = cluster(scaleSettings=auto(idleTimeBeforeScaleDown="PT1H"))
    parsed = parse_cluster(body, OLD)
    assert parsed.ignored == ignored
    assert definition(parsed.model)["scaleSettings"]["autoScale"]["idleTimeBeforeScaleDown"] == "PT5M"
    update = {"properties": {"scaleSettings": auto(idleTimeBeforeScaleDown="PT1H")}}
    assert parse_cluster_update(update, OLD).ignored == ignored


def test_idle_time_of_a_manual_scale_is_not_known() -> None:
    with pytest.raises(InvalidResource) as caught:
        parse_cluster(cluster(scaleSettings__manual__idleTimeBeforeScaleDown="PT1H"), NEW)
    assert caught.value.target == "properties.scaleSettings.manual.idleTimeBeforeScaleDown"


@pytest.mark.parametrize("text", ["PT0S", "P" + "9" * 400 + "D"])
def test_a_wall_clock_needs_a_time_that_can_be(text: str) -> None:
    with pytest.raises(InvalidResource):
        parse_job(job(constraints={"maxWallClockTime": text}), OLD)


IMAGE = {"image": "a", "serverUrl": "registry.example.com", "credentials": {"username": "u", "password": "p4ss"}}


def test_images_ahead_keep_their_passwords_apart() -> None:
    parsed = parse_cluster(cluster(nodeSetup={"containerImages": [{"image": "b"}, IMAGE]}), NEW)
    stored = definition(parsed.model)["nodeSetup"]["containerImages"]
    assert [image["image"] for image in stored] == ["b", "a"]
    assert "p4ss" not in str(stored)
    assert secrets_of(parsed.model)["/nodeSetup/containerImages/1/credentials/password"] == "p4ss"


def test_images_ahead_need_whole_credentials() -> None:
    with pytest.raises(InvalidResource) as caught:
        parse_cluster(cluster(nodeSetup={"containerImages": [{"image": "a", "credentials": {"username": "u"}}]}), NEW)
    assert "properties.nodeSetup.containerImages[0].credentials" in str(caught.value.target)


def test_images_ahead_are_passed_over_by_the_original() -> None:
    parsed = parse_cluster(cluster(nodeSetup={"containerImages": [IMAGE]}), OLD)
    assert parsed.ignored == ("properties.nodeSetup.containerImages",)
    assert "containerImages" not in definition(parsed.model)["nodeSetup"]
