"""Who is calling, and the secrets vault."""

from trainshed.identity.links import LinkRefused, LinkSigner
from trainshed.identity.private_files import UnsafeSecretFile
from trainshed.identity.tokens import Tokens
from trainshed.identity.vault import Vault, VaultError

__all__ = ["LinkRefused", "LinkSigner", "Tokens", "UnsafeSecretFile", "Vault", "VaultError"]
