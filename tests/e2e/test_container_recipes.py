"""The original's recipes in containers: their own job files, images of the names that these give, their shares.

Images and scripts are STAND-INS: nobody has the images any more. What is shown is that each job file runs as it is,
with no more than the account's name filled in: its image is taken by its name, preparation and ranks are in one
container of it on each node, shares and containers are mounted inside, and logs and outputs are on the share.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.containers import PROGRAMS, Store, hindrance, root_file_system
from tests.support.live_service import LiveService
from tests.support.program import Program
from trainshed.resources.jobfile import strip_comments

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "reference" / "recipes"
ACCOUNT = "acct"
#: Longest wait for all jobs together, in seconds.
LONG = 100.0
#: MPI ranks of each recipe that runs under MPI; the others have as many processes as they have nodes.
RANKS = {
    "CNTK-GPU-BrainScript": 1,
    "CNTK-GPU-BrainScript-Distributed": 2,
    "CNTK-GPU-Python": 1,
    "CNTK-GPU-Python-Distributed": 2,
    "CNTK-GPU-Python-Distributed-Infiniband": 8,
    "Chainer-GPU-Distributed": 2,
    "Chainer-GPU-Distributed-Infiniband": 8,
    "Distributed-Batch-Scoring-in-Tensorflow-with-GPU": 2,
    "Horovod-Infiniband-Benchmark": 8,
    "Horovod-PyTorch": 2,
    "Horovod-Tensorflow": 2,
    "Keras-GPU-cntk": 1,
}
#: Where the images have MPI, which ``apt`` only puts on the PATH; so has the machine.
MPI = Path(sys.executable).parent
MPI_TOOLS = ("mpirun", "mpiexec", "hydra_pmi_proxy")
LINK_MPI = f"mkdir -p /usr/bin; ln -sf {' '.join(str(MPI / tool) for tool in MPI_TOOLS)} /usr/bin/\n"
#: What ``apt`` and ``pip`` of the images do in place of fetching packages.
APT = f'#!/bin/bash\necho "apt $*" >> /prepared\n[ "$1" = update ] || {{ {LINK_MPI} }}\n'
PIP = '#!/bin/bash\necho "pip $*" >> /prepared\n'
#: The scripts that recipes prepare with.
BENCHMARK = """
folder=$AZ_BATCHAI_JOB_TEMP/benchmarks/scripts/tf_cnn_benchmarks
mkdir -p $folder; cp $AZ_BATCHAI_JOB_MOUNT_ROOT/scripts/keras/mnist_cnn.py $folder/tf_cnn_benchmarks.py
"""
PREPARES = {
    "cntk/jobprep_cntk_distributed_ib.sh": "",
    "cntk/CIFAR-10_data_prepare.sh": "",
    "chainer/jobprep.sh": "",
    "horovod/jobprep_benchmark.sh": LINK_MPI + BENCHMARK,
}
#: In place of all of the recipes' scripts.
STAND_IN = Path(__file__).with_name("recipe_stand_in.py").read_text()
SCRIPTS = (
    "cntk/ConvNet_MNIST.py",
    "cntk/ConvNet_CIFAR10_DataAug_Distributed.py",
    "cntk/TrainResNet_CIFAR10_Distributed.py",
    "caffe2/resnet50_trainer.py",
    "chainer/train_mnist.py",
    "classification_samples/batch_image_label.py",
    "horovod/pytorch_mnist.py",
    "horovod/tensorflow_mnist.py",
    "keras/mnist_cnn.py",
    "pytorch/mnist_trainer.py",
    "tensorflow/convolutional.py",
    "tensorflow/mnist_replica.py",
)

#: What their blob container and the cluster's share have.
DATA = ("mnist_data", "pretained_models", "unlabeled_images")
CONFIGURATIONS = (
    "mnist_database/content",
    "cntk_samples/ConvNet_MNIST.cntk",
    "cntk_samples/DistributedConvNet_MNIST.cntk",
)
#: Of the standard library, what is large and of no use to a script.
LEFT_OUT = ("test", "config-", "site-packages", "idlelib", "ensurepip", "lib2to3", "tkinter", "__pycache__")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(bool(hindrance()), reason=hindrance()),
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the original's recipes are not at {FOLDER}"),
]


@dataclass(frozen=True)
class Ended:
    """A recipe's job."""

    name: str
    #: Properties of the recipe, and of the job.
    recipe: dict[str, Any]
    job: Any
    container: dict[str, str]
    #: The account's shares.
    shares: Path

    @property
    def segment(self) -> str:
        return str(self.job.properties["jobOutputDirectoryPathSegment"])

    def share_of(self, prefix: str) -> Path:
        """The share that is mounted at a path such as $AZ_BATCHAI_JOB_MOUNT_ROOT/logs."""
        return self.shares / prefix.rpartition("/")[2]

    @property
    def logs(self) -> Path:
        return self.share_of(self.recipe["stdOutErrPathPrefix"]) / self.segment / "stdouterr"

    def told(self) -> list[dict[str, Any]]:
        """What each process of the stand-in said."""
        texts = [path.read_text() for path in sorted(self.logs.glob("stdout*.txt"))]
        return [json.loads(line) for line in "".join(texts).splitlines() if line.startswith("{")]


