"""The secrets vault: seals secrets' values before they are stored (AES-256-GCM).

A sealed value is bound to its context, the uid of the resource that it belongs to: copied to another's row, it no
longer opens. It names the key that sealed it, so that a rotation can be cut at any instant: the key ring keeps the old
key until every value is sealed with the new one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trainshed.identity.keyring import KEY_BYTES, KEY_VARIABLE, KeyRing
from trainshed.resources.keyvault import SecretUnavailable
from trainshed.resources.reasons import ReasonCode

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12
_TAG_BYTES = 16
_ID_BYTES = 8
#: Version of the form: version, id of the key, nonce, ciphertext with its tag.
_VERSION = b"\x02"
_BODY = 1 + _ID_BYTES + _NONCE_BYTES


class VaultError(SecretUnavailable):
    """A sealed value does not open: another key sealed it, it was changed, or it belongs to another resource."""

    code = ReasonCode.SECRET_UNREADABLE


class Vault:
    """Seals bytes with its first key, and opens what any of its keys sealed."""

    def __init__(self, key: bytes, *previous: bytes) -> None:
        for given in (key, *previous):
            if len(given) != KEY_BYTES:
                raise ValueError(f"a vault key has {KEY_BYTES} bytes, not {len(given)}")
        self._use((key, *previous))

    def _use(self, keys: tuple[bytes, ...]) -> None:
        self._keys = keys
        self._by_id = {key_id(key): key for key in keys}
        self._ciphers: dict[bytes, AESGCM] = {}

    @classmethod
    def load_or_create(cls, home: Path, environ: Mapping[str, str] | None = None) -> Vault:
        """The vault of a home, with the keys of ``KeyRing.load_or_create``. Raises UnsafeSecretFile."""
        return cls(*KeyRing.load_or_create(home, environ).keys)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys, first the one that seals."""
        return self._keys

    def adopt(self, key: bytes) -> None:
        """Seal with another key from now on; what is sealed already still opens."""
        self._use((key, *(old for old in self._keys if old != key)))

    def drop(self, *keys: bytes) -> None:
        """Forget keys, but for the one that seals. What they sealed does not open any more."""
        self._use(tuple(key for key in self._keys if key == self._keys[0] or key not in keys))

    def seal(self, value: bytes, context: bytes) -> bytes:
        """The value, readable only with the vault's key and the same context."""
        key = self._keys[0]
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _VERSION + key_id(key) + nonce + self._aead(key).encrypt(nonce, value, context)

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        """What ``seal`` was given. Raises VaultError."""
        from cryptography.exceptions import InvalidTag

        key = self._by_id.get(sealed_by(sealed))
        if key is None:
            raise VaultError(
                f"a stored secret does not open: it was sealed with another key (is this the vault.key, or the "
                f"{KEY_VARIABLE}, that this database was made with?), or the database was changed"
            )
        try:
            return self._aead(key).decrypt(sealed[1 + _ID_BYTES : _BODY], sealed[_BODY:], context)
        except InvalidTag:
            raise VaultError(
                "a stored secret does not open although its key is there: the database was changed, or the secret "
                "belongs to another resource. Restore the database from a backup, or create the resource again"
            ) from None

    def seal_text(self, value: str, owner_uid: str) -> bytes:
        """A secret of the resource with this uid, sealed for it alone."""
        return self.seal(value.encode("utf-8", "surrogatepass"), owner_uid.encode())

    def unseal_text(self, sealed: bytes, owner_uid: str) -> str:
        """What ``seal_text`` was given. Raises VaultError."""
        return self.unseal(sealed, owner_uid.encode()).decode("utf-8", "surrogatepass")

    def reseal(self, sealed: bytes, owner_uid: str) -> bytes:
        """The same secret under the first key; unchanged when it is. Raises VaultError when it does not open."""
        value = self.unseal(sealed, owner_uid.encode())
        return sealed if sealed_by(sealed) == key_id(self._keys[0]) else self.seal(value, owner_uid.encode())

    def derive(self, purpose: str) -> bytes:
        """A key for another purpose (32 bytes; HKDF-Expand of RFC 5869, one block): it tells nothing about this one.

        It follows from the first key: after a rotation it is another one.
        """
        return _expand(self._keys[0], purpose)

    def _aead(self, key: bytes) -> AESGCM:
        cipher = self._ciphers.get(key)
        if cipher is None:
            # Imported when the first secret comes: most starts have none.
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            cipher = self._ciphers[key] = AESGCM(key)
        return cipher


def key_id(key: bytes) -> bytes:
    """What names a key (8 bytes) and tells nothing about it."""
    return _expand(key, "id")[:_ID_BYTES]


def sealed_by(sealed: bytes) -> bytes:
    """The id of the key that sealed a value. Raises VaultError when it is no sealed value."""
    if sealed[:1] != _VERSION or len(sealed) < _BODY + _TAG_BYTES:
        raise VaultError("this is not a value that the vault sealed: the database was changed")
    return sealed[1 : 1 + _ID_BYTES]


def _expand(key: bytes, purpose: str) -> bytes:
    return hmac.digest(key, b"trainshed:" + purpose.encode() + b"\x01", hashlib.sha256)
