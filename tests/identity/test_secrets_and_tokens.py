"""Tokens, the vault and the files that they are kept in."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.identity import Tokens, UnsafeSecretFile, Vault, VaultError
from trainshed.identity.private_files import read_or_create, read_private

KEY = bytes(range(32))


def test_token_is_made_once_and_private(tmp_path: Path) -> None:
    first = Tokens.load_or_create(tmp_path)
    path = tmp_path / "admin.token"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().strip() == first.admin
    assert len(first.admin) >= 32
    assert Tokens.load_or_create(tmp_path) == first


def test_token_is_accepted_and_no_other(tmp_path: Path) -> None:
    tokens = Tokens.load_or_create(tmp_path)
    assert tokens.accepts(tokens.admin)
    for other in ("", tokens.admin[:-1], tokens.admin + "x", tokens.admin.swapcase(), "größe", "\udcff"):
        assert not tokens.accepts(other)


def test_token_does_not_print(tmp_path: Path) -> None:
    tokens = Tokens.load_or_create(tmp_path)
    assert tokens.admin not in repr(tokens)


@pytest.mark.parametrize("content", [b"", b"short", b"two words that are long enough", b"\xff" * 20])
def test_a_file_without_a_token_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "admin.token"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(UnsafeSecretFile, match="no usable token"):
        Tokens.load_or_create(tmp_path)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o602])
def test_a_file_that_others_have_access_to_is_refused_with_the_way_out(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "admin.token"
    path.write_text("x" * 40)
    path.chmod(mode)
    with pytest.raises(UnsafeSecretFile, match="chmod 600"):
        Tokens.load_or_create(tmp_path)


def test_a_link_or_a_pipe_is_no_secret_file(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to("real")
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("link", "pipe"):
        with pytest.raises(UnsafeSecretFile):
            read_private(tmp_path / name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_bytes(b"x")
    path.chmod(0o600)
    os.chown(path, 12345, 12345)
    with pytest.raises(UnsafeSecretFile, match="12345"):
        read_private(path)


def test_starters_at_once_agree_on_one_content(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)
    found: set[bytes] = set()

    def start() -> None:
        barrier.wait()
        found.add(read_or_create(tmp_path / "s", lambda: os.urandom(8).hex().encode()))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_what_is_sealed_opens_again(value: bytes, context: bytes) -> None:
    vault = Vault(KEY)
    sealed = vault.seal(value, context)
    assert vault.unseal(sealed, context) == value
    assert len(sealed) == 1 + 8 + 12 + len(value) + 16


def test_sealing_twice_gives_different_bytes() -> None:
    assert Vault(KEY).seal(b"x", b"") != Vault(KEY).seal(b"x", b"")


def test_text_is_bound_to_its_owner() -> None:
    vault = Vault(KEY)
    sealed = vault.seal_text("pässword \U0001f600", "job-1")
    assert vault.unseal_text(sealed, "job-1") == "pässword \U0001f600"
    with pytest.raises(VaultError):
        vault.unseal_text(sealed, "job-2")


@pytest.mark.parametrize("position", [0, 1, 8, 9, 21, -1])
def test_changed_bytes_do_not_open(position: int) -> None:
    vault = Vault(KEY)
    sealed = bytearray(vault.seal(b"value", b"c"))
    sealed[position] ^= 1
    with pytest.raises(VaultError):
        vault.unseal(bytes(sealed), b"c")


def test_another_key_does_not_open_and_says_so() -> None:
    with pytest.raises(VaultError, match="another key"):
        Vault(bytes(32)).unseal(Vault(KEY).seal(b"v", b""), b"")


def test_key_is_made_once_and_private(tmp_path: Path) -> None:
    sealed = Vault.load_or_create(tmp_path, {}).seal(b"v", b"")
    assert (tmp_path / "vault.key").stat().st_mode & 0o777 == 0o600
    assert Vault.load_or_create(tmp_path, {}).unseal(sealed, b"") == b"v"


@pytest.mark.parametrize("text", [KEY.hex(), KEY.hex().upper(), base64.b64encode(KEY).decode(), f" {KEY.hex()}\n"])
def test_key_from_the_environment_leaves_no_file(tmp_path: Path, text: str) -> None:
    vault = Vault.load_or_create(tmp_path, {"TRAINSHED_VAULT_KEY": text})
    assert Vault(KEY).unseal(vault.seal(b"v", b""), b"") == b"v"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["x", KEY.hex()[:-2], base64.b64encode(KEY[:31]).decode(), "!" * 44])
def test_what_is_no_key_is_refused_with_the_way_out(tmp_path: Path, text: str) -> None:
    with pytest.raises(UnsafeSecretFile, match="openssl rand"):
        Vault.load_or_create(tmp_path, {"TRAINSHED_VAULT_KEY": text})


def test_derived_keys_differ_by_purpose_and_key() -> None:
    keys = {Vault(KEY).derive("links"), Vault(KEY).derive("other"), Vault(bytes(32)).derive("links"), KEY}
    assert len(keys) == 4
    assert Vault(KEY).derive("links") == Vault(KEY).derive("links")


def test_cryptography_is_imported_only_when_something_is_sealed() -> None:
    code = (
        "import sys; from trainshed.identity import Vault; v = Vault(bytes(32)); v.derive('x');"
        "assert 'cryptography' not in sys.modules; v.seal(b'', b''); assert 'cryptography' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
