"""Installs frameworks that the project does not need itself into ``.frameworks/``: ``make frameworks``.

Their examples run with them. One that cannot be had is no failure: the reason is kept, and its tests are skipped with
it. They are big (3 GB in all): ``make examples`` installs all, CI some, and ``make test`` takes what is there.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import venv
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

    @property
    def folder(self) -> Path:
        """Where it is."""
        return STORE / self.name

    @property
    def interpreter(self) -> Path:
        """What runs its jobs."""
        return self.folder / "bin" / "python"

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
        return hashlib.sha256(repr((sys.version, self.requirements, INSTALLER)).encode()).hexdigest()

    def is_ready(self) -> bool:
        return self.stamp.exists() and self.stamp.read_text() == self.fingerprint()

    def why_not(self) -> str | None:
        """Why it cannot be used, or None when it can."""
        if self.is_ready():
            return None
        known = self.reason.read_text() if self.reason.exists() else "it was not installed; run `make frameworks`"
        return f"{self.name} is not here: {known}"


FRAMEWORKS = {
    framework.name: framework
    for framework in (
        Framework("jax", ("jax==0.10.2", "scikit-learn"), "import jax, sklearn"),
        Framework("tensorflow", ("tensorflow-cpu==2.21.0", "scikit-learn"), "import tensorflow, sklearn"),
        Framework("ray", ("ray==2.60.0", "scikit-learn"), "import ray, sklearn"),
        Framework(
            "accelerate",
            ("accelerate==1.15.0", "lightning==2.6.6"),
            "import torch, accelerate, lightning, sklearn",
            on_torch=True,
        ),
        # Not a framework, but as big, and of use to the same tests.
        Framework(
            "intelmpi", ("impi-rt==2021.18.1", "mpi4py==4.1.2", "numpy==2.4.6"), "import numpy; from mpi4py import MPI"
        ),
    )
}


def install(framework: Framework) -> str:
    """Make the framework's environment unless it is there; one line about it."""
    if framework.is_ready():
        return f"{framework.name}: here"
    STORE.mkdir(exist_ok=True)
    for old in (framework.stamp, framework.reason):
        old.unlink(missing_ok=True)
    shutil.rmtree(framework.folder, ignore_errors=True)
    try:
        _install(framework)
    except (CannotInstall, OSError) as error:
        framework.reason.write_text(str(error))
        return f"{framework.name}: not to be had, its tests will be skipped: {error}"
    framework.stamp.write_text(framework.fingerprint())
    return f"{framework.name}: installed"


def _install(framework: Framework) -> None:
    if framework.on_torch and importlib.util.find_spec("torch") is None:
        raise CannotInstall("PyTorch is not installed (pip install torch==2.13.0)")
    venv.create(framework.folder, with_pip=False, symlinks=True)
    if framework.on_torch:
        own = framework.folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
        (own / "tests.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
        # Lightning imports mpi4py, which looks for the MPI library in its interpreter's own environment.
        for found in (*Path(sys.prefix, "lib").glob("libmpi*"), *Path(sys.prefix, "lib").glob("mpich")):
            (framework.folder / "lib" / found.name).symlink_to(found)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--python", str(framework.interpreter), "install", "--retries=2", *framework.requirements], framework)
    _run([str(framework.interpreter), "-c", framework.check], framework)


def _run(command: list[str], framework: Framework) -> None:
    try:
        done = subprocess.run(
            command, cwd=framework.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        raise CannotInstall(f"{command[0]} did not end within {PATIENCE:g} s") from None
    if done.returncode:
        told = [line for line in done.stdout.splitlines() if line.strip() and "WARNING" not in line]
        raise CannotInstall(" ".join(told[-3:])[-500:] or f"{command[0]} exited {done.returncode}")


def main() -> None:
    """Install what is missing of those named, by default of all; one after the other, since each is big."""
    for name in sys.argv[1:] or FRAMEWORKS:
        print(install(FRAMEWORKS[name]), flush=True)


if __name__ == "__main__":
    main()
