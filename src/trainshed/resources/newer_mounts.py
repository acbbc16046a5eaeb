"""Kinds of volumes that 2026-11-01 adds to mountVolumes: S3, SFTP, directories of the host, and git repositories."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from trainshed.resources.common import KeyVaultSecretReference, Model, Path, SecretField, Text

_RELATIVE = "Where it appears, relative to the mount root"
_HOST_KEY = "The server's public key, as `ssh-keyscan HOST` prints it without the host's name"
_UNCHECKED = "Accept whatever key the server has: whoever is between can read and change all"
#: Largest cache of one volume, in GB.
MAX_CACHE_GB = 100_000


class ReadCache(Model):
    """What was read of a read-only volume stays on the node, for the next jobs of the same workspace too.

    Content is told apart by what the storage says of it: size and checksum, or size and time of change.
    """

    max_size_in_gb: int = Field(
        alias="maxSizeInGB", ge=1, le=MAX_CACHE_GB, description="What is read longest ago goes first", examples=[50]
    )


class S3Credentials(Model):
    """An access key of S3, or of what speaks its protocol."""

    access_key_id: Text = Field(description="Id of the access key", examples=["AKIAIOSFODNN7EXAMPLE"])
    secret_access_key: SecretField = Field(default=None, description="The access key itself; never returned")
    secret_access_key_secret_reference: KeyVaultSecretReference | None = None


class S3Bucket(Model):
    """A bucket of Amazon S3, or of what speaks its protocol at an endpoint of its own."""

    bucket: Text = Field(description="Name of the bucket", examples=["data"])
    prefix: Path | None = Field(default=None, description="The part of the bucket that is mounted; all when absent")
    endpoint: Path | None = Field(
        default=None, description="URL of the server; Amazon's when absent", examples=["https://s3.example.org"]
    )
    region: Text | None = None
    provider: Text | None = Field(
        default=None, description="Whose S3 it is, as rclone names them (AWS, Minio, Ceph, Cloudflare ...)"
    )
    credentials: S3Credentials | None = Field(default=None, description="None for what anybody may read")
    relative_mount_path: Path = Field(description=_RELATIVE, examples=["data"])
    is_read_only: bool = Field(default=False, alias="readOnly")
    cache: ReadCache | None = None


class SshCredentials(Model):
    """A password or a private key (PEM or OpenSSH's format, without a passphrase)."""

    password: SecretField = Field(default=None, description="Never returned")
    password_secret_reference: KeyVaultSecretReference | None = None
    private_key: SecretField = Field(default=None, description="Never returned")
    private_key_secret_reference: KeyVaultSecretReference | None = None


class SftpDirectory(Model):
    """A directory of a server that is reached by SSH."""

    host: Text = Field(description="The server's name or address", examples=["data.example.org"])
    port: Annotated[int, Field(ge=1, le=65_535)] = 22
    path: Path = Field(
        default=".", description="The directory there; relative to the user's home unless it begins with /"
    )
    user: Text = Field(description="Who signs in there", examples=["alice"])
    credentials: SshCredentials = Field(description="A password or a private key, or a reference to one")
    host_key: Text | None = Field(default=None, description=_HOST_KEY, examples=["ssh-ed25519 AAAA..."])
    skip_host_key_check: bool = Field(default=False, description=_UNCHECKED)
    relative_mount_path: Path = Field(description=_RELATIVE, examples=["data"])
    is_read_only: bool = Field(default=False, alias="readOnly")
    cache: ReadCache | None = None


class HostDirectory(Model):
    """A directory of the machine that the node is on. The administrator says which ones (host-directories.json)."""

    path: Path = Field(description="Absolute path on the machine", examples=["/data/imagenet"])
    relative_mount_path: Path = Field(description=_RELATIVE, examples=["data"])
    is_read_only: bool = Field(default=False, alias="readOnly")


class GitCredentials(Model):
    """A password or token (https), or a private key without a passphrase (ssh)."""

    user: Text | None = Field(default=None, description="Whose password it is; servers that take tokens ignore it")
    password: SecretField = Field(default=None, description="A password or a token; never returned")
    password_secret_reference: KeyVaultSecretReference | None = None
    private_key: SecretField = Field(default=None, description="Never returned")
    private_key_secret_reference: KeyVaultSecretReference | None = None


class GitRepository(Model):
    """The files of one commit, read-only; without history, submodules and large files (LFS)."""

    repository_url: Path = Field(
        description="https, http, ssh or git URL", examples=["https://git.example.org/team/code.git"]
    )
    revision: Text | None = Field(
        default=None, description="A commit, branch or tag; the default branch when absent", examples=["main"]
    )
    credentials: GitCredentials | None = Field(default=None, description="None for what anybody may read")
    host_key: Text | None = Field(default=None, description=_HOST_KEY, examples=["ssh-ed25519 AAAA..."])
    skip_host_key_check: bool = Field(default=False, description=_UNCHECKED)
    relative_mount_path: Path = Field(description=_RELATIVE, examples=["code"])
