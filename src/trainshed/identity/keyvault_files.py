"""The embedded key vault: a directory for each vault, a private file for each secret.

    keyvault/{vault}/{secret}             a secret
    keyvault/{vault}/{secret}/{version}   a secret with versions; without a version the file written last
    keyvault/{vault}/allowed.workspaces   who may use the vault: a workspace a line, or ``*``

Nobody may use a vault that does not name them: otherwise whoever submits jobs could read every secret by its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainshed.identity.private_files import UnsafeSecretFile, read_private, replace_private
from trainshed.resources.keyvault import SecretName, SecretUnavailable

#: Most bytes of a secret: what Key Vault allows.
LARGEST = 25 * 1024
#: Has a character that no secret's name has.
_ALLOWED = "allowed.workspaces"
EVERYBODY = "*"


@dataclass(frozen=True, slots=True)
class VaultListing:
    """A vault as ``list`` shows it: never a value."""

    name: str
    workspaces: tuple[str, ...]
    #: Name, and version or None.
    secrets: tuple[tuple[str, str | None], ...]


class FileKeyVault:
    """The vaults below one directory. Every name was checked (``SecretName``) before it becomes part of a path."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def get(self, secret: SecretName, workspace: str) -> str:
        """The secret's value, read anew each time. Raises SecretUnavailable."""
        allowed = self._allowed(secret.vault)
        if EVERYBODY not in allowed and workspace.lower() not in allowed:
            raise SecretUnavailable(
                f"workspace {workspace} has no access to a key vault {secret.vault}: either there is none, or it is "
                f"not open to this workspace. On the service's machine: trainshed keyvault allow {secret.vault} "
                f"{workspace}"
            )
        try:
            content = read_private(self._file(secret), largest=LARGEST + 1)
            if len(content) > LARGEST:
                raise UnsafeSecretFile("too large")
            return content.decode("utf-8").removesuffix("\n")
        except (FileNotFoundError, NotADirectoryError):
            raise SecretUnavailable(
                f"there is no {secret}. On the service's machine: trainshed keyvault set {secret.vault} {secret.name}"
            ) from None
        except (UnsafeSecretFile, UnicodeDecodeError, OSError):
            raise SecretUnavailable(
                f"the {secret} cannot be read: its file must belong to the service's user, have mode 0600, and hold at "
                f"most {LARGEST} bytes of text. Write it again: trainshed keyvault set {secret.vault} {secret.name}"
            ) from None

    def set(self, secret: SecretName, value: str) -> None:
        """Write a secret; one that is there is replaced. Raises ValueError when it can't be one, OSError."""
        content = value.encode()
        if not content or len(content) > LARGEST or b"\0" in content:
            raise ValueError(
                f"a secret has 1 to {LARGEST} bytes of text without NUL; this one has {len(content)} bytes"
            )
        path = self._root / secret.vault / secret.name
        if secret.version is None and path.is_dir():
            raise ValueError(f"the secret {secret.name} has versions: give --secret-version")
        if secret.version is not None:
            if path.is_file():
                raise ValueError(
                    f"the secret {secret.name} has no versions: leave out --secret-version, or delete it first"
                )
            path /= secret.version
        self._make(path.parent)
        # The value's own last newline stays: one is taken off when it is read.
        replace_private(path, content + b"\n")

    def delete(self, secret: SecretName) -> bool:
        """Remove a secret, or one version of it. False when it was not there. Raises OSError."""
        path = self._root / secret.vault / secret.name
        if secret.version is not None:
            path /= secret.version
        if path.is_dir():
            for version in path.iterdir():
                version.unlink()
            path.rmdir()
            return True
        try:
            path.unlink()
        except (FileNotFoundError, NotADirectoryError):
            return False
        if secret.version is not None and not any(path.parent.iterdir()):
            path.parent.rmdir()
        return True

    def allow(self, vault: str, workspaces: frozenset[str], *, remove: bool = False) -> frozenset[str]:
        """Open a vault to workspaces (keys, or ``*``), or close it to them; the workspaces that may use it then."""
        SecretName(vault, "any")
        before = self._allowed(vault)
        after = before - workspaces if remove else before | workspaces
        self._make(self._root / vault)
        replace_private(self._root / vault / _ALLOWED, "".join(f"{name}\n" for name in sorted(after)).encode())
        return after

    def listing(self) -> Iterator[VaultListing]:
        """All vaults, in order of their names."""
        for folder in sorted(self._root.iterdir()) if self._root.is_dir() else ():
            if folder.is_dir():
                secrets: list[tuple[str, str | None]] = []
                for entry in sorted(folder.iterdir()):
                    if entry.is_dir():
                        secrets += [(entry.name, version.name) for version in sorted(entry.iterdir())]
                    elif "." not in entry.name:
                        secrets.append((entry.name, None))
                yield VaultListing(folder.name, tuple(sorted(self._allowed(folder.name))), tuple(secrets))

    def _make(self, folder: Path) -> None:
        """A directory below the root, and those above it, for the service's user alone."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for above in reversed(folder.relative_to(self._root).parents):
            (self._root / above).mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)

    def _allowed(self, vault: str) -> frozenset[str]:
        try:
            content = read_private(self._root / vault / _ALLOWED, largest=1 << 20)
        except (FileNotFoundError, NotADirectoryError, UnsafeSecretFile, OSError):
            return frozenset()
        return frozenset(content.decode("utf-8", "replace").lower().split())

    def _file(self, secret: SecretName) -> Path:
        path = self._root / secret.vault / secret.name
        if secret.version is not None:
            return path / secret.version
        if path.is_dir():
            versions = [(file.lstat().st_mtime_ns, file.name) for file in path.iterdir() if "." not in file.name]
            return path / max(versions)[1] if versions else path / "none"
        return path
