"""Resource groups: the folders of Azure Resource Manager (rest-contract section 13)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from trainshed.resources.common import Model
from trainshed.resources.workspace import Tags

_ENVELOPE = frozenset({"id", "name", "type", "properties", "managedBy"})


class ResourceGroupCreate(Model):
    """Body of PUT resource group."""

    read_only: ClassVar[frozenset[str]] = _ENVELOPE

    location: str = Field(description="The region", min_length=1, max_length=64, examples=["local"])
    tags: Tags | None = None


class ResourceGroupUpdate(Model):
    """Body of PATCH resource group: the tags replace those that were."""

    read_only: ClassVar[frozenset[str]] = _ENVELOPE | {"location"}

    tags: Tags | None = None
