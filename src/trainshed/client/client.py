"""``Client``: the service, synchronously."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Generic, Self

from trainshed.client.access import Audit, Principals, Roles, Tokens
from trainshed.client.clusters import Clusters
from trainshed.client.code import Code
from trainshed.client.connection import Connection, find_service
from trainshed.client.drivers import Driver, SyncDriver, WarningListener
from trainshed.client.effects import Call, Request, Steps, TransportFailure
from trainshed.client.file_servers import FileServers
from trainshed.client.files import Files
from trainshed.client.groups import ResourceGroups
from trainshed.client.job_arrays import JobArrays
from trainshed.client.jobs import Jobs
from trainshed.client.noun import M, Noun, Sync, operation
from trainshed.client.scope import Scope
from trainshed.client.storage_accounts import StorageAccounts
from trainshed.client.storage_files import StorageFiles
from trainshed.client.transport import request, send
from trainshed.client.workspaces import Experiments, Workspaces


class Probes(Noun[M]):
    """Whether the service lives and is ready."""

    @operation
    def ready(self) -> Steps[tuple[bool, str]]:
        """Whether ``/readyz`` answers 200, and what it said. One attempt, no retries."""
        try:
            reply = yield Call(Request("GET", "/readyz", timeout=5.0))
        except TransportFailure as failure:
            return False, str(failure)
        return reply.status == 200, reply.body.decode("utf-8", "replace").strip()


class Vault(Noun[M]):
    """The key that seals stored secrets."""

    @operation
    def rotate(self) -> Steps[tuple[str, int]]:
        """Seal all secrets with a new key while the service runs: the key's id, and how many. For administrators."""
        told = (yield from send(request("POST", "/providers/Microsoft.BatchAI/vault/rotate"))).json()
        return str(told["keyId"]), int(told["secrets"])


class Nouns(Generic[M]):
    """Every noun of the API, in one scope."""

    def __init__(self, driver: Driver, scope: Scope) -> None:
        self._bind(driver, scope)

    def _bind(self, driver: Driver, scope: Scope) -> None:
        self.scope = scope
        self.groups: ResourceGroups[M] = ResourceGroups(driver, scope)
        self.storage_accounts: StorageAccounts[M] = StorageAccounts(driver, scope)
        self.storage_files: StorageFiles[M] = StorageFiles(driver, scope)
        self.workspaces: Workspaces[M] = Workspaces(driver, scope)
        self.experiments: Experiments[M] = Experiments(driver, scope)
        self.clusters: Clusters[M] = Clusters(driver, scope)
        self.file_servers: FileServers[M] = FileServers(driver, scope)
        self.jobs: Jobs[M] = Jobs(driver, scope)
        self.job_arrays: JobArrays[M] = JobArrays(driver, scope)
        self.files: Files[M] = Files(driver, scope)
        self.code: Code[M] = Code(driver, scope)
        self.principals: Principals[M] = Principals(driver, scope)
        self.tokens: Tokens[M] = Tokens(driver, scope)
        self.roles: Roles[M] = Roles(driver, scope)
        self.audit: Audit[M] = Audit(driver, scope)
        self.vault: Vault[M] = Vault(driver, scope)
        self.probes: Probes[M] = Probes(driver, scope)
        self._used = driver

    def at(self, **parents: Any) -> Self:
        """The same client, looking elsewhere: ``client.at(workspace="w", experiment="e")``. Shares connections."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._bind(self._used, replace(self.scope, **parents))
        return other


class Client(Nouns[Sync]):
    """The service: ``client.jobs.get("j")`` is a job, ``client.jobs.list()`` an iterator. May be shared by threads."""

    def __init__(
        self,
        scope: Scope | None = None,
        *,
        connection: Connection | None = None,
        on_warning: WarningListener | None = None,
    ) -> None:
        """``connection`` None: found through the environment. Raises NoServiceError when there is no service."""
        locate = find_service if connection is None else lambda: connection
        self._driver = SyncDriver(locate, on_warning)
        super().__init__(self._driver, scope or Scope.from_environment())

    @property
    def connection(self) -> Connection:
        """Where the service is (it may have moved since the client was made)."""
        return self._driver.connection

    def close(self) -> None:
        """Close the connections."""
        self._driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
