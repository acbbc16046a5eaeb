"""The original's recipes: what each launches on its nodes, worked out by hand."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.toolkits.gangs import gang
from trainshed.resources.definition import definition
from trainshed.resources.jobfile import load_job_file
from trainshed.resources.parsing import parse_job
from trainshed.toolkits import MpiFlavor, plan

RECIPES = Path(__file__).parents[3] / "shared" / "reference" / "recipes"
CLUSTER = "/subscriptions/s/resourceGroups/g/providers/Microsoft.BatchAI/workspaces/w/clusters/c"


def _stored(name: str) -> dict[str, Any]:
    path = RECIPES / f"{name}.job.json"
    if not path.exists():
        pytest.skip(f"the original's recipe is not at {path}")
    body = load_job_file(path.read_text(), storage_account="acct", storage_key="k")
    body["properties"]["cluster"] = {"id": CLUSTER}
    return definition(parse_job(body, "2018-05-01").model)


def test_pytorch_gloo() -> None:
    made = plan(_stored("PyTorch-GPU-Distributed-Gloo"), gang(2))
    line = (
        '"$(command -v python || command -v python3 || echo python)" '
        '"$AZ_BATCHAI_JOB_MOUNT_ROOT/scripts/pytorch/mnist_trainer.py" '
        "--epochs 10 --world-size 2 --dist-backend gloo --dist-url $AZ_BATCHAI_PYTORCH_INIT_METHOD "
        "--rank $AZ_BATCHAI_TASK_INDEX"
    )
    told = [(p.host, p.index, p.command_line, p.environment["AZ_BATCHAI_TASK_INDEX"], p.stdout) for p in made.processes]
    assert told == [(0, 0, line, "0", "stdout-0.txt"), (1, 1, line, "1", "stdout-1.txt")]
    assert made.environment["AZ_BATCHAI_PYTORCH_BACKEND"] == "gloo"
    assert made.environment["AZ_BATCHAI_PYTORCH_INIT_METHOD"].startswith("file:///jobs/shared/")


def test_batch_scoring() -> None:
    made = plan(_stored("Distributed-Batch-Scoring-in-Tensorflow-with-GPU"), gang(2, mpi=MpiFlavor.MPICH))
    [launcher] = made.processes
    assert (launcher.host, launcher.stdout, launcher.stderr) == (0, "stdout.txt", "stderr.txt")
    assert launcher.command_line == (
        "mpiexec -genvnone -launcher ssh -launcher-exec /agent -hosts 10.0.0.4:1,10.0.0.5:1 -n 2 /rank.sh bash -c "
        "'python -u $AZ_BATCHAI_INPUT_SCRIPT/batch_image_label.py --dataset_path $AZ_BATCHAI_INPUT_IMAGES "
        "--model_path $AZ_BATCHAI_INPUT_MODEL/inception_v3.ckpt "
        "--label_path $AZ_BATCHAI_INPUT_MODEL/imagenet_slim_labels.txt "
        "--output_dir $AZ_BATCHAI_OUTPUT_LABEL --batch_size 64'"
    )
    assert (made.slots, made.mpi_ranks) == ((1, 1), 2)


PYTHON = '"$(command -v python || command -v python3 || echo python)" '
SCRIPTS = "$AZ_BATCHAI_JOB_MOUNT_ROOT/scripts"
#: Recipes that MPI starts: ranks of each node, and what each rank runs.
UNDER_MPI = {
    "CNTK-GPU-BrainScript": (
        (1,),
        'cntk configFile="$AZ_BATCHAI_INPUT_CONFIG/ConvNet_MNIST.cntk" rootDir=. dataDir=$AZ_BATCHAI_INPUT_DATASET '
        "outputDir=$AZ_BATCHAI_OUTPUT_MODEL",
    ),
    "CNTK-GPU-BrainScript-Distributed": (
        (1, 1),
        'cntk configFile="$AZ_BATCHAI_INPUT_CONFIG/DistributedConvNet_MNIST.cntk" rootDir=. '
        "dataDir=$AZ_BATCHAI_INPUT_DATASET outputDir=$AZ_BATCHAI_OUTPUT_MODEL parallelTrain=true",
    ),
    "CNTK-GPU-Python": (
        (1,),
        f'{PYTHON}"{SCRIPTS}/cntk/ConvNet_MNIST.py" $AZ_BATCHAI_JOB_MOUNT_ROOT/data/mnist_data '
        "$AZ_BATCHAI_OUTPUT_MODEL",
    ),
    "CNTK-GPU-Python-Distributed": (
        (1, 1),
        f'{PYTHON}"{SCRIPTS}/cntk/ConvNet_CIFAR10_DataAug_Distributed.py" --datadir $AZ_BATCHAI_JOB_TEMP '
        "--outputdir $AZ_BATCHAI_OUTPUT_MODEL -n 5",
    ),
    "CNTK-GPU-Python-Distributed-Infiniband": (
        (4, 4),
        f'{PYTHON}"{SCRIPTS}/cntk/TrainResNet_CIFAR10_Distributed.py" --datadir $AZ_BATCHAI_JOB_TEMP '
        "-outputdir $AZ_BATCHAI_OUTPUT_MODEL -n resnet110 -e 5",
    ),
    "Chainer-GPU-Distributed": (
        (1, 1),
        f'{PYTHON}"{SCRIPTS}/chainer/train_mnist.py" -g -o $AZ_BATCHAI_OUTPUT_MODEL',
    ),
    "Chainer-GPU-Distributed-Infiniband": (
        (4, 4),
        f'{PYTHON}"{SCRIPTS}/chainer/train_mnist.py" -g --communicator non_cuda_aware -o $AZ_BATCHAI_OUTPUT_MODEL',
    ),
    "Horovod-PyTorch": ((1, 1), f'{PYTHON}"{SCRIPTS}/horovod/pytorch_mnist.py"'),
    "Horovod-Tensorflow": ((1, 1), f'{PYTHON}"{SCRIPTS}/horovod/tensorflow_mnist.py"'),
    "Horovod-Infiniband-Benchmark": (
        (4, 4),
        f'{PYTHON}"$AZ_BATCHAI_JOB_TEMP/benchmarks/scripts/tf_cnn_benchmarks/tf_cnn_benchmarks.py" '
        "--model resnet101 --batch_size 64 --variable_update horovod",
    ),
    "Keras-GPU-cntk": ((1,), f'{PYTHON}"{SCRIPTS}/keras/mnist_cnn.py"'),
    "Distributed-Batch-Scoring-in-Tensorflow-with-GPU": (
        (1, 1),
        "python -u $AZ_BATCHAI_INPUT_SCRIPT/batch_image_label.py --dataset_path $AZ_BATCHAI_INPUT_IMAGES "
        "--model_path $AZ_BATCHAI_INPUT_MODEL/inception_v3.ckpt "
        "--label_path $AZ_BATCHAI_INPUT_MODEL/imagenet_slim_labels.txt "
        "--output_dir $AZ_BATCHAI_OUTPUT_LABEL --batch_size 64",
    ),
}
#: The others: host, role, log file and command of each process.
_TF = f'{PYTHON}"{SCRIPTS}/tensorflow/mnist_replica.py" '
_TF_HOSTS = "--ps_hosts=$AZ_BATCHAI_PS_HOSTS --worker_hosts=$AZ_BATCHAI_WORKER_HOSTS "
_TF_WORKER = (
    f"{_TF}--job_name=worker --num_gpus=1 {_TF_HOSTS}--train_steps 10000 --checkpoint_dir=$AZ_BATCHAI_OUTPUT_MODEL "
    "--log_dir=$AZ_BATCHAI_OUTPUT_TENSORBOARD --task_index=$AZ_BATCHAI_TASK_INDEX --data_dir=$AZ_BATCHAI_INPUT_DATASET"
)
_CAFFE2 = (
    f'{PYTHON}"{SCRIPTS}/caffe2/resnet50_trainer.py" --num_shards 2 --shard_id $AZ_BATCHAI_TASK_INDEX --run_id 0 '
    "--epoch_size 2000 --num_epochs 5 --train_data $AZ_BATCHAI_JOB_MOUNT_ROOT/data/mnist_data/mnist_train_lmdb "
    "--file_store_path $AZ_BATCHAI_SHARED_JOB_TEMP"
)
BY_THE_SERVICE = {
    "Caffe2-GPU-Distributed": [(0, "shard", "stdout-0.txt", _CAFFE2), (1, "shard", "stdout-1.txt", _CAFFE2)],
    "Keras-GPU-tensorflow": [(0, "master", "stdout-wk-0.txt", f'{PYTHON}"{SCRIPTS}/keras/mnist_cnn.py"')],
    "TensorFlow-GPU": [(0, "master", "stdout-wk-0.txt", f'{PYTHON}"{SCRIPTS}/tensorflow/convolutional.py"')],
    "TensorFlow-GPU-Distributed": [
        (
            0,
            "ps",
            "stdout-ps-0.txt",
            f"{_TF}--job_name=ps --num_gpus=0 {_TF_HOSTS}--task_index=$AZ_BATCHAI_TASK_INDEX "
            "--data_dir=$AZ_BATCHAI_JOB_MOUNT_ROOT/data/mnist_data",
        ),
        (0, "master", "stdout-wk-0.txt", _TF_WORKER),
        (1, "worker", "stdout-wk-1.txt", _TF_WORKER),
    ],
}


@pytest.mark.parametrize("name", UNDER_MPI)
@pytest.mark.parametrize("flavor", MpiFlavor)
def test_what_mpi_starts(name: str, flavor: MpiFlavor) -> None:
    slots, command = UNDER_MPI[name]
    made = plan(_stored(name), gang(len(slots), mpi=flavor))
    [launcher] = made.processes
    assert (launcher.host, launcher.stdout, launcher.stderr) == (0, "stdout.txt", "stderr.txt")
    assert shlex.split(launcher.command_line)[-4:] == ["/rank.sh", "bash", "-c", command]
    assert (made.slots, made.mpi_ranks) == (slots, sum(slots))
    assert made.environment.get("KERAS_BACKEND") == ("cntk" if "cntk" in name.lower() else None)


@pytest.mark.parametrize("name", BY_THE_SERVICE)
def test_what_the_service_starts(name: str) -> None:
    stored = _stored(name)
    made = plan(stored, gang(stored["nodeCount"]))
    assert [(p.host, p.role, p.stdout, p.command_line) for p in made.processes] == BY_THE_SERVICE[name]


@pytest.mark.parametrize("name", [*UNDER_MPI, *BY_THE_SERVICE, "PyTorch-GPU-Distributed-Gloo"])
def test_a_recipe_is_the_same_in_a_container_and_on_the_host(name: str) -> None:
    stored = _stored(name)
    nodes = gang(stored["nodeCount"], mpi=MpiFlavor.OPEN_MPI_5)
    image = {"containerSettings": {"imageSourceRegistry": {"image": "ubuntu"}}}
    on_host = {member: value for member, value in stored.items() if member != "containerSettings"}
    assert plan({**on_host, **image}, nodes) == plan(on_host, nodes) == plan(stored, nodes)


def test_no_recipe_is_left_out() -> None:
    names = {path.name.removesuffix(".job.json") for path in RECIPES.glob("*.job.json")}
    if not names:
        pytest.skip(f"the original's recipes are not at {RECIPES}")
    assert names == {*UNDER_MPI, *BY_THE_SERVICE, "PyTorch-GPU-Distributed-Gloo"}
