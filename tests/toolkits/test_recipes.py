"""The original's recipes of the toolkits that this version launches, against expectations worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.toolkits.gangs import gang
from trainshed.resources.definition import definition
from trainshed.resources.jobfile import load_job_file
from trainshed.resources.parsing import parse_job
from trainshed.toolkits import MpiFlavor, PlanError, plan

RECIPES = Path(__file__).parents[3] / "shared" / "reference" / "recipes"
CLUSTER = "/subscriptions/s/resourceGroups/g/providers/Microsoft.BatchAI/workspaces/w/clusters/c"
LAUNCHED = {"PyTorch-GPU-Distributed-Gloo", "Distributed-Batch-Scoring-in-Tensorflow-with-GPU"}


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


def test_the_others_say_that_they_come_later() -> None:
    names = sorted(path.name.removesuffix(".job.json") for path in RECIPES.glob("*.job.json"))
    if not names:
        pytest.skip(f"the original's recipes are not at {RECIPES}")
    for name in set(names) - LAUNCHED:
        with pytest.raises(PlanError, match="this version cannot launch"):
            plan(_stored(name), gang(2))
