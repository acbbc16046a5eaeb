"""Workspaces and experiments: the folders of everything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainshed.client.effects import Steps
from trainshed.client.models import Experiment, Record, Workspace
from trainshed.client.noun import M, Noun, listing, operation
from trainshed.client.poller import change, create
from trainshed.client.transport import pages, request, send


class Workspaces(Noun[M]):
    """The workspaces of the scope's subscription and resource group."""

    @operation
    def create(
        self, name: str | None = None, *, location: str = "local", tags: Mapping[str, str] | None = None
    ) -> Steps[Workspace]:
        """Create the workspace, or replace the tags of the one that is there."""
        body: dict[str, object] = {"location": location}
        if tags:
            body["tags"] = dict(tags)
        reply = yield from create(request("PUT", self.scope.workspace_path(name), body=body), wait=True)
        return Workspace(reply.json())

    @operation
    def get(self, name: str | None = None) -> Steps[Workspace]:
        """The workspace. Raises NotFoundError."""
        return Workspace((yield from send(request("GET", self.scope.workspace_path(name)))).json())

    @listing(Workspace)
    def list(self, *, everywhere: bool = False, limit_per_page: int | None = None) -> Steps[None]:
        """Workspaces of the resource group, or of the whole subscription."""
        path = self.scope.provider_path("workspaces") if everywhere else self.scope.workspaces_path()
        yield from pages(request("GET", path, query={"maxresults": limit_per_page}), Workspace)

    @operation
    def update(self, name: str | None = None, *, tags: Mapping[str, str]) -> Steps[Workspace]:
        """Replace the tags."""
        reply = yield from send(request("PATCH", self.scope.workspace_path(name), body={"tags": dict(tags)}))
        return Workspace(reply.json())

    @operation
    def scheduling_rules(self, name: str | None = None) -> Steps[Record]:
        """Its rules (``properties.fairShare``, ``.limits``), and who uses how much (``.standing``)."""
        path = f"{self.scope.workspace_path(name)}/schedulingRules"
        return Record((yield from send(request("GET", path))).json())

    @operation
    def set_scheduling_rules(self, rules: Mapping[str, Any], name: str | None = None) -> Steps[Record]:
        """Replace all its rules by these: ``fairShare`` and ``limits``; none when empty."""
        path = f"{self.scope.workspace_path(name)}/schedulingRules"
        return Record((yield from send(request("PUT", path, body={"properties": dict(rules)}))).json())

    @operation
    def delete(self, name: str | None = None, *, wait: bool = True) -> Steps[bool]:
        """Delete the workspace and all that is in it. False when it was not there."""
        return (yield from change(request("DELETE", self.scope.workspace_path(name)), wait=wait))


class Experiments(Noun[M]):
    """The experiments of the scope's workspace."""

    @operation
    def create(self, name: str | None = None) -> Steps[Experiment]:
        """Create the experiment; the same again is the one that is there."""
        reply = yield from create(request("PUT", self.scope.experiment_path(name)), wait=True)
        return Experiment(reply.json())

    @operation
    def get(self, name: str | None = None) -> Steps[Experiment]:
        """The experiment. Raises NotFoundError."""
        return Experiment((yield from send(request("GET", self.scope.experiment_path(name)))).json())

    @listing(Experiment)
    def list(self, *, limit_per_page: int | None = None) -> Steps[None]:
        """Experiments of the workspace."""
        path = f"{self.scope.workspace_path()}/experiments"
        yield from pages(request("GET", path, query={"maxresults": limit_per_page}), Experiment)

    @operation
    def delete(self, name: str | None = None, *, wait: bool = True) -> Steps[bool]:
        """Delete the experiment and its jobs. False when it was not there."""
        return (yield from change(request("DELETE", self.scope.experiment_path(name)), wait=wait))
