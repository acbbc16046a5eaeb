"""Rotating the vault's key: everything opens before, after, and wherever it is cut."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from trainshed import upkeep
from trainshed.identity import Vault, VaultError
from trainshed.identity.keyring import KeyRing
from trainshed.identity.rotation import Rotation
from trainshed.identity.vault import key_id, sealed_by
from trainshed.service_home import only_service_of
from trainshed.store import secrets
from trainshed.store.database import Database

pytestmark = pytest.mark.slow

COUNT = 60
KEY, OTHER = bytes(range(32)), bytes(32)
VALUES = {(f"owner-{number % 7}", f"/secrets/{number}"): f"välue-{number}" for number in range(COUNT)}


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("upkeep") / "trainshed.db"
    Database.open(f"sqlite:///{path}").close_sync()
    return path


@pytest.fixture
def home(migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a key and COUNT sealed secrets."""
    monkeypatch.delenv("TRAINSHED_VAULT_KEY", raising=False)
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    shutil.copy(migrated, home / "trainshed.db")
    fill(home, Vault.load_or_create(home))
    return home


def fill(home: Path, vault: Vault) -> None:
    def store(tx: object) -> None:
        for owner in {owner for owner, _ in VALUES}:
            mine = {path: value for (of, path), value in VALUES.items() if of == owner}
            secrets.put(tx, owner, {path: vault.seal_text(value, owner) for path, value in mine.items()})  # type: ignore[arg-type]

    with_database(home, lambda db: db.write_sync(store))


def with_database(home: Path, use: Callable[[Database], object]) -> object:
    db = Database.open(f"sqlite:///{home / 'trainshed.db'}")
    try:
        return use(db)
    finally:
        db.close_sync()


def rows(home: Path) -> dict[tuple[str, str], bytes]:
    """Read with another tool than the store."""
    with sqlite3.connect(home / "trainshed.db") as db:
        return {
            (owner, path): sealed for owner, path, sealed in db.execute("SELECT owner_uid, path, sealed FROM secrets")
        }


def opened(home: Path) -> dict[tuple[str, str], str]:
    """Every secret as a service that starts now opens it."""
    vault = Vault.load_or_create(home)
    return {(owner, path): vault.unseal_text(sealed, owner) for (owner, path), sealed in rows(home).items()}


def ring(home: Path) -> tuple[bytes, ...]:
    return KeyRing.load_or_create(home).keys


def test_everything_is_sealed_with_a_new_key_and_the_old_one_is_gone(home: Path) -> None:
    before, [old] = rows(home), ring(home)
    told = upkeep.rotate_vault(home)
    [new] = ring(home)
    assert new != old
    assert opened(home) == VALUES
    assert {sealed_by(sealed) for sealed in rows(home).values()} == {key_id(new)}
    assert told.sealed == {key_id(new).hex(): COUNT} and not told.unfinished
    assert (home / "vault.key").stat().st_mode & 0o777 == 0o600
    assert base64.b64encode(old) not in (home / "vault.key").read_bytes()
    for (owner, _), sealed in rows(home).items():
        with pytest.raises(VaultError):
            Vault(old).unseal_text(sealed, owner)
    assert not set(before.values()) & set(rows(home).values())
    assert sorted(path.name for path in home.iterdir() if path.name.startswith((".", "vault"))) == ["vault.key"]


def test_a_given_key_is_taken(home: Path) -> None:
    upkeep.rotate_vault(home, new_key=KEY.hex())
    assert ring(home) == (KEY,)
    assert opened(home) == VALUES


def test_the_same_key_again_is_refused(home: Path) -> None:
    upkeep.rotate_vault(home, new_key=KEY.hex())
    with pytest.raises(upkeep.CannotRotate, match="is the one that is in use"):
        upkeep.rotate_vault(home, new_key=KEY.hex())


class Died(BaseException):
    """The process ends here."""


