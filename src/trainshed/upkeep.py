"""What an administrator does to a home from the service's machine: give the vault a new key, look at what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainshed.identity.keyring import KEY_VARIABLE, KeyRing, decode_key
from trainshed.identity.private_files import UnsafeSecretFile
from trainshed.identity.rotation import Rotation, Survey, survey
from trainshed.identity.vault import Vault, VaultError, key_id
from trainshed.server import AlreadyRunning, only_service_of
from trainshed.store import secrets
from trainshed.store.database import Database
from trainshed.store.errors import StoreError

__all__ = ["CannotRotate", "VaultStatus", "rotate_vault", "vault_status"]


class CannotRotate(Exception):
    """The vault's key stays as it is; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class VaultStatus:
    """The vault of a home. Keys are named by their ids, which tell nothing about them; first the one that seals."""

    source: str
    key_ids: tuple[str, ...]
    #: How many stored secrets each key sealed.
    sealed: dict[str, int]
    #: Owner's uid and place of those that do not open.
    unreadable: tuple[tuple[str, str], ...]

    @property
    def unfinished(self) -> bool:
        """Whether a rotation was cut: old keys are still there."""
        return len(self.key_ids) > 1


def vault_status(home: Path, database_url: str | None = None) -> VaultStatus:
    """What keys there are and what they open. Raises UnsafeSecretFile, StoreError, CannotRotate without a home."""
    _require_home(home)
    ring = KeyRing.load_or_create(home)
    db = Database.open(_url(home, database_url))
    try:
        found = db.read_sync(lambda tx: survey(Vault(*ring.keys), secrets.all(tx)))
    finally:
        db.close_sync()
    return _status(home, ring, found)


def rotate_vault(home: Path, database_url: str | None = None, new_key: str | None = None) -> VaultStatus:
    """Seal every stored secret with a new key and forget the old one. The service must not run meanwhile.

    ``new_key``: in base64 or hexadecimal; None for one that nobody has seen, which needs the key file.

    Raises CannotRotate, UnsafeSecretFile, StoreError; then everything opens as before.
    """
    _require_home(home)
    try:
        with only_service_of(home):
            return _rotate(home, database_url, new_key)
    except AlreadyRunning:
        raise CannotRotate(
            f"the service on {home} is running and holds the old key: trainshed vault rotate --online, or stop it, "
            "rotate, start it again"
        ) from None


def _rotate(home: Path, database_url: str | None, new_key: str | None) -> VaultStatus:
    ring = KeyRing.load_or_create(home)
    if not ring.from_file and new_key is None:
        raise CannotRotate(
            f"the key comes from {KEY_VARIABLE}, where a new one cannot be put from here: make one "
            "(openssl rand -base64 32), keep it, and give it with --new-key-env NAME or --new-key-stdin"
        )
    vault = Vault(*ring.keys)
    rotation = Rotation(home, ring, vault, None if new_key is None else decode_key(new_key, "the new key"))
    if rotation.key == ring.keys[0] and len(ring.keys) == 1:
        raise CannotRotate("the new key is the one that is in use: make another (openssl rand -base64 32)")
    db = Database.open(_url(home, database_url))
    try:
        found = db.read_sync(lambda tx: survey(vault, secrets.all(tx)))
        if found.unreadable:
            raise CannotRotate(_unreadable(found))
        rotation.stage()
        try:
            db.write_sync(lambda tx: secrets.replace(tx, rotation.reseal(secrets.all(tx))))
        except VaultError as error:
            rotation.abandon()
            raise CannotRotate(str(error)) from error
        rotation.finish()
        vault.drop(*ring.keys)
        found = db.read_sync(lambda tx: survey(vault, secrets.all(tx)))
    finally:
        db.close_sync()
    return _status(home, KeyRing(vault.keys, ring.from_file), found)


def _unreadable(found: Survey) -> str:
    owner, path = found.unreadable[0]
    more = f" and {len(found.unreadable) - 1} more" if len(found.unreadable) > 1 else ""
    return (
        f"the secret {path} of the resource with uid {owner}{more} does not open with the keys that are there. With "
        f"the right vault.key or {KEY_VARIABLE} it may; otherwise delete the job or cluster, or restore the database"
    )


def _status(home: Path, ring: KeyRing, found: Survey) -> VaultStatus:
    source = str(home / "vault.key") if ring.from_file else KEY_VARIABLE
    return VaultStatus(source, tuple(key_id(key).hex() for key in ring.keys), found.by_key, found.unreadable)


def _require_home(home: Path) -> None:
    if not home.is_dir():
        raise CannotRotate(f"there is no home at {home}: give --home, or start the service once (trainshed serve)")


def _url(home: Path, database_url: str | None) -> str:
    return database_url or f"sqlite:///{home / 'trainshed.db'}"


#: What the functions above raise for a person to read.
ERRORS = (CannotRotate, UnsafeSecretFile, StoreError)
