"""Key Vault references: where in a description they stand, and which secret of which vault each names.

A reference is ``{"sourceVault": {"id": ARM id of the vault}, "secretUrl": URL of the secret}`` in a member that ends in
``SecretReference``, in place of the member that holds the value itself. Rules of names:
https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates#objects-identifiers-and-versioning
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from trainshed.resources.reasons import Reason, ReasonCode

SUFFIX = "SecretReference"
VAULT_RULE = "3 to 24 letters, digits and '-', beginning with a letter"
SECRET_RULE = "1 to 127 letters, digits and '-'"

_VAULT = re.compile(r"[a-z][a-z0-9-]{1,22}[a-z0-9]", re.ASCII)
_SECRET = re.compile(r"[a-z0-9-]{1,127}", re.ASCII)
#: Clouds of the original.
_HOSTS = ("vault.azure.net", "vault.azure.cn", "vault.usgovcloudapi.net", "vault.microsoftazure.de")
_EXAMPLE = "https://myvault.vault.azure.net/secrets/mysecret"


class SecretUnavailable(Exception):
    """A secret cannot be had now; the message says which, why and what to do, and never a value."""

    code = ReasonCode.SECRET_NOT_FOUND

    @property
    def reason(self) -> Reason:
        """As a job's or cluster's error."""
        return Reason(self.code, str(self))


@dataclass(frozen=True, slots=True)
class SecretName:
    """A secret of a vault, in lower case (Key Vault's names are the same in any case). No version: the newest."""

    vault: str
    name: str
    version: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError when a part is no name: only such parts ever become parts of a path."""
        if not _VAULT.fullmatch(self.vault):
            raise ValueError(f"{self.vault!r} is not the name of a vault: it has {VAULT_RULE}")
        if not _SECRET.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is not the name of a secret: it has {SECRET_RULE}")
        if self.version is not None and not _SECRET.fullmatch(self.version):
            raise ValueError(f"{self.version!r} is not the version of a secret: it has {SECRET_RULE}")

    def __str__(self) -> str:
        version = f" in version {self.version}" if self.version else ""
        return f"secret {self.name}{version} of key vault {self.vault}"


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference in a definition."""

    #: Where the value itself would stand, as ``secrets_of`` names it.
    pointer: str
    #: The member, as messages name it: ``properties.secrets[0].valueSecretReference``.
    target: str
    given: Any

    def secret(self) -> SecretName:
        """What it names. Raises ValueError with what is wrong and what would be right."""
        if not isinstance(self.given, Mapping):
            raise ValueError("it is no object with sourceVault and secretUrl")
        name = parse_secret_url(str(self.given.get("secretUrl")))
        vault_id = str((self.given.get("sourceVault") or {}).get("id"))
        parts = vault_id.lower().strip("/").split("/")
        if parts[-3:-1] != ["microsoft.keyvault", "vaults"] or parts[0] != "subscriptions":
            raise ValueError(
                f"sourceVault.id {vault_id[:200]!r} is not a vault's id; write "
                "/subscriptions/{s}/resourceGroups/{g}/providers/Microsoft.KeyVault/vaults/{vault}"
            )
        if parts[-1] != name.vault:
            raise ValueError(
                f"sourceVault.id names the vault {parts[-1][:50]!r}, but secretUrl the vault {name.vault!r}"
            )
        return name


def parse_secret_url(url: str) -> SecretName:
    """``https://{vault}.vault.azure.net/secrets/{name}[/{version}]``. Raises ValueError with the way out."""
    wrong = ValueError(f"secretUrl {url[:200]!r} is not a secret's URL; write for example {_EXAMPLE}")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or ""), parts.port
    except ValueError:
        raise wrong from None
    vault, _, domain = host.partition(".")
    words = parts.path.lower().strip("/").split("/")
    if (
        parts.scheme.lower() != "https" or domain not in _HOSTS or port not in (None, 443) or parts.query
        or parts.fragment or "@" in parts.netloc or words[0] != "secrets" or len(words) not in (2, 3)
    ):  # fmt: skip
        raise wrong
    try:
        return SecretName(vault, words[1], words[2] if len(words) == 3 else None)
    except ValueError as error:
        raise ValueError(f"secretUrl {url[:200]!r}: {error}") from None


def references_of(definition: Mapping[str, Any]) -> list[Reference]:
    """All references of a job's or cluster's properties."""
    return list(_walk(definition, "", "properties"))


def _walk(value: Any, pointer: str, target: str) -> Iterator[Reference]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name.endswith(SUFFIX):
                member = name.removesuffix(SUFFIX)
                # A secret variable's place is its own; other values have a member's.
                place = pointer if member == "value" else f"{pointer}/{member}"
                yield Reference(place, f"{target}.{name}", inner)
            else:
                yield from _walk(inner, f"{pointer}/{name}", f"{target}.{name}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _walk(inner, f"{pointer}/{index}", f"{target}[{index}]")
