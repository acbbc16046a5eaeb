"""``trainshed keyvault`` on a home, as an administrator types it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainshed.identity.keyvault_files import FileKeyVault
from trainshed.resources.keyvault import SecretName, SecretUnavailable

WORKSPACE = "00000000-0000-0000-0000-000000000000/trainshed/team-a"


def keyvault(home: Path, *arguments: str, value: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: text for name, text in os.environ.items() if not name.startswith("TRAINSHED_")}
    return subprocess.run(
        [sys.executable, "-m", "trainshed", "keyvault", *arguments],
        input=value, env={**environment, "TRAINSHED_HOME": str(home)}, capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_secret_is_written_opened_to_a_workspace_listed_and_removed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    vaults, secret = FileKeyVault(home / "keyvault"), SecretName("research", "db-password")
    told = keyvault(home, "set", "Research", "Db-Password", value="hunter2\n")
    assert told.stdout == "https://research.vault.azure.net/secrets/db-password\n"
    with pytest.raises(SecretUnavailable):
        vaults.get(secret, WORKSPACE)
    assert keyvault(home, "allow", "research", "team-a").stdout == f"research: {WORKSPACE}\n"
    assert vaults.get(secret, WORKSPACE) == "hunter2"
    listed = keyvault(home, "list")
    assert listed.stdout == f"research: {WORKSPACE}\n  db-password\n"
    refused = keyvault(home, "set", "research", "../admin.token", value="x")
    assert refused.returncode == 1 and "is not the name of a secret" in refused.stderr
    assert keyvault(home, "delete", "research", "db-password").returncode == 0
    assert keyvault(home, "delete", "research", "db-password").returncode == 3
    for path in (home, *home.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0
