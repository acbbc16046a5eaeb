"""Workspaces: the top container, and the only resource with a location and tags."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from trainshed.resources.common import Model

Tags = Annotated[dict[str, str], Field(max_length=50)]
_ENVELOPE = frozenset({"id", "name", "type", "properties"})


class WorkspaceCreate(Model):
    """Body of PUT workspace."""

    read_only: ClassVar[frozenset[str]] = _ENVELOPE

    location: str = Field(description="The region", min_length=1, max_length=64, examples=["local"])
    tags: Tags | None = None


class WorkspaceUpdate(Model):
    """Body of PATCH workspace: the tags replace those that were."""

    read_only: ClassVar[frozenset[str]] = _ENVELOPE | {"location"}

    tags: Tags | None = None
