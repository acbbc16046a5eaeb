"""Where resources are: subscription, resource group, workspace and experiment, and the paths that follow from them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from trainshed.resources.names import LOCAL_SUBSCRIPTION

_PROVIDER = "providers/Microsoft.BatchAI"


@dataclass(frozen=True, slots=True)
class Scope:
    """The parents that a call's resources have. Paths are rest-contract section 2's."""

    subscription: str = LOCAL_SUBSCRIPTION
    resource_group: str = "trainshed"
    workspace: str = "default"
    experiment: str = "default"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Scope:
        """``TRAINSHED_SUBSCRIPTION``, ``_RESOURCE_GROUP``, ``_WORKSPACE`` and ``_EXPERIMENT``, with defaults."""
        environ = os.environ if environ is None else environ
        default = cls()
        return cls(
            environ.get("TRAINSHED_SUBSCRIPTION") or default.subscription,
            environ.get("TRAINSHED_RESOURCE_GROUP") or default.resource_group,
            environ.get("TRAINSHED_WORKSPACE") or default.workspace,
            environ.get("TRAINSHED_EXPERIMENT") or default.experiment,
        )

    @property
    def subscription_path(self) -> str:
        return f"/subscriptions/{quote(self.subscription, safe='')}"

    @property
    def group_path(self) -> str:
        return f"{self.subscription_path}/resourceGroups/{quote(self.resource_group, safe='')}"

    def resource_group_path(self, name: str | None = None) -> str:
        return f"{self.subscription_path}/resourceGroups/{quote(name or self.resource_group, safe='')}"

    def storage_accounts_path(self, *, everywhere: bool = False) -> str:
        parent = self.subscription_path if everywhere else self.group_path
        return f"{parent}/providers/Microsoft.Storage/storageAccounts"

    def storage_account_path(self, name: str) -> str:
        return f"{self.storage_accounts_path()}/{quote(name, safe='')}"

    def share_path(self, account: str, share: str, *, container: bool = False) -> str:
        """A file share of a storage account, or a container."""
        service = "blobs" if container else "files"
        return f"{self.storage_account_path(account)}/services/{service}/volumes/{quote(share, safe='')}"

    def provider_path(self, *parts: str) -> str:
        """Below the provider of the subscription: ``locations``, ``workspaces`` ..."""
        return "/".join([self.subscription_path, _PROVIDER, *(quote(part, safe="") for part in parts)])

    def workspaces_path(self) -> str:
        return f"{self.group_path}/{_PROVIDER}/workspaces"

    def workspace_path(self, name: str | None = None) -> str:
        return f"{self.workspaces_path()}/{quote(name or self.workspace, safe='')}"

    def cluster_path(self, name: str) -> str:
        return f"{self.workspace_path()}/clusters/{quote(name, safe='')}"

    def file_server_path(self, name: str) -> str:
        return f"{self.workspace_path()}/fileServers/{quote(name, safe='')}"

    def experiment_path(self, name: str | None = None) -> str:
        return f"{self.workspace_path()}/experiments/{quote(name or self.experiment, safe='')}"

    def job_array_path(self, name: str) -> str:
        return f"{self.experiment_path()}/jobArrays/{quote(name, safe='')}"

    def job_path(self, name: str) -> str:
        return f"{self.experiment_path()}/jobs/{quote(name, safe='')}"
