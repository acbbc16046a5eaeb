"""Key rings, and what a vault with several keys opens."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainshed.identity import LinkRefused, LinkSigner, UnsafeSecretFile, Vault, VaultError
from trainshed.identity.keyring import KeyRing
from trainshed.identity.rotation import Rotation

OLD, NEW = bytes(range(32)), bytes(32)


def test_a_vault_seals_with_its_first_key_and_opens_with_any() -> None:
    old = Vault(OLD).seal(b"v", b"c")
    both = Vault(NEW, OLD)
    assert both.unseal(old, b"c") == b"v"
    assert Vault(NEW).unseal(both.seal(b"w", b"c"), b"c") == b"w"
    again = both.reseal(old, "c")
    assert Vault(NEW).unseal(again, b"c") == b"v"
    assert both.reseal(again, "c") == again


def test_a_key_that_is_dropped_opens_nothing() -> None:
    vault = Vault(OLD)
    sealed = vault.seal(b"v", b"c")
    vault.adopt(NEW)
    assert (vault.keys, vault.unseal(sealed, b"c")) == ((NEW, OLD), b"v")
    vault.drop(OLD)
    with pytest.raises(VaultError, match="another key"):
        vault.unseal(sealed, b"c")


def test_the_ring_is_kept_in_order(tmp_path: Path) -> None:
    KeyRing((NEW, OLD)).write(tmp_path)
    assert KeyRing.load_or_create(tmp_path, {}).keys == (NEW, OLD)
    assert (tmp_path / "vault.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["vault.key"]


def test_a_ring_with_a_line_that_is_no_key_is_refused(tmp_path: Path) -> None:
    KeyRing((NEW,)).write(tmp_path)
    with (tmp_path / "vault.key").open("a") as file:
        file.write("half a key\n")
    with pytest.raises(UnsafeSecretFile, match="is not a vault key"):
        KeyRing.load_or_create(tmp_path, {})


def test_several_keys_of_the_environment() -> None:
    ring = KeyRing.load_or_create(Path("/nowhere"), {"TRAINSHED_VAULT_KEY": f"{NEW.hex()} {OLD.hex()} {NEW.hex()}"})
    assert (ring.keys, ring.from_file) == ((NEW, OLD), False)


def test_keys_do_not_print(tmp_path: Path) -> None:
    assert str(OLD) not in repr(KeyRing((OLD,)))


def test_links_end_with_the_key_that_signed_them(tmp_path: Path) -> None:
    KeyRing((OLD,)).write(tmp_path)
    vault = Vault(OLD)
    signer = LinkSigner.from_vault(vault)
    given = dict(pair.split("=") for pair in signer.query("/f", 2_000_000_000_000).replace("%3A", ":").split("&"))
    signer.check("/f", given, 0)
    rotation = Rotation(tmp_path, KeyRing((OLD,)), vault, NEW)
    rotation.stage()
    rotation.finish()
    assert KeyRing.load_or_create(tmp_path, {}).keys == (NEW,)
    with pytest.raises(LinkRefused):
        signer.check("/f", given, 0)


def test_a_rotation_that_is_abandoned_leaves_the_old_key(tmp_path: Path) -> None:
    KeyRing((OLD,)).write(tmp_path)
    vault = Vault(OLD)
    rotation = Rotation(tmp_path, KeyRing((OLD,)), vault)
    rotation.stage()
    rotation.abandon()
    assert vault.keys == KeyRing.load_or_create(tmp_path, {}).keys == (OLD,)
