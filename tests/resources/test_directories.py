"""Generated paths, file names and the variables of a job (behaviour 6 and 7)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.resources import directories
from trainshed.resources.directories import JobPlace, expand, is_below, job_environment, output_path

SEGMENT = "sub/grp/workspaces/W/experiments/E/jobs/J/uid"
PLACE = JobPlace(
    workspace="W",
    experiment="E",
    job="J",
    segment=SEGMENT,
    mount_root="/mnt/mounts",
    job_temp_root="/mnt/jobs",
    shared_job_temp="/mnt/jobs/W/E/J/shared",
    addresses=("10.0.0.4", "10.0.0.5"),
    gpus=4,
)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$A/b", "x/b"),
        ("${A}b", "xb"),
        ("$Ab", ""),
        ("$MISSING/x", "/x"),
        ("${MISSING}", ""),
        ("costs $5, $ and ${", "costs $5, $ and ${"),
        ("$A$A", "xx"),
        ("$B", "$A"),
    ],
)
def test_expansion_is_the_shells(text: str, expanded: str) -> None:
    assert expand(text, {"A": "x", "B": "$A"}) == expanded


@given(st.text().filter(lambda text: "$" not in text))
def test_text_without_variables_is_left_alone(text: str) -> None:
    assert expand(text, {}) == text


@given(st.dictionaries(st.from_regex(r"\A[A-Z_][A-Z0-9_]{0,8}\Z"), st.text(), max_size=5))
def test_each_variable_expands_to_its_value(environment: dict[str, str]) -> None:
    text = "|".join(f"${{{name}}}" for name in environment)
    assert expand(text, environment) == "|".join(environment.values())


@pytest.mark.parametrize(
    ("path", "root", "below"),
    [
        ("/a/b", "/a", True),
        ("/a", "/a", True),
        ("/a/", "/a", True),
        ("/ab", "/a", False),
        ("/a/../b", "/a", False),
        ("/a/b/../../c", "/a", False),
        ("/a/b/..", "/a", True),
        ("//a/b", "/a", True),
        ("a/b", "/a", False),
        ("", "/", False),
        ("/x", "/", True),
    ],
)
def test_is_below(path: str, root: str, below: bool) -> None:
    assert is_below(path, root) is below


def test_generated_layout() -> None:
    assert directories.segment("sub", "GRP", "W", "E", "J", "uid") == SEGMENT
    assert directories.stdouterr_directory("/logs/", SEGMENT) == f"/logs/{SEGMENT}/stdouterr"
    assert directories.output_directory("/out", SEGMENT) == f"/out/{SEGMENT}/outputs"
    assert directories.output_directory("/out", SEGMENT, "Models") == f"/out/{SEGMENT}/outputs/Models"
    assert directories.setup_segment("sub", "GRP", "W", "C", "uid") == "sub/grp/workspaces/W/clusters/C/uid"
    assert directories.setup_directory("/logs", "s/uid") == "/logs/s/uid"


def test_file_names() -> None:
    assert directories.MAIN_LOGS == ("stdout.txt", "stderr.txt")
    assert directories.rank_logs(3) == ("stdout-3.txt", "stderr-3.txt")
    assert directories.task_logs("ps", 0) == ("stdout-ps-0.txt", "stderr-ps-0.txt")
    assert directories.preparation_logs() == ("stdout-job_prep.txt", "stderr-job_prep.txt")
    assert directories.preparation_logs("n1") == ("stdout-job_prep-n1.txt", "stderr-job_prep-n1.txt")
    assert directories.execution_log() == "execution.log"
    assert directories.execution_log("n1") == "execution-n1.log"
    assert directories.setup_logs("tvm-1") == ("stdout-tvm-1.txt", "stderr-tvm-1.txt")


def test_host_file() -> None:
    text = directories.host_file_text([("10.0.0.4", 2, 4), ("10.0.0.5", 1, 4)])
    assert text == "10.0.0.4 slots=2 max_slots=4\n10.0.0.5 slots=1 max_slots=4\n"


def test_variables_of_the_simplest_job() -> None:
    assert job_environment({"stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs"}, PLACE) == {
        "AZ_BATCHAI_MOUNT_ROOT": "/mnt/mounts",
        "AZ_BATCHAI_JOB_MOUNT_ROOT": "/mnt/jobs/W/E/J/mounts",
        "AZ_BATCHAI_JOB_TEMP": "/mnt/jobs/W/E/J",
        "AZ_BATCHAI_JOB_TEMP_DIR": "/mnt/jobs",
        "AZ_BATCHAI_SHARED_JOB_TEMP": "/mnt/jobs/W/E/J/shared",
        "AZ_BATCHAI_MPI_HOST_FILE": "/mnt/jobs/W/E/J/hostfile",
        "AZ_BATCHAI_NUM_GPUS": "4",
        "AZ_BATCH_HOST_LIST": "10.0.0.4,10.0.0.5",
        "AZ_BATCHAI_STDOUTERR_DIR": f"/mnt/mounts/logs/{SEGMENT}/stdouterr",
        "TRAINSHED_CHECKPOINT_DIR": f"/mnt/mounts/{SEGMENT}/checkpoints",
    }


JOB: dict[str, Any] = {
    "stdOutErrPathPrefix": "$AZ_BATCHAI_JOB_MOUNT_ROOT/logs",
    "inputDirectories": [{"id": "DATA", "path": "$BASE/data"}, {"id": "lower", "path": "$NOWHERE/x"}],
    "outputDirectories": [
        {"id": "MODEL", "pathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/out", "pathSuffix": "$KIND"},
        {"id": "LOG", "pathPrefix": "/plain"},
    ],
    "environmentVariables": [
        {"name": "BASE", "value": "$AZ_BATCHAI_MOUNT_ROOT/base"},
        {"name": "KIND", "value": "models"},
        {"name": "CHECKPOINT", "value": "$AZ_BATCHAI_OUTPUT_MODEL/$KIND.pt"},
        {"name": "PATH", "value": "/opt/bin:$PATH"},
        {"name": "LATE", "value": "$SECRET"},
    ],
}


def test_variables_of_directories_and_users() -> None:
    environment = job_environment(JOB, replace(PLACE, secrets={"SECRET": "pa$$word$KIND"}), {"PATH": "/bin"})
    model = f"/mnt/mounts/out/{SEGMENT}/outputs/models"
    expected = {
        "AZ_BATCHAI_STDOUTERR_DIR": f"/mnt/jobs/W/E/J/mounts/logs/{SEGMENT}/stdouterr",
        "AZ_BATCHAI_INPUT_DATA": "/mnt/mounts/base/data",
        "AZ_BATCHAI_INPUT_lower": "/x",
        "AZ_BATCHAI_OUTPUT_MODEL": model,
        "AZ_BATCHAI_OUTPUT_LOG": f"/plain/{SEGMENT}/outputs",
        "AZ_BATCHAI_PREV_OUTPUT_MODEL": "",
        "AZ_BATCHAI_PREV_OUTPUT_LOG": "",
        "BASE": "/mnt/mounts/base",
        "KIND": "models",
        "CHECKPOINT": f"{model}/models.pt",
        "PATH": "/opt/bin:/bin",
        "SECRET": "pa$$word$KIND",
        "LATE": "pa$$word$KIND",
    }
    assert {name: environment[name] for name in expected} == expected


def test_a_second_attempt_finds_the_earlier_output() -> None:
    environment = job_environment(JOB, replace(PLACE, attempt_number=2))
    assert environment["AZ_BATCHAI_PREV_OUTPUT_LOG"] == environment["AZ_BATCHAI_OUTPUT_LOG"]


@pytest.mark.parametrize(
    ("prefixes", "volumes", "expected"),
    [
        (["$AZ_BATCHAI_MOUNT_ROOT/out", "$AZ_BATCHAI_MOUNT_ROOT/more"], False, "/mnt/mounts/out"),
        # What lies on a node ends with it.
        (["/scratch", "$AZ_BATCHAI_MOUNT_ROOT/more"], False, "/mnt/mounts/more"),
        (["$AZ_BATCHAI_JOB_MOUNT_ROOT/share"], True, "/mnt/jobs/W/E/J/mounts/share"),
        (["$AZ_BATCHAI_JOB_MOUNT_ROOT/share"], False, "/mnt/mounts"),
    ],
)
def test_checkpoints_lie_where_they_outlive_the_nodes(prefixes: list[str], volumes: bool, expected: str) -> None:
    outputs = [{"id": f"O{number}", "pathPrefix": prefix} for number, prefix in enumerate(prefixes)]
    job = {"stdOutErrPathPrefix": "/x", "outputDirectories": outputs, "mountVolumes": {"a": []} if volumes else None}
    paths = {
        job_environment(job, replace(PLACE, attempt_number=number))["TRAINSHED_CHECKPOINT_DIR"] for number in (1, 2)
    }
    assert paths == {f"{expected}/{SEGMENT}/checkpoints"}


def test_a_jobs_own_directory_may_be_called_checkpoints() -> None:
    job = {"stdOutErrPathPrefix": "/x"}
    assert output_path(job, "checkpoints", job_environment(job, PLACE)) == f"/mnt/mounts/{SEGMENT}/checkpoints"
    own = {**job, "outputDirectories": [{"id": "checkpoints", "pathPrefix": "/own"}]}
    assert output_path(own, "checkpoints", job_environment(own, PLACE)) == f"/own/{SEGMENT}/outputs"


def test_output_paths_by_id() -> None:
    environment = job_environment(JOB, PLACE)
    assert output_path(JOB, "stdouterr", environment) == environment["AZ_BATCHAI_STDOUTERR_DIR"]
    assert output_path(JOB, "LOG", environment) == f"/plain/{SEGMENT}/outputs"
    assert output_path(JOB, "DATA", environment) is None
