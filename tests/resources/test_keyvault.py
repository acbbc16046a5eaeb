"""Which secret a reference names, and what is none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.resources.keyvault import SecretName, parse_secret_url, references_of

ID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/Research"
URL = "https://research.vault.azure.net/secrets/Db-Password"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (URL, SecretName("research", "db-password")),
        (f"{URL}/", SecretName("research", "db-password")),
        (f"{URL}/0123ABCD", SecretName("research", "db-password", "0123abcd")),
        ("HTTPS://Research.Vault.Azure.NET:443/Secrets/x", SecretName("research", "x")),
        ("https://research.vault.usgovcloudapi.net/secrets/x", SecretName("research", "x")),
    ],
)
def test_urls(url: str, name: SecretName) -> None:
    assert parse_secret_url(url) == name


@pytest.mark.parametrize(
    "url",
    [
        "",
        "research",
        "http://research.vault.azure.net/secrets/x",
        "https://research.vault.azure.net/keys/x",
        "https://research.vault.azure.net/secrets",
        "https://research.vault.azure.net/secrets/",
        "https://research.vault.azure.net/secrets/x/v/more",
        "https://research.vault.azure.net/secrets/..",
        "https://research.vault.azure.net/secrets/../other/x",
        "https://research.vault.azure.net/secrets/%2e%2e",
        "https://research.vault.azure.net/secrets/x/..",
        "https://research.vault.azure.net/secrets/a.b",
        "https://research.vault.azure.net/secrets/a\\b",
        "https://research.vault.azure.net/secrets/a b",
        "https://research.vault.azure.net/secrets/ä",
        f"https://research.vault.azure.net/secrets/{'x' * 128}",
        "https://research.vault.azure.net/secrets/x?api-version=7.0",
        "https://research.vault.azure.net/secrets/x#f",
        "https://user:password@research.vault.azure.net/secrets/x",
        "https://research.vault.azure.net:8443/secrets/x",
        "https://research.vault.azure.net:x/secrets/x",
        "https://[::1/secrets/x",
        "https://..vault.azure.net/secrets/x",
        "https://a/b.vault.azure.net/secrets/x",
        "https://1abc.vault.azure.net/secrets/x",
        "https://ab.vault.azure.net/secrets/x",
        "https://research.example.com/secrets/x",
        "https://research.vault.azure.net.example.com/secrets/x",
    ],
)
def test_what_is_no_secrets_url(url: str) -> None:
    with pytest.raises(ValueError, match="secretUrl"):
        parse_secret_url(url)


@given(st.text(max_size=60), st.text(max_size=60))
def test_parts_are_names_or_refused(vault: str, name: str) -> None:
    try:
        found = parse_secret_url(f"https://{vault}.vault.azure.net/secrets/{name}")
    except ValueError:
        return
    for part in (found.vault, found.name, found.version or "x"):
        assert part and set(part) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


DEFINITION: dict[str, Any] = {
    "secrets": [{"name": "A"}, {"name": "B", "valueSecretReference": {"n": 1}}],
    "mountVolumes": {"azureFileShares": [{"credentials": {"accountKeySecretReference": {"n": 2}}}]},
    "containerSettings": {"imageSourceRegistry": {"credentials": {"passwordSecretReference": {"n": 3}}}},
    "nodeSetup": {
        "setupTask": {"secrets": [{"name": "C", "valueSecretReference": {"n": 4}}]},
        "performanceCountersSettings": {"appInsightsReference": {"instrumentationKeySecretReference": {"n": 5}}},
    },
}


def test_references_stand_where_their_values_would() -> None:
    found = {reference.given["n"]: (reference.pointer, reference.target) for reference in references_of(DEFINITION)}
    assert found == {
        1: ("/secrets/1", "properties.secrets[1].valueSecretReference"),
        2: (
            "/mountVolumes/azureFileShares/0/credentials/accountKey",
            "properties.mountVolumes.azureFileShares[0].credentials.accountKeySecretReference",
        ),
        3: (
            "/containerSettings/imageSourceRegistry/credentials/password",
            "properties.containerSettings.imageSourceRegistry.credentials.passwordSecretReference",
        ),
        4: ("/nodeSetup/setupTask/secrets/0", "properties.nodeSetup.setupTask.secrets[0].valueSecretReference"),
        5: (
            "/nodeSetup/performanceCountersSettings/appInsightsReference/instrumentationKey",
            "properties.nodeSetup.performanceCountersSettings.appInsightsReference.instrumentationKeySecretReference",
        ),
    }


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ({"sourceVault": {"id": ID}, "secretUrl": URL}, None),
        ({"sourceVault": {"id": ID.lower()}, "secretUrl": URL}, None),
        ({"sourceVault": {"id": ID.replace("Research", "other")}, "secretUrl": URL}, "but secretUrl the vault"),
        ({"sourceVault": {"id": "/research"}, "secretUrl": URL}, "not a vault's id"),
        ({"sourceVault": {"id": ID.replace("KeyVault", "Storage")}, "secretUrl": URL}, "not a vault's id"),
        ({"sourceVault": {"id": ID}, "secretUrl": "x"}, "not a secret's URL"),
        ("x", "no object"),
    ],
)
def test_a_reference_names_one_vault(reference: Any, said: str | None) -> None:
    [found] = references_of({"secrets": [{"valueSecretReference": reference}]})
    if said is None:
        assert found.secret() == SecretName("research", "db-password")
        return
    with pytest.raises(ValueError, match=said):
        found.secret()
