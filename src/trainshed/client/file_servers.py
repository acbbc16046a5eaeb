"""File servers: a place for data that clusters and jobs mount."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainshed.client.effects import Steps
from trainshed.client.models import FileServer
from trainshed.client.noun import M, Noun, listing, operation
from trainshed.client.poller import change, create
from trainshed.client.transport import API_VERSION, pages, request, send


class FileServers(Noun[M]):
    """The file servers of the scope's workspace."""

    @operation
    def create(
        self, name: str, properties: Mapping[str, Any], *, wait: bool = True, version: str = API_VERSION
    ) -> Steps[FileServer]:
        """Create a file server from the contract's properties. Done when it has its addresses."""
        asked = request(
            "PUT", self.scope.file_server_path(name), body={"properties": dict(properties)}, version=version
        )
        return FileServer((yield from create(asked, wait=wait)).json())

    @operation
    def get(self, name: str) -> Steps[FileServer]:
        """The file server. Raises NotFoundError."""
        return FileServer((yield from send(request("GET", self.scope.file_server_path(name)))).json())

    @listing(FileServer)
    def list(self, *, limit_per_page: int | None = None) -> Steps[None]:
        """File servers of the workspace."""
        path = f"{self.scope.workspace_path()}/fileServers"
        yield from pages(request("GET", path, query={"maxresults": limit_per_page}), FileServer)

    @operation
    def delete(self, name: str, *, wait: bool = True) -> Steps[bool]:
        """Delete the file server with its data. False when it was not there; refused while something mounts it."""
        return (yield from change(request("DELETE", self.scope.file_server_path(name)), wait=wait))
