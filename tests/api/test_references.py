"""Key Vault references over HTTP: checked when they are sent, stored, shown, and never turned into values."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.service import CLUSTER, JOB, NEW, OLD, WS_KEY, Service, cluster_body, job_body
from trainshed.resources.keyvault import SecretName

pytestmark = pytest.mark.slow

MARK = "marked-value-of-the-vault"


def reference(name: str = "Token", vault: str = "research") -> dict[str, Any]:
    return {
        "sourceVault": {"id": f"/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/{vault}"},
        "secretUrl": f"https://{vault}.vault.azure.net/secrets/{name}",
    }


def by_reference(given: dict[str, Any]) -> dict[str, Any]:
    return job_body(secrets=[{"name": "TOKEN", "valueSecretReference": given}])


@pytest.fixture
def vaulted(shed: Service) -> Service:
    shed.keyvault.set(SecretName("research", "token"), MARK)
    shed.keyvault.allow("research", frozenset({WS_KEY}))
    return shed


@pytest.mark.parametrize("version", [OLD, NEW])
def test_a_reference_that_resolves_is_stored_and_shown_without_its_value(vaulted: Service, version: str) -> None:
    answer = vaulted.send("PUT", JOB, by_reference(reference()), version=version)
    assert answer.status_code == 202
    shown = vaulted.send("GET", JOB, version=version)
    assert shown.json()["properties"]["secrets"] == [{"name": "TOKEN", "valueSecretReference": reference()}]
    assert MARK not in str(vaulted.dump()) and MARK not in shown.text


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (reference("other"), "SecretNotFound", "trainshed keyvault set research other"),
        (reference(vault="finance"), "SecretNotFound", "trainshed keyvault allow finance sub/group/ws"),
        (reference("../../admin.token"), "InvalidPropertyValue", "is not a secret's URL"),
        (reference("..%2f..%2fadmin.token"), "InvalidPropertyValue", "is not the name of a secret"),
        ({**reference(), "secretUrl": "file:///etc/shadow"}, "InvalidPropertyValue", "is not a secret's URL"),
    ],
)
def test_a_reference_that_does_not_resolve_is_refused_and_changes_nothing(
    vaulted: Service, given: dict[str, Any], code: str, said: str
) -> None:
    before = vaulted.dump()
    answer = vaulted.send("PUT", JOB, by_reference(given))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, code)
    assert error["target"] == "properties.secrets[0].valueSecretReference"
    assert said in error["message"] and MARK not in answer.text
    assert vaulted.dump() == before


def test_another_workspace_may_not_use_the_vault(vaulted: Service) -> None:
    other = JOB.replace("/workspaces/ws/", "/workspaces/other/")
    vaulted.send("PUT", JOB.partition("/experiments")[0].replace("/ws", "/other"), {"location": "local"})
    vaulted.send("PUT", other.partition("/jobs")[0])
    answer = vaulted.send("PUT", other, by_reference(reference()))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "SecretNotFound")
    assert "sub/group/other has no access" in answer.json()["error"]["message"]


def test_the_same_job_again_is_the_same_also_without_its_secret(vaulted: Service) -> None:
    vaulted.send("PUT", JOB, by_reference(reference()))
    vaulted.keyvault.delete(SecretName("research", "token"))
    assert vaulted.send("PUT", JOB, by_reference(reference())).status_code == 200


def test_every_place_of_a_reference_is_checked(vaulted: Service) -> None:
    share = {
        "accountName": "a",
        "azureFileUrl": "https://a.file.core.windows.net/s",
        "relativeMountPath": "data",
        "credentials": {"accountKeySecretReference": reference("none")},
    }
    insights = {"component": {"id": "/c"}, "instrumentationKeySecretReference": reference("none")}
    task = {
        "commandLine": "true",
        "stdOutErrPathPrefix": "/logs",
        "secrets": [{"name": "A", "valueSecretReference": reference("none")}],
    }
    registry = {"image": "i", "credentials": {"username": "u", "passwordSecretReference": reference("none")}}
    volumes = {"azureFileShares": [share]}
    bodies = {
        "properties.mountVolumes.azureFileShares[0].credentials.accountKeySecretReference": job_body(
            mountVolumes=volumes
        ),
        "properties.containerSettings.imageSourceRegistry.credentials.passwordSecretReference": job_body(
            containerSettings={"imageSourceRegistry": registry}
        ),
        "properties.nodeSetup.setupTask.secrets[0].valueSecretReference": cluster_body(nodeSetup={"setupTask": task}),
        "properties.nodeSetup.mountVolumes.azureFileShares[0].credentials.accountKeySecretReference": cluster_body(
            nodeSetup={"mountVolumes": volumes}
        ),
        "properties.nodeSetup.performanceCountersSettings.appInsightsReference.instrumentationKeySecretReference": (
            cluster_body(nodeSetup={"performanceCountersSettings": {"appInsightsReference": insights}})
        ),
    }
    for target, body in bodies.items():
        path = f"{CLUSTER}2" if "nodeSetup" in target else JOB
        answer = vaulted.send("PUT", path, body)
        assert (answer.status_code, answer.json()["error"].get("target")) == (400, target)
    vaulted.keyvault.set(SecretName("research", "none"), MARK)
    for target, body in bodies.items():
        path = f"{CLUSTER}{len(target)}" if "nodeSetup" in target else f"{JOB}{len(target)}"
        assert vaulted.send("PUT", path, body).status_code == 202
    assert MARK not in str(vaulted.dump())
