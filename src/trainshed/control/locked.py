"""Secrets on their way to the engine: sealed inside the transaction that decides, opened after it, in memory only.

Opening may fail for one job or cluster (its key is gone, its Key Vault secret was deleted), and Key Vault is not ours:
neither may hold up or undo the decisions about all the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection

from trainshed.control.volumes import AccountLock, admitted
from trainshed.engines.protocol import ClusterSpec, FileServerSpec, GangSpec
from trainshed.resources.definition import (
    FILE_SERVER_PASSWORD,
    JOB_SECRET_VARIABLES,
    SETUP_SECRET_VARIABLES,
    job_secret_environment,
    setup_secret_environment,
)
from trainshed.resources.keyvault import Reference, SecretName, SecretUnavailable, references_of
from trainshed.store import secrets

#: Opens a sealed secret; the context (its owner's uid) must be the one that it was sealed with. Raises
#: SecretUnavailable.
Unseal = Callable[[bytes, str], str]
#: The value of a Key Vault secret for the workspace with this key. Raises SecretUnavailable. Called from threads.
Resolve = Callable[[SecretName, str], str]


def no_keyvault(secret: SecretName, workspace: str) -> str:
    """What resolves references where there is no key vault: nothing."""
    raise SecretUnavailable(f"there is no key vault that could have the {secret}")


@dataclass(frozen=True, slots=True)
class Locked:
    """What must be opened for one job or cluster."""

    owner_uid: str
    workspace_key: str
    #: Sealed values by their place in the definition.
    sealed: Mapping[str, bytes] = field(default_factory=dict)
    references: tuple[Reference, ...] = ()
    #: The keys of the embedded accounts that volumes lie on, by the volume's ``credentials``.
    accounts: Mapping[str, AccountLock] = field(default_factory=dict)

    def open(self, unseal: Unseal, resolve: Resolve) -> dict[str, str]:
        """All values by place. Raises SecretUnavailable, which names the first that cannot be had."""
        values = {path: unseal(sealed, self.owner_uid) for path, sealed in self.sealed.items()}
        for reference in self.references:
            try:
                secret = reference.secret()
            except ValueError as error:
                raise SecretUnavailable(f"{reference.target}: {error}") from None
            try:
                values[reference.pointer] = resolve(secret, self.workspace_key)
            except SecretUnavailable as error:
                raise type(error)(f"{reference.target} does not resolve: {error}") from error
        return values

    def keys(self, unseal: Unseal) -> dict[str, tuple[str, ...]]:
        """The keys of the accounts. Raises SecretUnavailable."""
        return {
            credentials: tuple(unseal(key, lock.account_uid) for key in lock.sealed)
            for credentials, lock in self.accounts.items()
        }


def locked(
    tx: Connection,
    owner_uid: str,
    workspace_key: str,
    definition: Mapping[str, Any],
    accounts: Mapping[str, AccountLock],
    *,
    sealed: bool,
) -> Locked:
    """The secrets of a job or cluster; ``sealed``: whether its sealed values are needed."""
    return Locked(
        owner_uid,
        workspace_key,
        secrets.get(tx, owner_uid) if sealed else {},
        tuple(references_of(definition)),
        accounts,
    )


class Opener:
    """Opens what is locked, off the event loop where another system is asked."""

    def __init__(self, unseal: Unseal, resolve: Resolve) -> None:
        self._unseal = unseal
        self._resolve = resolve

    async def gang(self, gang: GangSpec, secrets: Locked) -> GangSpec:
        """The specification with the values of the job's secrets. Raises SecretUnavailable."""
        opened = await self._open(secrets)
        return replace(
            gang,
            secrets=job_secret_environment(gang.properties, opened),
            private=_without(opened, JOB_SECRET_VARIABLES),
            volumes=admitted(gang.volumes, opened, secrets.keys(self._unseal)),
        )

    async def cluster(self, cluster: ClusterSpec, secrets: Locked) -> ClusterSpec:
        """The specification with the values of the cluster's secrets. Raises SecretUnavailable."""
        opened = await self._open(secrets)
        return replace(
            cluster,
            setup_secrets=setup_secret_environment({"nodeSetup": cluster.node_setup}, opened),
            private=_without(opened, SETUP_SECRET_VARIABLES),
            volumes=admitted(cluster.volumes, opened, secrets.keys(self._unseal)),
        )

    async def file_server(self, server: FileServerSpec, secrets: Locked) -> FileServerSpec:
        """The specification with the password of its administrator. Raises SecretUnavailable."""
        opened = await self._open(secrets)
        return replace(server, admin_password=opened.get(FILE_SERVER_PASSWORD, ""))

    async def _open(self, secrets: Locked) -> dict[str, str]:
        if secrets.references:
            return await asyncio.to_thread(secrets.open, self._unseal, self._resolve)
        return secrets.open(self._unseal, self._resolve)


def _without(opened: Mapping[str, str], place: str) -> dict[str, str]:
    return {pointer: value for pointer, value in opened.items() if not pointer.startswith(f"{place}/")}
