"""The user account of a cluster's nodes, and what it is when nobody said (behaviour section 12)."""

from __future__ import annotations

import getpass
import secrets
from pathlib import Path
from typing import Any

from trainshed.cli.session import Session

_PUBLIC_KEYS = ("id_rsa.pub", "id_ed25519.pub", "id_ecdsa.pub")


def account_settings(
    session: Session,
    user: str | None = None,
    ssh_key: str | None = None,
    password: str | None = None,
    *,
    generate: bool = False,
) -> dict[str, Any]:
    """``userAccountSettings``: the local user's name and key; a random password, which is told, when there is none."""
    settings: dict[str, Any] = {"adminUserName": user or _local_user()}
    if ssh_key:
        settings["adminUserSshPublicKey"] = _key_text(ssh_key)
    elif not password:
        found = _own_key() or (_generated_key(session) if generate else None)
        if found:
            settings["adminUserSshPublicKey"] = found
        else:
            password = secrets.token_urlsafe(15)
            session.note(
                f"no SSH key in ~/.ssh: the nodes' user {settings['adminUserName']} gets the password {password} "
                "(it is not shown again; -k, -p or --generate-ssh-keys choose otherwise)"
            )
    if password:
        settings["adminUserPassword"] = password
    return settings


def _local_user() -> str:
    name = getpass.getuser()
    # The images have a group of this name already (behaviour 1.2).
    return "trainshed" if name == "admin" else name


def _key_text(key: str) -> str:
    """A key is given as text or as the path of a file."""
    path = Path(key).expanduser()
    if not key.startswith(("ssh-", "ecdsa-")) and path.is_file():
        return path.read_text(encoding="utf-8").strip()
    return key.strip()


def _own_key() -> str | None:
    folder = Path.home() / ".ssh"
    for name in _PUBLIC_KEYS:
        if (folder / name).is_file():
            return (folder / name).read_text(encoding="utf-8").strip()
    return None


def _generated_key(session: Session) -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    folder = Path.home() / ".ssh"
    folder.mkdir(mode=0o700, exist_ok=True)
    key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    private = folder / "id_rsa"
    private.touch(mode=0o600, exist_ok=False)
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    (folder / "id_rsa.pub").write_text(public + "\n", encoding="utf-8")
    session.note(f"made an SSH key: {private} and {private}.pub")
    return public