def recipes() -> dict[str, dict[str, Any]]:
    """Properties by name."""
    found = {path.name.removesuffix(".job.json"): path for path in sorted(FOLDER.glob("*.job.json"))}
    return {name: json.loads(strip_comments(path.read_text("utf-8-sig")))["properties"] for name, path in found.items()}


def image_of(recipe: dict[str, Any]) -> str:
    return str(recipe["containerSettings"]["imageSourceRegistry"]["image"])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The recipes' images by their own names, as a registry would have given them."""
    if missing := [tool for tool in MPI_TOOLS if not (MPI / tool).exists()]:
        pytest.skip(f"no MPICH beside the interpreter ({', '.join(missing)}): pip install mpich")
    mpi4py = pytest.importorskip("mpi4py")
    made = Store(tmp_path_factory.mktemp("images"))
    library, packages = (MPI.parent / "lib/libmpi.so.12").resolve(), Path(mpi4py.__file__).parents[1]
    standard = Path(json.__file__).parents[1]
    modules = [path for path in standard.iterdir() if not path.name.startswith(LEFT_OUT)]
    programs = ("bash", *PROGRAMS, "ln", "cp", str(MPI / "python"))
    texts = {"bin/apt": APT, "bin/pip": PIP, "bin/cntk": f"#!/bin/python\n{STAND_IN}"}
    copies = (library, packages / "mpi4py", *modules, *(MPI / tool for tool in MPI_TOOLS))
    made.add("localhost/base", root_file_system(programs, texts, copies))
    variables = {"PYTHONHOME": sys.base_prefix, "PYTHONPATH": packages, "MPI4PY_LIBMPI": library}
    for image in {image_of(recipe) for recipe in recipes().values()}:
        # Those for CNTK and Chainer came with an MPI.
        path = f"{MPI}:/bin" if "cntk" in image or "chainer" in image else "/usr/bin:/bin"
        lines = [f"ENV {name}={value}" for name, value in {**variables, "IMAGE": image, "PATH": path}.items()]
        build = "\n".join(["FROM localhost/base", *lines]).encode()
        made.podman("build", "--quiet", f"--tag=docker.io/{image}", "--file=-", str(made.folder / "tmp"), given=build)
    return made


@pytest.fixture(scope="module")
def ended(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ended]]:
    """All recipes, run one after the other on a cluster of two nodes that mounts ``external``, as theirs did."""
    folder = tmp_path_factory.mktemp("recipes")
    live = LiveService(folder / "home", more={"TRAINSHED_IMAGE_STORES": str(store.path)})
    try:
        live.start()
        yield _run_all(live, folder)
    finally:
        live.stop()
    assert live.marked() == []


