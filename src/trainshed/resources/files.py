"""Output files and remote login information: what the API answers, for clients and for the API's document."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainshed.resources.common import Model


class FileProperties(Model):
    """Of files only."""

    last_modified: str = Field(description="UTC, whole seconds")
    content_length: int = Field(description="Size in bytes")


class File(Model):
    """An entry of an output directory. Directories have neither link nor properties (rest-contract section 9)."""

    name: str
    file_type: Literal["file", "directory"]
    download_url: str | None = None
    properties: FileProperties | None = None


class RemoteLoginInformation(Model):
    """How to reach a node by SSH (rest-contract section 10)."""

    node_id: str
    ip_address: str
    port: int
