"""Installs frameworks that the project does not need itself into ``.frameworks/``: ``make frameworks``.

Their examples run with them. One that cannot be had is no failure: the reason is kept, and its tests are skipped with
it. They are big (6 GB in all): ``make examples`` installs all, CI some, and ``make test`` takes what is there.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import sysconfig
import venv
from pathlib import Path

from tests.frameworks import builds
from tests.frameworks.framework import STORE, CannotInstall, Framework, find_python

#: The MPI of the environment is the one that its jobs find.
_OWN_PROGRAMS = ("PATH", "{folder}/bin:$PATH")
#: What the old ones can take. Their package manager does not see what later releases need.
_ON_3_6 = ("numpy==1.19.5", "scipy==1.5.4", "joblib==1.1.1", "threadpoolctl==3.1.0", "scikit-learn==0.24.2")
_BUILDING = ("setuptools<70", "wheel", "cmake<4")
_DATA = ("scikit-learn", "h5py")
#: The last one for CPython 3.6.
_PIP_3_6 = "pip==21.3.1"

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
        Framework(
            "chainer",
            ("chainer==7.8.1", "setuptools<70", "numpy<1.24", "scikit-learn<1.4", "mpi4py==4.1.2", "mpich==5.0.2"),
            "import chainermn, sklearn; from mpi4py import MPI",
            variables=(_OWN_PROGRAMS,),
        ),
        Framework(
            "deepspeed",
            ("setuptools<81", "wheel"),
            "import deepspeed, sklearn",
            on_torch=True,
            variables=(("TORCH_EXTENSIONS_DIR", "{folder}/extensions"), _OWN_PROGRAMS),
            build=builds.deepspeed,
        ),
        Framework(
            "horovod",
            (
                "setuptools<70",
                "wheel",
                "cmake<4",
                "cloudpickle",
                "psutil",
                "pyyaml",
                "packaging",
                "cffi",
                builds.OPEN_MPI,
            ),
            "import horovod.torch as hvd, sklearn; hvd.mpi_built() or exit('built without MPI')",
            on_torch=True,
            variables=(_OWN_PROGRAMS,),
            build=builds.horovod,
        ),
        Framework(
            "cntk",
            ("cntk==2.7.post2", *_ON_3_6),
            "import cntk, sklearn",
            python="3.6",
            variables=(
                ("PATH", "{folder}/mpi/bin:$PATH"),
                ("LD_LIBRARY_PATH", "{folder}/shim:{folder}/mpi/lib:{folder}/mpi/lib/openmpi"),
            ),
            build=builds.cntk,
        ),
        Framework(
            "caffe2",
            # Caffe2 became a part of PyTorch; this is the first release with it, and needs no more.
            ("torch==1.0.0", "networkx<2.6", "future", "protobuf==3.19.6", "pyyaml<6", "six", *_ON_3_6),
            "from caffe2.python import core, workspace; import sklearn",
            python="3.6",
        ),
        Framework(
            "caffe",
            (
                "kendryte-caffe==1.0.0.20210829",
                "numpy<1.24",
                "protobuf<3.21",
                "scikit-image<0.21",
                "scikit-learn",
                "h5py",
            ),
            "import caffe, sklearn, h5py",
            python="3.9",
            variables=(_OWN_PROGRAMS,),
            build=builds.caffe,
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
    if framework.python:
        python = find_python(framework.python)
        framework.folder.mkdir()
        framework.run([str(python), "-m", "venv", str(framework.folder)])
        if framework.python == "3.6":
            framework.pip(_PIP_3_6)
    else:
        venv.create(framework.folder, with_pip=False, symlinks=True)
    if framework.on_torch:
        own = framework.folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
        (own / "tests.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    if framework.on_torch and builds.OPEN_MPI not in framework.requirements:
        # Lightning imports mpi4py, which looks for the MPI library in its interpreter's own environment.
        for found in (*Path(sys.prefix, "lib").glob("libmpi*"), *Path(sys.prefix, "lib").glob("mpich")):
            (framework.folder / "lib" / found.name).symlink_to(found)
    framework.pip(*framework.requirements)
    if framework.build is not None:
        framework.build(framework)
    framework.run([str(framework.interpreter), "-c", framework.check])


def main() -> None:
    """Install what is missing of those named, by default of all; one after the other, since each is big."""
    for name in sys.argv[1:] or FRAMEWORKS:
        print(install(FRAMEWORKS[name]), flush=True)


if __name__ == "__main__":
    main()
