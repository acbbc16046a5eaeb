"""The vault's keys: the one that seals, and those that still open what they sealed while a rotation goes on.

They lie in ``vault.key`` beside the database, one a line in base64, the one that seals first; or they come from
``TRAINSHED_VAULT_KEY``, separated by spaces, so that none need lie on disk.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainshed.identity.private_files import UnsafeSecretFile, read_or_create, replace_private

KEY_VARIABLE = "TRAINSHED_VAULT_KEY"
KEY_BYTES = 32
_FILE = "vault.key"


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys of 32 bytes, the one that seals first. ``from_file`` is False when they came from the environment."""

    keys: tuple[bytes, ...] = field(repr=False)
    from_file: bool = True

    @classmethod
    def load_or_create(cls, home: Path, environ: Mapping[str, str] | None = None) -> KeyRing:
        """The keys of a home: ``TRAINSHED_VAULT_KEY`` if set, else ``{home}/vault.key``, made if absent.

        Raises UnsafeSecretFile when others can read the file, or when what is given is no key.
        """
        given = (os.environ if environ is None else environ).get(KEY_VARIABLE)
        if given:
            return cls(_decode_all(given, f"the environment variable {KEY_VARIABLE}"), from_file=False)
        path = home / _FILE
        content = read_or_create(path, lambda: _encode((new_key(),)))
        return cls(_decode_all(content.decode("ascii", "replace"), str(path)))

    def write(self, home: Path) -> None:
        """Put these keys into ``{home}/vault.key`` in place of what is there: at any instant it holds either."""
        replace_private(home / _FILE, _encode(self.keys))


def new_key() -> bytes:
    """A key that nobody has seen."""
    return secrets.token_bytes(KEY_BYTES)


def decode_key(text: str, source: str) -> bytes:
    """One key in base64 or hexadecimal. Raises UnsafeSecretFile, which names ``source``."""
    text = text.strip()
    try:
        key = bytes.fromhex(text) if re.fullmatch(r"[0-9a-fA-F]{64}", text) else base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise UnsafeSecretFile(
            f"{source} is not a vault key: it must be {KEY_BYTES} bytes in base64 or hexadecimal "
            "(for example from: openssl rand -base64 32). Secrets that another key sealed cannot be read with a new one"
        )
    return key


def _decode_all(text: str, source: str) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(decode_key(word, source) for word in text.split() or [""]))


def _encode(keys: tuple[bytes, ...]) -> bytes:
    return b"".join(base64.b64encode(key) + b"\n" for key in keys)
