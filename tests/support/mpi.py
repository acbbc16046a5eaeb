"""The MPIs that tests run with: MPICH beside the interpreter, Open MPI 5 in an environment of its own.

Where they are installed also Open MPI 4 (Debian's openmpi-bin) and Intel MPI (``make frameworks NAMES=intelmpi``).
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.install import STORE, Client, install
from tests.frameworks.install import FRAMEWORKS
from tests.support.machine import why_no_namespaces
from trainshed.runner.mpi import flavor_of
from trainshed.toolkits import MpiFlavor

_OPEN_MPI = Client(
    "open-mpi-5", (Path(__file__).with_name("environments") / "open-mpi-5.txt",), "import numpy; from mpi4py import MPI"
)


@dataclass(frozen=True, slots=True)
class Mpi:
    """One MPI, found on a PATH that begins with ``folder``, with mpi4py and numpy for ``python``."""

    name: str
    folder: str
    python: str
    #: What its library says of itself.
    library: str
    #: The file of it that mpi4py is to take, where it would find another first.
    file: str = ""

    @property
    def variables(self) -> list[dict[str, str]]:
        """What a job sets to use it."""
        found = {"PATH": f"{self.folder}:$PATH"}
        if self.file:
            found["MPI4PY_LIBMPI"] = self.file
        return [{"name": name, "value": value} for name, value in found.items()]

    @property
    def is_open_mpi(self) -> bool:
        return self.name.startswith("openmpi")


def _skip_without_host_names() -> None:
    """Open MPI takes two nodes of one host name for one, and hangs."""
    if why_not := why_no_namespaces():
        pytest.skip(f"no nodes with names of their own, which Open MPI needs: {why_not}")


def mpich() -> Mpi:
    """MPICH; skips the test where it is not installed."""
    folder = Path(sys.executable).parent
    if not (folder / "mpiexec.hydra").exists():
        pytest.skip("no MPICH beside the interpreter: pip install mpich")
    pytest.importorskip("mpi4py")
    return Mpi("mpich", str(folder), sys.executable, "MPICH Version")


def open_mpi() -> Mpi:
    """Open MPI, installed when it is first asked for; skips the test where it cannot be had."""
    _skip_without_host_names()
    STORE.mkdir(exist_ok=True)
    with (STORE / "open-mpi-5.lock").open("w") as lock:
        # Several processes run tests.
        fcntl.flock(lock, fcntl.LOCK_EX)
        install(_OPEN_MPI)
    if why_not := _OPEN_MPI.why_not():
        pytest.skip(why_not)
    return Mpi("openmpi", str(_OPEN_MPI.folder / "bin"), _OPEN_MPI.interpreter, "Open MPI v5")


def open_mpi_4() -> Mpi:
    """Debian's Open MPI 4; skips the test unless it is what ``/usr/bin/mpirun`` is."""
    _skip_without_host_names()
    program = Path("/usr/bin/mpirun")
    if not program.exists() or flavor_of(_version(program)) is not MpiFlavor.OPEN_MPI_4:
        pytest.skip("/usr/bin/mpirun is not Open MPI 4: apt-get install openmpi-bin")
    file = next(Path("/usr/lib").glob("*-linux-gnu/libmpi.so.40"), None)
    if file is None:
        pytest.skip("there is no libmpi.so.40 in /usr/lib: apt-get install libopenmpi3")
    pytest.importorskip("mpi4py")
    return Mpi("openmpi4", "/usr/bin", sys.executable, "Open MPI v4", str(file))


def intel_mpi() -> Mpi:
    """Intel MPI; skips the test where it is not installed."""
    if why_not := FRAMEWORKS["intelmpi"].why_not():
        pytest.skip(why_not)
    interpreter = FRAMEWORKS["intelmpi"].interpreter
    return Mpi("intelmpi", str(interpreter.parent), str(interpreter), "Intel(R) MPI Library")


def _version(program: Path) -> str:
    return subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30).stdout


@pytest.fixture(scope="session", params=[mpich, open_mpi, open_mpi_4, intel_mpi], ids=lambda find: find.__name__)
def mpi(request: pytest.FixtureRequest) -> Mpi:
    """Each of them."""
    found: Mpi = request.param()
    return found
