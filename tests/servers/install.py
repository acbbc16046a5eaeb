"""Installs storage servers for tests into ``.servers/``: ``make servers``.

A server that cannot be had (no network, no Node.js) is no failure: the reason is kept, and the tests that need the
server are skipped with it.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
#: Git does not see it, and `make clean` removes it.
STORE = ROOT / ".servers"
#: Seconds that the package manager may take.
PATIENCE = 400.0


class CannotInstall(Exception):
    """The server is not to be had here; the message says why."""


@dataclass(frozen=True, slots=True)
class NodeServer:
    """A server for Node.js, made of ``package.json`` and ``package-lock.json`` in the folder of its name."""

    name: str
    #: Its program, relative to where it is installed.
    script: str

    @property
    def folder(self) -> Path:
        """Where it is."""
        return STORE / self.name

    @property
    def program(self) -> Path:
        """What Node.js runs."""
        return self.folder / self.script

    @property
    def versions(self) -> tuple[Path, Path]:
        """What it is made of."""
        return HERE / self.name / "package.json", HERE / self.name / "package-lock.json"

    def fingerprint(self) -> str:
        """Changes with the versions."""
        return hashlib.sha256(b"".join(file.read_bytes() for file in self.versions)).hexdigest()

    def is_ready(self) -> bool:
        """Whether it is installed in these versions."""
        stamp = STORE / f"{self.name}.ready"
        return stamp.exists() and stamp.read_text() == self.fingerprint()

    def why_not(self) -> str | None:
        """Why it cannot be used, or None when it can."""
        if self.is_ready():
            return None
        reason = STORE / f"{self.name}.reason"
        known = reason.read_text() if reason.exists() else "it was not installed; run `make servers`"
        return f"the server {self.name} is not here: {known}"


AZURITE = NodeServer("azurite", "node_modules/azurite/dist/src/blob/main.js")


def install(server: NodeServer) -> str:
    """Install it unless it is there; one line about it."""
    if server.is_ready():
        return f"{server.name}: here"
    STORE.mkdir(exist_ok=True)
    reason, stamp = STORE / f"{server.name}.reason", STORE / f"{server.name}.ready"
    for old in (reason, stamp):
        old.unlink(missing_ok=True)
    shutil.rmtree(server.folder, ignore_errors=True)
    try:
        _install(server)
    except (CannotInstall, OSError) as error:
        reason.write_text(str(error))
        return f"{server.name}: not to be had, its tests will be skipped: {error}"
    stamp.write_text(server.fingerprint())
    return f"{server.name}: installed"


def _install(server: NodeServer) -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise CannotInstall("Node.js with npm is not installed (apt-get install nodejs npm)")
    server.folder.mkdir()
    for file in server.versions:
        shutil.copy(file, server.folder)
    try:
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev"],
            cwd=server.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise CannotInstall(f"npm did not end within {PATIENCE:g} s") from None
    if done.returncode:
        raise CannotInstall(" ".join(done.stdout.splitlines()[-3:])[-500:] or f"npm exited {done.returncode}")
    if not server.program.exists():
        raise CannotInstall(f"it has no {server.script}")


def main() -> None:
    """Install what is missing."""
    print(install(AZURITE), flush=True)


if __name__ == "__main__":
    main()
