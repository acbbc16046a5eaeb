"""Installs the original's clients into ``.clients/``, once for each list of versions: ``make clients``.

A client that cannot be had (no network, no Node.js) is no failure: the reason is kept, and the tests that need the
client are skipped with it.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
#: Git does not see it, and `make clean` removes it.
STORE = ROOT / ".clients"
#: Seconds that one package manager may take.
PATIENCE = 400.0


class CannotInstall(Exception):
    """The client is not to be had here; the message says why."""


@dataclass(frozen=True, slots=True)
class Client:
    """One client. ``versions`` are the files that say what it is made of."""

    name: str
    versions: tuple[Path, ...]
    #: A program in the client's language that ends with 0 when the client can be used.
    check: str

    @property
    def folder(self) -> Path:
        """Where it is."""
        return STORE / self.name

    @property
    def is_python(self) -> bool:
        return self.versions[0].suffix == ".txt"

    @property
    def interpreter(self) -> str:
        """What runs its scripts."""
        return str(self.folder / "bin" / "python") if self.is_python else "node"

    @property
    def stamp(self) -> Path:
        """Holds the fingerprint of what is installed."""
        return STORE / f"{self.name}.ready"

    @property
    def reason(self) -> Path:
        """Holds why it is not installed."""
        return STORE / f"{self.name}.reason"

    def fingerprint(self) -> str:
        """Changes with the versions and with the interpreter."""
        digest = hashlib.sha256(sys.version.encode())
        for file in self.versions:
            digest.update(file.read_bytes())
        return digest.hexdigest()

    def is_ready(self) -> bool:
        return self.stamp.exists() and self.stamp.read_text() == self.fingerprint()

    def why_not(self) -> str | None:
        """Why it cannot be used, or None when it can."""
        if self.is_ready():
            return None
        known = self.reason.read_text() if self.reason.exists() else "it was not installed; run `make clients`"
        return f"the client {self.name} is not here: {known}"


CLIENTS = {
    client.name: client
    for client in (
        Client("sdk-2.0.0", (HERE / "sdk-2.0.0.txt",), "import azure.mgmt.batchai, msrestazure"),
        Client("sdk-7.0.0", (HERE / "sdk-7.0.0.txt",), "import azure.mgmt.batchai, azure.mgmt.core"),
        Client(
            "az-0.4.10",
            (ROOT / "examples" / "azure-cli" / "requirements.txt",),
            "import azure.cli.core, azure.cli.command_modules.batchai",
        ),
        Client(
            "node-2.2.1",
            (HERE / "node" / "package.json", HERE / "node" / "package-lock.json"),
            "require('@azure/arm-batchai')",
        ),
    )
}


def install(client: Client) -> str:
    """Make the client's environment unless it is there; one line about it."""
    if client.is_ready():
        return f"{client.name}: here"
    STORE.mkdir(exist_ok=True)
    for old in (client.stamp, client.reason):
        old.unlink(missing_ok=True)
    shutil.rmtree(client.folder, ignore_errors=True)
    try:
        (_install_python if client.is_python else _install_node)(client)
        option = "-c" if client.is_python else "-e"
        _run([client.interpreter, option, client.check], client.folder)
    except (CannotInstall, OSError) as error:
        client.reason.write_text(str(error))
        return f"{client.name}: not to be had, its tests will be skipped: {error}"
    client.stamp.write_text(client.fingerprint())
    return f"{client.name}: installed"


def _install_python(client: Client) -> None:
    venv.create(client.folder, with_pip=False, symlinks=True)
    # The lists are complete, so nothing is resolved; old packages could be built here, but none has to be.
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", client.interpreter]
    _run(
        [*pip, "install", "--no-deps", "--only-binary=:all:", "--retries=2", "--requirement", str(client.versions[0])],
        client.folder,
    )


def _install_node(client: Client) -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise CannotInstall("Node.js with npm is not installed (apt-get install nodejs npm)")
    client.folder.mkdir()
    for file in client.versions:
        shutil.copy(file, client.folder)
    _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], client.folder)


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        raise CannotInstall(f"{command[0]} did not end within {PATIENCE:g} s") from None
    if done.returncode:
        told = [line for line in done.stdout.splitlines() if line.strip() and "WARNING" not in line]
        raise CannotInstall(" ".join(told[-3:])[-500:] or f"{command[0]} exited {done.returncode}")


def main() -> None:
    """Install what is missing, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        for line in pool.map(install, CLIENTS.values()):
            print(line, flush=True)


if __name__ == "__main__":
    main()
