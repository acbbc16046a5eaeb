"""The secrets vault: seals secrets' values before they are stored (AES-256-GCM).

A sealed value is bound to its context, the uid of the resource that it belongs to: copied to another's row, it no
longer opens. The key lies in ``vault.key`` beside the database, or comes from ``TRAINSHED_VAULT_KEY`` so that it need
not lie on disk.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trainshed.identity.private_files import UnsafeSecretFile, read_or_create

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_VARIABLE = "TRAINSHED_VAULT_KEY"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_VERSION = b"\x01"


class VaultError(Exception):
    """A sealed value does not open: another key sealed it, it was changed, or it belongs to another resource."""


class Vault:
    """Seals and unseals bytes with one key."""

    def __init__(self, key: bytes) -> None:
        if len(key) != _KEY_BYTES:
            raise ValueError(f"a vault key has {_KEY_BYTES} bytes, not {len(key)}")
        self._key = key
        self._cipher: AESGCM | None = None

    @classmethod
    def load_or_create(cls, home: Path, environ: Mapping[str, str] | None = None) -> Vault:
        """The vault of a home. The key is ``TRAINSHED_VAULT_KEY`` if set, else ``{home}/vault.key``, made if absent.

        Raises UnsafeSecretFile when others can read the file, or when what is given is no key.
        """
        given = (os.environ if environ is None else environ).get(KEY_VARIABLE)
        if given:
            return cls(_decode(given, f"the environment variable {KEY_VARIABLE}"))
        path = home / "vault.key"
        content = read_or_create(path, lambda: base64.b64encode(secrets.token_bytes(_KEY_BYTES)) + b"\n")
        return cls(_decode(content.decode("ascii", "replace"), str(path)))

    def seal(self, value: bytes, context: bytes) -> bytes:
        """The value, readable only with the vault's key and the same context."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _VERSION + nonce + self._aead().encrypt(nonce, value, context)

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        """What ``seal`` was given. Raises VaultError."""
        from cryptography.exceptions import InvalidTag

        body = 1 + _NONCE_BYTES
        if sealed[:1] != _VERSION or len(sealed) < body + 16:
            raise VaultError("this is not a value that the vault sealed")
        try:
            return self._aead().decrypt(sealed[1:body], sealed[body:], context)
        except InvalidTag:
            raise VaultError(
                "a stored secret does not open: it was sealed with another key (is this the vault.key, or the "
                f"{KEY_VARIABLE}, that this database was made with?), or the database was changed"
            ) from None

    def seal_text(self, value: str, owner_uid: str) -> bytes:
        """A secret of the resource with this uid, sealed for it alone."""
        return self.seal(value.encode("utf-8", "surrogatepass"), owner_uid.encode())

    def unseal_text(self, sealed: bytes, owner_uid: str) -> str:
        """What ``seal_text`` was given. Raises VaultError."""
        return self.unseal(sealed, owner_uid.encode()).decode("utf-8", "surrogatepass")

    def derive(self, purpose: str) -> bytes:
        """A key for another purpose (32 bytes; HKDF-Expand of RFC 5869, one block): it tells nothing about this one."""
        return hmac.digest(self._key, b"trainshed:" + purpose.encode() + b"\x01", hashlib.sha256)

    def _aead(self) -> AESGCM:
        if self._cipher is None:
            # Imported when the first secret comes: most starts have none.
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            self._cipher = AESGCM(self._key)
        return self._cipher


def _decode(text: str, source: str) -> bytes:
    text = text.strip()
    try:
        key = bytes.fromhex(text) if re.fullmatch(r"[0-9a-fA-F]{64}", text) else base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise UnsafeSecretFile(
            f"{source} is not a vault key: it must be {_KEY_BYTES} bytes in base64 or hexadecimal "
            "(for example from: openssl rand -base64 32). Secrets that another key sealed cannot be read with a new one"
        )
    return key
