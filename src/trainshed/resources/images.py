"""Images of containers and the registries that have them (rest-contract section 6)."""

from __future__ import annotations

from pydantic import Field

from trainshed.resources.common import KeyVaultSecretReference, Model, Path, SecretField, Text


class PrivateRegistryCredentials(Model):
    """Sign-in at a private registry."""

    username: Text = Field(description="User name at the registry")
    password: SecretField = Field(default=None, description="Password at the registry; never returned")
    password_secret_reference: KeyVaultSecretReference | None = None


class ImageSourceRegistry(Model):
    """Which container image, from which registry."""

    server_url: Path | None = None
    image: Path = Field(description="Name of the image", examples=["ubuntu"])
    credentials: PrivateRegistryCredentials | None = None
