"""Clusters: making, resizing and looking at them, and what the location has of sizes and quota."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from trainshed.client.effects import Steps
from trainshed.client.models import Cluster, Record, RemoteLogin
from trainshed.client.noun import M, Noun, listing, operation
from trainshed.client.poller import change, create
from trainshed.client.transport import API_VERSION, pages, request, send


class Clusters(Noun[M]):
    """The clusters of the scope's workspace."""

    @operation
    def create(
        self, name: str, properties: Mapping[str, Any], *, wait: bool = True, version: str = API_VERSION
    ) -> Steps[Cluster]:
        """Create a cluster from the contract's properties. Done when it is recorded; its nodes come afterwards."""
        body = {"properties": dict(properties)}
        reply = yield from create(request("PUT", self.scope.cluster_path(name), body=body, version=version), wait=wait)
        return Cluster(reply.json())

    @operation
    def get(self, name: str) -> Steps[Cluster]:
        """The cluster. Raises NotFoundError."""
        return Cluster((yield from send(request("GET", self.scope.cluster_path(name)))).json())

    @listing(Cluster)
    def list(self, *, limit_per_page: int | None = None) -> Steps[None]:
        """Clusters of the workspace."""
        path = f"{self.scope.workspace_path()}/clusters"
        yield from pages(request("GET", path, query={"maxresults": limit_per_page}), Cluster)

    @operation
    def resize(self, name: str, nodes: int, *, deallocation: str | None = None) -> Steps[Cluster]:
        """Set a manual size. ``deallocation``: requeue, terminate or waitforjobcompletion."""
        manual: dict[str, Any] = {"targetNodeCount": nodes}
        if deallocation:
            manual["nodeDeallocationOption"] = deallocation
        return (yield from self._scale(name, {"manual": manual}))

    @operation
    def auto_scale(self, name: str, minimum: int, maximum: int, *, idle_time: str | None = None) -> Steps[Cluster]:
        """Let the cluster follow its queue. ``idle_time`` (ISO 8601): how long a node without work stays."""
        bounds: dict[str, Any] = {"minimumNodeCount": minimum, "maximumNodeCount": maximum}
        if idle_time is not None:
            bounds["idleTimeBeforeScaleDown"] = idle_time
        return (yield from self._scale(name, {"autoScale": bounds}))

    @operation
    def delete(self, name: str, *, wait: bool = True) -> Steps[bool]:
        """Delete the cluster; its running jobs are stopped. False when it was not there."""
        return (yield from change(request("DELETE", self.scope.cluster_path(name)), wait=wait))

    @listing(Record)
    def queue(self, name: str, *, limit: int | None = None) -> Steps[None]:
        """The jobs that wait for the cluster, in the order in which they are served, each with why."""
        path = f"{self.scope.cluster_path(name)}/queue"
        yield from pages(request("GET", path, query={"maxresults": limit}), Record)

    @listing(Record)
    def nodes(self, name: str) -> Steps[None]:
        """Its nodes: id, state, address, host name, and the reason when one is not usable."""
        yield from pages(request("GET", f"{self.scope.cluster_path(name)}/nodes"), Record)

    @operation
    def evict_node(self, name: str, node: str) -> Steps[Record]:
        """Take a node away at once; its job is queued again. Another one comes if the scale settings ask for it."""
        path = f"{self.scope.cluster_path(name)}/nodes/{quote(node, safe='')}/evict"
        return Record((yield from send(request("POST", path))).json())

    @listing(Record)
    def events(self, name: str) -> Steps[None]:
        """What happened to it, oldest first."""
        yield from pages(request("GET", f"{self.scope.cluster_path(name)}/events"), Record)

    @listing(RemoteLogin)
    def remote_logins(self, name: str) -> Steps[None]:
        """Where one can log in to its nodes (rest-contract section 10)."""
        yield from pages(request("POST", f"{self.scope.cluster_path(name)}/listRemoteLoginInformation"), RemoteLogin)

    @listing(Record)
    def sizes(self, location: str = "local") -> Steps[None]:
        """VM sizes that clusters can have: this machine's and Azure's."""
        yield from pages(request("GET", self.scope.provider_path("locations", location, "vmSizes")), Record)

    @listing(Record)
    def usages(self, location: str = "local") -> Steps[None]:
        """Usage and limits (rest-contract section 11)."""
        yield from pages(request("GET", self.scope.provider_path("locations", location, "usages")), Record)

    def _scale(self, name: str, settings: Mapping[str, Any]) -> Steps[Cluster]:
        body = {"properties": {"scaleSettings": settings}}
        return Cluster((yield from send(request("PATCH", self.scope.cluster_path(name), body=body))).json())
