"""The embedded key vault: who may read what, and what is never a path out of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainshed.identity import UnsafeSecretFile
from trainshed.identity.keyvault import open_keyvault
from trainshed.identity.keyvault_files import LARGEST, FileKeyVault
from trainshed.resources.keyvault import SecretName, SecretUnavailable

WORKSPACE = "sub/group/ws"
SECRET = SecretName("research", "password")


@pytest.fixture
def vaults(tmp_path: Path) -> FileKeyVault:
    made = FileKeyVault(tmp_path / "keyvault")
    made.set(SECRET, "hunter2")
    made.allow("research", frozenset({WORKSPACE}))
    return made


def test_a_workspace_that_is_allowed_reads_the_value(vaults: FileKeyVault) -> None:
    assert vaults.get(SECRET, WORKSPACE) == "hunter2"
    assert vaults.get(SECRET, WORKSPACE.upper()) == "hunter2"


@pytest.mark.parametrize("workspace", ["sub/group/other", "sub/other/ws", "other/group/ws", "", "*"])
def test_no_other_workspace_does_and_it_learns_nothing(vaults: FileKeyVault, workspace: str) -> None:
    with pytest.raises(SecretUnavailable) as there:
        vaults.get(SECRET, workspace)
    with pytest.raises(SecretUnavailable) as nothing_there:
        vaults.get(SecretName("research", "none"), workspace)
    assert str(there.value) == str(nothing_there.value)
    with pytest.raises(SecretUnavailable) as no_vault:
        vaults.get(SecretName("missing", "password"), workspace)
    assert str(no_vault.value).replace("missing", "research") == str(there.value)
    assert "trainshed keyvault allow research" in str(there.value)


def test_a_vault_is_open_to_nobody_until_it_is_opened(vaults: FileKeyVault) -> None:
    vaults.set(SecretName("other", "x"), "y")
    with pytest.raises(SecretUnavailable):
        vaults.get(SecretName("other", "x"), WORKSPACE)
    vaults.allow("other", frozenset({"*"}))
    assert vaults.get(SecretName("other", "x"), WORKSPACE) == "y"
    vaults.allow("other", frozenset({"*"}), remove=True)
    with pytest.raises(SecretUnavailable):
        vaults.get(SecretName("other", "x"), WORKSPACE)


def test_a_list_that_others_can_write_opens_nothing(vaults: FileKeyVault, tmp_path: Path) -> None:
    (tmp_path / "keyvault/research/allowed.workspaces").chmod(0o666)
    with pytest.raises(SecretUnavailable):
        vaults.get(SECRET, WORKSPACE)


def test_a_secret_that_is_gone_says_how_to_bring_it_back(vaults: FileKeyVault) -> None:
    assert vaults.delete(SECRET) and not vaults.delete(SECRET)
    with pytest.raises(SecretUnavailable, match="trainshed keyvault set research password"):
        vaults.get(SECRET, WORKSPACE)


def test_files_are_private(vaults: FileKeyVault, tmp_path: Path) -> None:
    for path in (tmp_path / "keyvault").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("how", ["mode", "link", "large", "binary", "folder"])
def test_a_file_that_is_none_of_a_secret_is_not_read(vaults: FileKeyVault, tmp_path: Path, how: str) -> None:
    path = tmp_path / "keyvault/research/password"
    if how == "mode":
        path.chmod(0o640)
    elif how == "link":
        (tmp_path / "admin.token").write_text("of the service")
        (tmp_path / "admin.token").chmod(0o600)
        path.unlink()
        path.symlink_to(tmp_path / "admin.token")
    elif how == "large":
        path.write_bytes(b"x" * (LARGEST + 1))
    elif how == "binary":
        path.write_bytes(b"\xff\xfe")
    else:
        path.unlink()
        path.mkdir()
    with pytest.raises(SecretUnavailable) as caught:
        vaults.get(SECRET, WORKSPACE)
    assert "hunter2" not in str(caught.value) and "of the service" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_the_newest_version_is_meant_unless_one_is_named(vaults: FileKeyVault, tmp_path: Path) -> None:
    first, second = SecretName("research", "key", "v1"), SecretName("research", "key", "v0")
    vaults.set(first, "one")
    vaults.set(second, "two")
    folder = tmp_path / "keyvault/research/key"
    os.utime(folder / "v1", ns=(1, 1))
    os.utime(folder / "v0", ns=(2, 2))
    assert vaults.get(SecretName("research", "key"), WORKSPACE) == "two"
    assert vaults.get(first, WORKSPACE) == "one"
    with pytest.raises(SecretUnavailable, match="in version v9"):
        vaults.get(SecretName("research", "key", "v9"), WORKSPACE)
    with pytest.raises(ValueError, match="has versions"):
        vaults.set(SecretName("research", "key"), "x")
    assert vaults.delete(second) and vaults.get(SecretName("research", "key"), WORKSPACE) == "one"
    assert vaults.delete(first) and not folder.exists()


@pytest.mark.parametrize("value", ["x\n", "", "a" * (LARGEST + 1), "a\0b", "ü" * 10])
def test_values_come_back_as_they_were_or_are_refused(vaults: FileKeyVault, value: str) -> None:
    if value and len(value) <= LARGEST and "\0" not in value:
        vaults.set(SECRET, value)
        assert vaults.get(SECRET, WORKSPACE) == value
        return
    with pytest.raises(ValueError, match="a secret has 1 to"):
        vaults.set(SECRET, value)
    assert vaults.get(SECRET, WORKSPACE) == "hunter2"


@pytest.mark.parametrize(
    "parts",
    [
        ("..", "x"),
        ("research", ".."),
        ("research", "../other"),
        ("research", ""),
        ("research", "x", ".."),
        ("a/b", "x"),
        ("research", "allowed.workspaces"),
    ],
)
def test_what_would_lead_out_is_no_name(parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="is not the"):
        SecretName(*parts)


def test_the_list_of_workspaces_cannot_be_written_as_a_secret(vaults: FileKeyVault) -> None:
    with pytest.raises(ValueError):
        vaults.set(SecretName("research", "allowed.workspaces"), "*")
    [listed] = vaults.listing()
    assert (listed.name, listed.workspaces, listed.secrets) == ("research", (WORKSPACE,), (("password", None),))


def test_the_provider_is_chosen_by_name(tmp_path: Path) -> None:
    assert isinstance(open_keyvault(tmp_path, {}), FileKeyVault)
    with pytest.raises(UnsafeSecretFile, match="no such provider is installed; there is: file"):
        open_keyvault(tmp_path, {"TRAINSHED_KEYVAULT": "nowhere"})


def test_a_provider_of_another_package_is_plugged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site"
    (package / "other_vault-1.dist-info").mkdir(parents=True)
    (package / "other_vault-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: other-vault\nVersion: 1\n")
    (package / "other_vault-1.dist-info/entry_points.txt").write_text(
        "[trainshed.keyvault]\nother = other_vault:make\n"
    )
    (package / "other_vault.py").write_text(
        "class Other:\n"
        "    def __init__(self, home): self.home = home\n"
        "    def get(self, secret, workspace): return f'{secret.name} of {workspace}'\n"
        "def make(home): return Other(home)\n"
    )
    monkeypatch.syspath_prepend(package)
    provider = open_keyvault(tmp_path, {"TRAINSHED_KEYVAULT": "other"})
    assert provider.get(SECRET, WORKSPACE) == f"password of {WORKSPACE}"
