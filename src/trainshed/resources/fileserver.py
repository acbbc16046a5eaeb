"""File servers: a managed NFS server of one node (rest-contract section 6, behaviour 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from trainshed.resources.cluster import UserAccountSettings
from trainshed.resources.common import Model, ResourceRef, VmSizeName, choice

CachingType = Annotated[
    Literal["none", "readonly", "readwrite"], BeforeValidator(choice("none", "readonly", "readwrite"))
]
StorageAccountType = Annotated[
    Literal["Standard_LRS", "Premium_LRS"], BeforeValidator(choice("Standard_LRS", "Premium_LRS"))
]


class SshConfiguration(Model):
    """Who may reach the server by SSH."""

    public_ips_to_allow: Annotated[list[str], Field(max_length=400)] | None = Field(
        default=None, alias="publicIPsToAllow"
    )
    user_account_settings: UserAccountSettings = Field(description="Administrator's account")


class DataDisks(Model):
    """The disks that hold the data; several make one RAID 0."""

    disk_size_in_gb: int = Field(
        alias="diskSizeInGB", ge=1, le=32_767, description="Size of each disk in GB", examples=[100]
    )
    caching_type: CachingType = "none"
    disk_count: int = Field(ge=1, le=64, description="Number of disks", examples=[1])
    storage_account_type: StorageAccountType = Field(
        description="Standard_LRS or Premium_LRS", examples=["Standard_LRS"]
    )


class FileServerProperties(Model):
    """FileServerBaseProperties of the contract."""

    read_only: ClassVar[frozenset[str]] = frozenset(
        {"mountSettings", "creationTime", "provisioningState", "provisioningStateTransitionTime"}
    )

    vm_size: VmSizeName = Field(description="Size of the server", examples=["STANDARD_D2"])
    ssh_configuration: SshConfiguration = Field(description="Account and addresses for SSH")
    data_disks: DataDisks = Field(description="The data disks")
    subnet: ResourceRef | None = None


class FileServerCreate(Model):
    """Body of PUT file server."""

    read_only: ClassVar[frozenset[str]] = frozenset({"id", "name", "type"})

    properties: FileServerProperties = Field(description="What the file server is to be")


def subnet_of(definition: Mapping[str, Any], subscription: str, uid: str) -> str:
    """The id of its subnet: the one that was given, else one that is its own, named as the original named those.

    The original made a network for each server without one: ``{guid}vnet`` with ``Subnet-1`` in a group
    ``fileserverrg-{guid}`` (rest-contract section 7). Here it is a name; nodes of this machine have no such network.
    """
    given = (definition.get("subnet") or {}).get("id")
    return given or (
        f"/subscriptions/{subscription}/resourceGroups/fileserverrg-{uid}"
        f"/providers/Microsoft.Network/virtualNetworks/{uid}vnet/subnets/Subnet-1"
    )
