"""What an environment of a framework is: where it lies, what it holds, whether it can be used."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Git does not see it, and `make clean` removes it.
STORE = ROOT / ".frameworks"
#: Raised when environments that were made by an older installer are of no use any more.
INSTALLER = 2
#: Seconds that the package manager may take.
PATIENCE = 600.0


class CannotInstall(Exception):
    """The framework is not to be had here; the message says why."""


@dataclass(frozen=True, slots=True)
class Framework:
    """One environment: what is asked for, and a program that ends with 0 when it can be used."""

    name: str
    requirements: tuple[str, ...]
    check: str
    #: Sees the packages of the tests' own environment, for PyTorch, which is too big to have twice.
    on_torch: bool = False
    #: Version of the CPython that it needs, where it is another than the tests' own.
    python: str = ""
    #: What its jobs set besides the interpreter; ``{folder}`` is the environment's.
    variables: tuple[tuple[str, str], ...] = ()
    #: What is done when the requirements are there. Raises CannotInstall.
    build: Callable[[Framework], None] | None = None

    @property
    def folder(self) -> Path:
        """Where it is."""
        return STORE / self.name

    @property
    def interpreter(self) -> Path:
        """What runs its jobs."""
        return self.folder / "bin" / "python"

    @property
    def environment(self) -> dict[str, str]:
        """The variables of its jobs."""
        return {name: value.format(folder=self.folder) for name, value in self.variables}

    @property
    def stamp(self) -> Path:
        """Holds the fingerprint of what is installed."""
        return STORE / f"{self.name}.ready"

    @property
    def reason(self) -> Path:
        """Holds why it is not installed."""
        return STORE / f"{self.name}.reason"

    def fingerprint(self) -> str:
        """Changes with the requirements, with the interpreter and with this installer."""
        parts = (sys.version, self.requirements, INSTALLER, *filter(None, [self.python]))
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def is_ready(self) -> bool:
        return self.stamp.exists() and self.stamp.read_text() == self.fingerprint()

    def why_not(self) -> str | None:
        """Why it cannot be used, or None when it can."""
        if self.is_ready():
            return None
        known = self.reason.read_text() if self.reason.exists() else "it was not installed; run `make frameworks`"
        return f"{self.name} is not here: {known}"

    def run(self, command: list[str], more: Mapping[str, str] | None = None, seconds: float = PATIENCE) -> None:
        """Run a step of its installation in its folder, with its jobs' variables and ``more``. Raises CannotInstall."""
        variables = {**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        for name, value in {**self.environment, **(more or {})}.items():
            variables[name] = value.replace(f"${name}", variables.get(name, ""))
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=variables,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            raise CannotInstall(f"{command[0]} did not end within {seconds:g} s") from None
        if done.returncode:
            told = [line for line in done.stdout.splitlines() if line.strip() and "WARNING" not in line]
            raise CannotInstall(" ".join(told[-3:])[-500:] or f"{command[0]} exited {done.returncode}")

    def pip(self, *arguments: str, more: Mapping[str, str] | None = None, seconds: float = PATIENCE) -> None:
        """``pip install``: the tests' own pip, or the old interpreter's, which today's does not serve."""
        pip = ["-m", "pip", "--quiet", "--disable-pip-version-check"]
        chosen = (
            [str(self.interpreter), *pip] if self.python else [sys.executable, *pip, "--python", str(self.interpreter)]
        )
        self.run([*chosen, "install", "--retries=2", *arguments], more, seconds)


def find_python(version: str) -> Path:
    """The newest CPython of that version: pyenv's, or else the one on the PATH. Raises CannotInstall."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    releases = sorted(
        pyenv.glob(f"versions/{version}.*/bin/python{version}"),
        key=lambda found: [int(part) for part in re.findall(r"\d+", found.parents[1].name)],
    )
    if releases:
        return releases[-1]
    found = shutil.which(f"python{version}")
    # What pyenv puts on the PATH fails for versions that it does not have.
    if found and subprocess.run([found, "-c", "import venv"], capture_output=True, timeout=PATIENCE).returncode == 0:
        return Path(found)
    raise CannotInstall(f"there is no CPython {version} (pyenv install {version})")
