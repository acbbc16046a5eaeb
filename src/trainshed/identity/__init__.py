"""Who is calling, what they may do, and the secrets vault."""

from trainshed.identity.callers import ADMINISTRATOR, Caller, Grant, PrincipalKind
from trainshed.identity.links import LinkRefused, LinkSigner
from trainshed.identity.private_files import UnsafeSecretFile
from trainshed.identity.scopes import ROOT, Scope
from trainshed.identity.tokens import Tokens
from trainshed.identity.vault import Vault, VaultError

__all__ = [
    "ADMINISTRATOR",
    "ROOT",
    "Caller",
    "Grant",
    "LinkRefused",
    "LinkSigner",
    "PrincipalKind",
    "Scope",
    "Tokens",
    "UnsafeSecretFile",
    "Vault",
    "VaultError",
]
