"""Where Key Vault references lead: a provider that is plugged in, and the embedded one, which reads files.

A provider is an entry point of the group ``trainshed.keyvault``: a callable that takes the service's home and returns
a ``KeyVault``. ``TRAINSHED_KEYVAULT`` names it; ``file``, the default, is the embedded one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from trainshed.identity.private_files import UnsafeSecretFile
from trainshed.resources.keyvault import SecretName

PROVIDER_VARIABLE = "TRAINSHED_KEYVAULT"
GROUP = "trainshed.keyvault"
_EMBEDDED = "file"


class KeyVault(Protocol):
    """What a provider can do. Called from threads."""

    def get(self, secret: SecretName, workspace: str) -> str:
        """The secret's value, for the workspace with this key (``{subscription}/{group}/{workspace}``, lower case).

        Raises SecretUnavailable when there is no such secret, or when the workspace may not use the vault: the two are
        not told apart where that would reveal what exists.
        """
        ...


def open_keyvault(home: Path, environ: Mapping[str, str] | None = None) -> KeyVault:
    """The provider that the environment names. Raises UnsafeSecretFile when there is none of that name."""
    name = (os.environ if environ is None else environ).get(PROVIDER_VARIABLE) or _EMBEDDED
    if name == _EMBEDDED:
        from trainshed.identity.keyvault_files import FileKeyVault

        return FileKeyVault(home / "keyvault")
    for found in entry_points(group=GROUP, name=name):
        provider: KeyVault = found.load()(home)
        return provider
    known = ", ".join([_EMBEDDED, *sorted(entry.name for entry in entry_points(group=GROUP))])
    raise UnsafeSecretFile(f"{PROVIDER_VARIABLE} names {name!r}, and no such provider is installed; there is: {known}")
