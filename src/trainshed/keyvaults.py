"""What an administrator does to the embedded key vaults of a home, on the service's machine."""

from __future__ import annotations

from pathlib import Path

from trainshed.identity.keyvault_files import EVERYBODY, FileKeyVault, VaultListing
from trainshed.resources.keyvault import SecretName

__all__ = ["allow", "delete_secret", "list_vaults", "set_secret"]


def set_secret(home: Path, vault: str, name: str, version: str | None, value: str) -> None:
    """Write a secret. Raises ValueError for what cannot be one, OSError."""
    secret = _secret(vault, name, version)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    _vaults(home).set(secret, value)


def delete_secret(home: Path, vault: str, name: str, version: str | None) -> bool:
    """Remove a secret; False when it was not there. Raises ValueError, OSError."""
    return _vaults(home).delete(_secret(vault, name, version))


def list_vaults(home: Path) -> list[VaultListing]:
    """The vaults with their secrets' names."""
    return list(_vaults(home).listing())


def allow(home: Path, vault: str, workspaces: list[str], *, remove: bool) -> list[str]:
    """Open a vault to workspaces (``{subscription}/{group}/{workspace}`` or ``*``), or close it.

    Returns who may use it then. Raises ValueError, OSError.
    """
    for workspace in workspaces:
        if workspace != EVERYBODY and (workspace.count("/") != 2 or not all(workspace.split("/"))):
            raise ValueError(f"{workspace!r} is no workspace: write SUBSCRIPTION/GROUP/WORKSPACE, or * for all")
    keys = frozenset(workspace.lower() for workspace in workspaces)
    return sorted(_vaults(home).allow(vault.lower(), keys, remove=remove))


def _secret(vault: str, name: str, version: str | None) -> SecretName:
    return SecretName(vault.lower(), name.lower(), None if version is None else version.lower())


def _vaults(home: Path) -> FileKeyVault:
    return FileKeyVault(home / "keyvault")