def _run_all(live: LiveService, folder: Path) -> dict[str, Ended]:
    client = live.client
    client.workspaces.create("default", location="local")
    client.experiments.create("default")
    client.storage_accounts.create(ACCOUNT)
    key = client.storage_accounts.keys(ACCOUNT)[0].get("value")
    share = {"accountName": ACCOUNT, "azureFileUrl": f"https://{ACCOUNT}.file.core.windows.net/external"}
    external = {**share, "relativeMountPath": "external", "credentials": {"accountKey": key}}
    client.clusters.create(
        "c",
        {
            "vmSize": "STANDARD_D1",
            "scaleSettings": {"manual": {"targetNodeCount": 2}},
            "userAccountSettings": {"adminUserName": "tester", "adminUserPassword": "only-for-tests-1"},
            "nodeSetup": {"mountVolumes": {"azureFileShares": [external]}},
        },
    )
    files = live.home / "storage" / ACCOUNT
    texts = {f"files/scripts/{path}": STAND_IN for path in SCRIPTS}
    texts |= {
        f"files/scripts/{path}": f"set -e\necho ${{0##*/}} >> /prepared\n{text}" for path, text in PREPARES.items()
    }
    texts |= {f"blobs/data/{name}/content": name for name in DATA}
    texts |= {f"files/external/{name}": "model" for name in CONFIGURATIONS}
    for path, text in texts.items():
        (files / path).parent.mkdir(parents=True, exist_ok=True)
        (files / path).write_text(text)
    program = Program(live.home, folder)
    for name in recipes():
        options = ("--storage-account-name", ACCOUNT, "--storage-account-key", key)
        program.ok("job", "create", "-n", name, "-c", "c", "-f", str(FOLDER / f"{name}.job.json"), *options)
    found = {}
    for name, recipe in recipes().items():
        job = client.jobs.wait(name, interval=0.1, timeout=LONG)
        [attempt] = client.jobs.attempts(name)
        found[name] = Ended(name, recipe, job, attempt.json["container"], files / "files")
    return found


@pytest.mark.parametrize("name", sorted(recipes()))
def test_a_recipe_runs_in_its_image_with_its_shares(ended: dict[str, Ended], name: str) -> None:
    run = ended[name]
    said = "\n".join(path.read_text()[-1000:] for path in run.logs.glob("stderr*"))
    assert run.job.execution_state.value == "succeeded", (run.job.properties["executionInfo"], said)
    image, nodes = image_of(run.recipe), run.recipe["nodeCount"]
    assert run.container["image"] == image

    told = run.told()
    assert len(told) == RANKS.get(name, nodes)
    assert sorted(process["rank"] for process in told) == list(range(len(told)))
    assert {process["size"] for process in told} == {RANKS.get(name, 1)}
    assert {process["image"] for process in told} == {image}
    assert len({process["host"] for process in told}) == nodes

    volumes = [volume for kind in run.recipe.get("mountVolumes", {}).values() for volume in kind]
    mounted = {"mounted": sorted(volume["relativeMountPath"] for volume in volumes)}
    # The blob container, where it has one.
    reads = sorted(DATA) if "data" in mounted["mounted"] else []
    writes = sorted(output["id"] for output in run.recipe.get("outputDirectories", []))
    for process in told:
        assert process == {**process, **mounted, "data": reads, "written": writes}
    for output in run.recipe.get("outputDirectories", []):
        folder = run.share_of(output["pathPrefix"]) / run.segment / "outputs" / output.get("pathSuffix", "")
        found = {path.name: path.read_text() for path in folder.iterdir()}
        assert found == {f"of-rank-{rank}": f"{image}\n" for rank in range(len(told))}
    if preparation := run.recipe.get("jobPreparation"):
        # Once in each node's container, which the job's own processes share.
        steps = [process["prepared"] for process in told]
        assert steps == [steps[0]] * len(steps)
        assert steps[0] and all(step in preparation["commandLine"] for step in steps[0])


def test_no_recipe_is_left_out() -> None:
    assert len(recipes()) == 17
