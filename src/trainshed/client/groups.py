"""Resource groups: the folders of workspaces and storage accounts."""

from __future__ import annotations

from collections.abc import Mapping

from trainshed.client.effects import Request, Sleep, Steps
from trainshed.client.models import ResourceGroup
from trainshed.client.noun import M, Noun, listing, operation
from trainshed.client.transport import exists, pages, request, retry_after, send

#: Pauses in seconds between the first polls of a deletion; then Retry-After holds.
_FIRST_PAUSES = (0.05, 0.1, 0.2, 0.4)


class ResourceGroups(Noun[M]):
    """The resource groups of the scope's subscription."""

    @operation
    def create(
        self, name: str | None = None, *, location: str = "local", tags: Mapping[str, str] | None = None
    ) -> Steps[ResourceGroup]:
        """Create the group, or replace the tags of the one that is there."""
        body = {"location": location, "tags": dict(tags or {})}
        return ResourceGroup((yield from send(request("PUT", self.scope.resource_group_path(name), body=body))).json())

    @operation
    def get(self, name: str | None = None) -> Steps[ResourceGroup]:
        """The group. Raises NotFoundError."""
        return ResourceGroup((yield from send(request("GET", self.scope.resource_group_path(name)))).json())

    @listing(ResourceGroup)
    def list(self, *, limit_per_page: int | None = None) -> Steps[None]:
        """Groups of the subscription."""
        path = f"{self.scope.subscription_path}/resourceGroups"
        yield from pages(request("GET", path, query={"maxresults": limit_per_page}), ResourceGroup)

    @operation
    def exists(self, name: str | None = None) -> Steps[bool]:
        """Whether there is such a group."""
        return (yield from exists(request("GET", self.scope.resource_group_path(name))))

    @operation
    def delete(self, name: str | None = None, *, wait: bool = True) -> Steps[None]:
        """Delete the group with everything in it. Raises NotFoundError when it is not there, as Azure does."""
        reply = yield from send(request("DELETE", self.scope.resource_group_path(name)))
        pauses = iter(_FIRST_PAUSES)
        while wait and reply.status == 202 and "location" in reply.headers:
            pause = next(pauses, None)
            yield Sleep(retry_after(reply.headers, 1.0) if pause is None else pause)
            reply = yield from send(Request("GET", reply.headers["location"]))
