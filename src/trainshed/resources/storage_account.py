"""Storage accounts as far as embedded ones need them: the shapes of Microsoft.Storage, without its features."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from trainshed.resources.common import Model, Text, choice
from trainshed.resources.workspace import Tags

#: The names that listKeys gives to an account's two keys.
KEY_NAMES = ("key1", "key2")

_KINDS = ("Storage", "StorageV2", "BlobStorage", "FileStorage", "BlockBlobStorage")
Kind = Annotated[
    Literal["Storage", "StorageV2", "BlobStorage", "FileStorage", "BlockBlobStorage"], BeforeValidator(choice(*_KINDS))
]
KeyName = Annotated[Literal["key1", "key2"], BeforeValidator(choice(*KEY_NAMES))]


class Sku(Model):
    """Kind of redundancy: kept and shown, without effect on a directory."""

    read_only: ClassVar[frozenset[str]] = frozenset({"tier"})

    name: Text = Field(description="Name of the SKU", examples=["Standard_LRS"])


class StorageAccountCreate(Model):
    """Body of PUT storage account."""

    location: str = Field(description="The region", min_length=1, max_length=64, examples=["local"])
    kind: Kind = "StorageV2"
    sku: Sku = Field(default_factory=lambda: Sku(name="Standard_LRS"))
    tags: Tags | None = None


class RegenerateKey(Model):
    """Body of POST regenerateKey."""

    key_name: KeyName = Field(description="key1 or key2", examples=["key1"])


class CheckName(Model):
    """Body of POST checkNameAvailability."""

    name: str = Field(description="The name", max_length=256, examples=["mydata"])
    type: str = Field(default="Microsoft.Storage/storageAccounts", max_length=256)