def _before(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
    def die(*_: object, **__: object) -> None:
        raise Died

    monkeypatch.setattr(owner, name, die)


def _after(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
    real = getattr(owner, name)

    def die(*arguments: object, **more: object) -> None:
        real(*arguments, **more)
        raise Died

    monkeypatch.setattr(owner, name, die)


CUTS: dict[str, tuple[Callable[[pytest.MonkeyPatch, object, str], None], object, str]] = {
    "before the key file": (_before, Rotation, "stage"),
    "after the key file": (_after, Rotation, "stage"),
    "while it is resealed": (_before, Rotation, "reseal"),
    "resealed, nothing stored": (_before, secrets, "replace"),
    "stored, not committed": (_after, secrets, "replace"),
    "committed, old key still there": (_before, Rotation, "finish"),
    "old key gone, nothing said": (_after, Rotation, "finish"),
}


@pytest.mark.parametrize("cut", CUTS)
def test_cut_anywhere_everything_opens_and_the_next_rotation_finishes(
    home: Path, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    how, owner, name = CUTS[cut]
    with monkeypatch.context() as patched:
        how(patched, owner, name)
        with pytest.raises(Died):
            upkeep.rotate_vault(home)
    assert opened(home) == VALUES
    status = upkeep.vault_status(home)
    assert status.unreadable == () and sum(status.sealed.values()) == COUNT
    assert status.unfinished is (cut not in ("before the key file", "old key gone, nothing said"))
    told = upkeep.rotate_vault(home)
    assert opened(home) == VALUES
    assert len(ring(home)) == 1 and not told.unfinished


_ROTATE_FOR_EVER = """
import sys
from pathlib import Path
from trainshed import upkeep
print("ready", flush=True)
while True:
    upkeep.rotate_vault(Path(sys.argv[1]))
    print("rotated", flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_moment_everything_opens(home: Path) -> None:
    seen = {ring(home)}
    for round_ in range(6):
        command = [sys.executable, "-c", _ROTATE_FOR_EVER, str(home)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as rotating:
            assert rotating.stdout is not None
            assert [rotating.stdout.readline() for _ in range(2)] == ["ready\n", "rotated\n"]
            # One rotation takes about 20 ms: each round dies at another moment of one.
            with suppress(subprocess.TimeoutExpired):
                rotating.wait(0.001 + 0.0037 * round_)
            rotating.send_signal(signal.SIGKILL)
        assert opened(home) == VALUES
        seen.add(ring(home))
    assert len(seen) > 6
    upkeep.rotate_vault(home)
    assert opened(home) == VALUES and len(ring(home)) == 1


def test_a_wrong_key_changes_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, key_file = rows(home), (home / "vault.key").read_bytes()
    monkeypatch.setenv("TRAINSHED_VAULT_KEY", OTHER.hex())
    with pytest.raises(upkeep.CannotRotate, match="does not open with the keys that are there"):
        upkeep.rotate_vault(home, new_key=KEY.hex())
    assert len(upkeep.vault_status(home).unreadable) == COUNT
    assert rows(home) == before and (home / "vault.key").read_bytes() == key_file


@pytest.mark.parametrize("position", [0, 3, 12, -1])
def test_a_tampered_row_is_named_and_changes_nothing(home: Path, position: int) -> None:
    with sqlite3.connect(home / "trainshed.db") as db:
        where = "owner_uid = 'owner-3' AND path = '/secrets/10'"
        [sealed] = db.execute(f"SELECT sealed FROM secrets WHERE {where}").fetchone()
        changed = bytearray(sealed)
        changed[position] ^= 1
        db.execute(f"UPDATE secrets SET sealed = ? WHERE {where}", (bytes(changed),))
    before, key_file = rows(home), (home / "vault.key").read_bytes()
    with pytest.raises(upkeep.CannotRotate, match="/secrets/10 of the resource with uid owner-3 does not open"):
        upkeep.rotate_vault(home)
    assert upkeep.vault_status(home).unreadable == (("owner-3", "/secrets/10"),)
    assert rows(home) == before and (home / "vault.key").read_bytes() == key_file


def test_a_row_that_is_swapped_to_another_owner_does_not_open(home: Path) -> None:
    with sqlite3.connect(home / "trainshed.db") as db:
        db.execute("UPDATE secrets SET owner_uid = 'thief' WHERE path = '/secrets/10'")
    assert upkeep.vault_status(home).unreadable == (("thief", "/secrets/10"),)


def test_a_running_service_keeps_its_key(home: Path) -> None:
    key_file = (home / "vault.key").read_bytes()
    with only_service_of(home), pytest.raises(upkeep.CannotRotate, match="--online, or stop it"):
        upkeep.rotate_vault(home)
    assert (home / "vault.key").read_bytes() == key_file


def test_a_key_of_the_environment_is_rotated_without_a_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(home, Vault(KEY))
    (home / "vault.key").unlink()
    monkeypatch.setenv("TRAINSHED_VAULT_KEY", KEY.hex())
    with pytest.raises(upkeep.CannotRotate, match="--new-key-env"):
        upkeep.rotate_vault(home)
    upkeep.rotate_vault(home, new_key=OTHER.hex())
    assert not (home / "vault.key").exists()
    monkeypatch.setenv("TRAINSHED_VAULT_KEY", OTHER.hex())
    assert opened(home) == VALUES
    # Who does not know how far it came gives both.
    monkeypatch.setenv("TRAINSHED_VAULT_KEY", f"{KEY.hex()} {OTHER.hex()}")
    assert opened(home) == VALUES
    monkeypatch.setenv("TRAINSHED_VAULT_KEY", KEY.hex())
    with pytest.raises(VaultError, match="another key"):
        opened(home)


@pytest.mark.parametrize("home_exists", [True, False])
def test_commands_on_a_home(home: Path, tmp_path: Path, home_exists: bool) -> None:
    where = home if home_exists else tmp_path / "none"
    environment = {**os.environ, "TRAINSHED_HOME": str(where), "NEW": KEY.hex()}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "trainshed", "vault", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)

    if not home_exists:
        told = run("status")
        assert told.returncode == 1 and "there is no home" in told.stderr
        return
    assert f"{COUNT} sealed with it" in run("status").stdout
    told = run("rotate", "--new-key-env", "NEW")
    assert told.returncode == 0 and f"{COUNT} secrets are sealed with key {key_id(KEY).hex()}" in told.stdout
    assert KEY.hex() not in told.stdout + told.stderr
    assert run("rotate", "--new-key-env", "NOT_SET").returncode == 2
    assert opened(home) == VALUES
