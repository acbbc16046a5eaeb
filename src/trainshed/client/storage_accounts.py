"""Embedded storage accounts: directories that the service owns, under the names that job files use."""

from __future__ import annotations

from collections.abc import Mapping

from trainshed.client.effects import Steps
from trainshed.client.models import Record, StorageAccount
from trainshed.client.noun import M, Noun, listing, operation
from trainshed.client.transport import pages, request, send


class StorageAccounts(Noun[M]):
    """The storage accounts of the scope's subscription and resource group."""

    @operation
    def create(
        self, name: str, *, location: str = "local", tags: Mapping[str, str] | None = None
    ) -> Steps[StorageAccount]:
        """Create an account; the same again is the one that is there."""
        body = {"location": location, "kind": "StorageV2", "sku": {"name": "Standard_LRS"}, "tags": dict(tags or {})}
        reply = yield from send(request("PUT", self.scope.storage_account_path(name), body=body))
        return StorageAccount(reply.json())

    @operation
    def get(self, name: str) -> Steps[StorageAccount]:
        """The account. Raises NotFoundError."""
        return StorageAccount((yield from send(request("GET", self.scope.storage_account_path(name)))).json())

    @listing(StorageAccount)
    def list(self, *, everywhere: bool = False, limit_per_page: int | None = None) -> Steps[None]:
        """Accounts of the resource group, or of the whole subscription."""
        path = self.scope.storage_accounts_path(everywhere=everywhere)
        yield from pages(request("GET", path, query={"maxresults": limit_per_page}), StorageAccount)

    @operation
    def keys(self, name: str) -> Steps[tuple[Record, ...]]:
        """Its two keys: ``keyName`` and ``value``. Raises NotFoundError."""
        reply = yield from send(request("POST", f"{self.scope.storage_account_path(name)}/listKeys"))
        return tuple(Record(entry) for entry in reply.json()["keys"])

    @operation
    def regenerate_key(self, name: str, key_name: str) -> Steps[tuple[Record, ...]]:
        """A new ``key1`` or ``key2``; the old one is of no use any more."""
        path = f"{self.scope.storage_account_path(name)}/regenerateKey"
        reply = yield from send(request("POST", path, body={"keyName": key_name}))
        return tuple(Record(entry) for entry in reply.json()["keys"])

    @operation
    def delete(self, name: str) -> Steps[bool]:
        """Delete the account with all that is stored in it. False when it was not there."""
        return (yield from send(request("DELETE", self.scope.storage_account_path(name)))).status != 204
