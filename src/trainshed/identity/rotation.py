"""Giving the vault a new key: three steps, and a crash between any two loses nothing.

1. ``stage``: the key file names the new key first and the old ones after it. Whatever is sealed with either opens.
2. ``reseal``: every stored secret is sealed with the new key, in one transaction of the database.
3. ``finish``: the key file names the new key alone.

A rotation that was cut after the first or second step is completed by the next one. Where the keys come from the
environment there is no file to write: the transaction is then the whole rotation, and before and after it either key,
or both, in ``TRAINSHED_VAULT_KEY`` open what is stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from trainshed.identity.keyring import KeyRing, new_key
from trainshed.identity.vault import Vault, VaultError, key_id, sealed_by

#: A stored secret: whose it is, its place in the description, and its sealed value.
Stored = tuple[str, str, bytes]


class Rotation:
    """One change of a vault's key."""

    def __init__(self, home: Path, ring: KeyRing, vault: Vault, key: bytes | None = None) -> None:
        """``key``: the new one; None for one that nobody has seen."""
        self._home = home
        self._ring = ring
        self._vault = vault
        self._old = vault.keys
        self.key = key or new_key()

    def stage(self) -> None:
        """Seal with the new key from now on. Raises OSError; then nothing has changed."""
        if self._ring.from_file:
            KeyRing((self.key, *(old for old in self._old if old != self.key))).write(self._home)
        self._vault.adopt(self.key)

    def reseal(self, stored: Iterable[Stored]) -> dict[tuple[str, str], bytes]:
        """Secrets that another key sealed, under the new one, by owner and place.

        Raises VaultError, which names the first that does not open.
        """
        changed: dict[tuple[str, str], bytes] = {}
        for owner, path, sealed in stored:
            try:
                again = self._vault.reseal(sealed, owner)
            except VaultError as error:
                raise VaultError(f"the secret {path} of the resource with uid {owner}: {error}") from None
            if again != sealed:
                changed[owner, path] = again
        return changed

    def finish(self) -> None:
        """The old keys are not kept any more: nothing that is stored is sealed with them. Raises OSError."""
        if self._ring.from_file:
            KeyRing((self.key,)).write(self._home)

    def abandon(self) -> None:
        """Take ``stage`` back, when it is certain that nothing was stored under the new key."""
        if self.key in self._old:
            return
        if self._ring.from_file:
            KeyRing(self._old).write(self._home)
        self._vault.adopt(self._old[0])
        self._vault.drop(self.key)


@dataclass(frozen=True, slots=True)
class Survey:
    """What a database holds: how many secrets each key sealed, by the key's id, and which do not open."""

    by_key: dict[str, int]
    unreadable: tuple[tuple[str, str], ...] = ()


def survey(vault: Vault, stored: Iterable[Stored]) -> Survey:
    """Try to open every stored secret."""
    counted: Counter[str] = Counter({key_id(key).hex(): 0 for key in vault.keys})
    unreadable = []
    for owner, path, sealed in stored:
        try:
            vault.unseal(sealed, owner.encode())
            counted[sealed_by(sealed).hex()] += 1
        except VaultError:
            unreadable.append((owner, path))
    return Survey(dict(counted), tuple(unreadable))
