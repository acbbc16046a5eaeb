"""MountVolumes: the file systems that a cluster or a job mounts (rest-contract section 6, behaviour 3.6)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from trainshed.resources.common import (
    MAX_ENTRIES,
    CommandLine,
    KeyVaultSecretReference,
    Model,
    Path,
    ResourceRef,
    SecretField,
    Text,
)
from trainshed.resources.newer_mounts import GitRepository, HostDirectory, ReadCache, S3Bucket, SftpDirectory

_RELATIVE = "Where it appears, relative to the mount root"


class AzureStorageCredentials(Model):
    """AzureStorageCredentialsInfo: a key or a reference to one. Comes back as ``{}`` when a key was given."""

    account_key: SecretField = Field(default=None, description="Key of the storage account; never returned")
    account_key_secret_reference: KeyVaultSecretReference | None = None


class AzureFileShare(Model):
    """An Azure Files share, mounted over SMB."""

    account_name: Text = Field(description="Name of the storage account")
    azure_file_url: Path = Field(
        description="URL of the share", examples=["https://account.file.core.windows.net/share"]
    )
    credentials: AzureStorageCredentials = Field(description="The account's key, or a reference to it")
    relative_mount_path: Path = Field(description=_RELATIVE, examples=["data"])
    file_mode: str = "0777"
    directory_mode: str = "0777"


class AzureBlobFileSystem(Model):
    """An Azure Blob container as a file system."""

    since_2026: ClassVar[frozenset[str]] = frozenset({"cache"})

    account_name: Text = Field(description="Name of the storage account")
    container_name: Text = Field(description="Name of the container", examples=["data"])
    credentials: AzureStorageCredentials = Field(description="The account's key, or a reference to it")
    relative_mount_path: Path = Field(description=_RELATIVE, examples=["data"])
    mount_options: CommandLine | None = None
    #: 2026-11-01: keep on the node what was read; the container is then mounted read-only.
    cache: ReadCache | None = Field(
        default=None, description="Mounted read-only, and what was read is kept on the node for the next jobs"
    )


class FileServerMount(Model):
    """FileServerReference: a managed file server, mounted by NFS."""

    file_server: ResourceRef = Field(description="The file server")
    source_directory: Path | None = None
    relative_mount_path: Path = Field(description=_RELATIVE, examples=["nfs"])
    mount_options: CommandLine | None = None


class UnmanagedFileSystem(Model):
    """Any file system that a command mounts; the mount path is appended to the command."""

    mount_command: Annotated[str, Field(min_length=1, max_length=65_536)] = Field(
        description="The command; the mount path is appended", examples=["mount -t nfs server:/export"]
    )
    relative_mount_path: Path = Field(description=_RELATIVE, examples=["data"])


class MountVolumes(Model):
    """The volumes of a cluster or a job, by kind."""

    since_2026: ClassVar[frozenset[str]] = frozenset(
        {"s3Buckets", "sftpDirectories", "hostDirectories", "gitRepositories"}
    )

    azure_file_shares: Annotated[list[AzureFileShare], Field(max_length=MAX_ENTRIES)] | None = None
    azure_blob_file_systems: Annotated[list[AzureBlobFileSystem], Field(max_length=MAX_ENTRIES)] | None = None
    file_servers: Annotated[list[FileServerMount], Field(max_length=MAX_ENTRIES)] | None = None
    unmanaged_file_systems: Annotated[list[UnmanagedFileSystem], Field(max_length=MAX_ENTRIES)] | None = None
    s3_buckets: Annotated[list[S3Bucket], Field(max_length=MAX_ENTRIES)] | None = None
    sftp_directories: Annotated[list[SftpDirectory], Field(max_length=MAX_ENTRIES)] | None = None
    host_directories: Annotated[list[HostDirectory], Field(max_length=MAX_ENTRIES)] | None = None
    git_repositories: Annotated[list[GitRepository], Field(max_length=MAX_ENTRIES)] | None = None
