"""POST planJob: what a job would start where, for every toolkit, without anything being made."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.service import CLUSTER, EXPERIMENT, NEW, TABLES, Service, cluster_body, job_body

SCRIPT = {"pythonScriptFilePath": "t.py"}
#: A job of each toolkit with 4 processes on 2 nodes, where it can have several: (role, index, node) of each process.
TOOLKITS: list[tuple[str, dict[str, Any], list[tuple[str, int, int]], int]] = [
    ("cntkSettings", {"configFilePath": "c.cntk", "processCount": 4}, [("master", 0, 0)], 4),
    ("caffeSettings", {"configFilePath": "s.prototxt", "processCount": 4}, [("master", 0, 0)], 4),
    ("chainerSettings", {**SCRIPT, "processCount": 4}, [("master", 0, 0)], 4),
    ("horovodSettings", {**SCRIPT, "processCount": 4}, [("master", 0, 0)], 4),
    ("customMpiSettings", {"commandLine": "true", "processCount": 4}, [("master", 0, 0)], 4),
    ("caffe2Settings", SCRIPT, [("shard", 0, 0), ("shard", 1, 1)], 0),
    ("customToolkitSettings", {"commandLine": "true"}, [("master", 0, 0)], 0),
    (
        "pyTorchSettings",
        {**SCRIPT, "processCount": 4},
        [("rank", 0, 0), ("rank", 1, 0), ("rank", 2, 1), ("rank", 3, 1)],
        0,
    ),
    (
        "tensorFlowSettings",
        {**SCRIPT, "workerCount": 2, "parameterServerCount": 1},
        [("ps", 0, 0), ("master", 0, 0), ("worker", 1, 1)],
        0,
    ),
]


def ask(service: Service, body: Any, *, status: int = 200) -> Any:
    answer = service.send("POST", f"{EXPERIMENT}/planJob", body, version=NEW)
    assert answer.status_code == status, answer.text
    return answer.json()


def job(settings: dict[str, Any], nodes: int = 2, **more: Any) -> dict[str, Any]:
    """A job on no cluster."""
    return job_body(**{"cluster": None, "customToolkitSettings": None, "nodeCount": nodes, **settings, **more})


def variables(pairs: list[dict[str, str]]) -> dict[str, str]:
    return {pair["name"]: pair["value"] for pair in pairs}


@pytest.mark.parametrize(("member", "settings", "processes", "ranks"), TOOLKITS, ids=[each[0] for each in TOOLKITS])
def test_every_toolkit(
    service: Service, member: str, settings: dict[str, Any], processes: list[tuple[str, int, int]], ranks: int
) -> None:
    told = ask(service, job({member: settings}))
    assert [(entry["role"], entry["index"], entry["node"]) for entry in told["processes"]] == processes
    assert [(entry["rank"], entry["node"]) for entry in told["ranks"]] == [(0, 0), (1, 0), (2, 1), (3, 1)][:ranks]
    assert [(node["name"], node["address"]) for node in told["nodes"]] == [
        ("node-1", "10.0.0.4"),
        ("node-2", "10.0.0.5"),
    ]
    assert ("mpi" in told) == bool(ranks)
    for entry in told["processes"]:
        assert entry["commandLine"] and entry["stdout"].startswith("stdout") and entry["stderr"].startswith("stderr")


def test_nothing_is_made_and_nothing_is_noted(service: Service) -> None:
    def rows() -> dict[str, int]:
        from sqlalchemy import text

        return service.db.read_sync(
            lambda tx: {t: tx.execute(text(f"SELECT count(*) FROM {t}")).scalar() for t in TABLES}
        )

    before = rows()
    ask(service, job({"customToolkitSettings": {"commandLine": "true"}}))
    assert rows() == before
    assert service.send("GET", EXPERIMENT).status_code == 404


def test_what_each_node_and_process_finds(service: Service) -> None:
    body = job(
        {"pyTorchSettings": {**SCRIPT, "communicationBackend": "gloo"}},
        environmentVariables=[{"name": "URL", "value": "https://me:$KEY@x/$AZ_BATCHAI_INPUT_DATA"}],
        secrets=[{"name": "KEY", "value": "hunter2"}],
        inputDirectories=[{"id": "DATA", "path": "$AZ_BATCHAI_MOUNT_ROOT/data"}],
        jobPreparation={"commandLine": "pip install x"},
    )
    told = ask(service, {**body, "assume": {"gpus": 2, "cpus": 6}})
    first, second = told["nodes"]
    assert (first["cpus"], first["gpus"], first["slots"]) == (6, 2, 1)
    assert first["preparation"] == {
        "commandLine": "pip install x",
        "stdout": "stdout-job_prep-node-1.txt",
        "stderr": "stderr-job_prep-node-1.txt",
    }
    found = variables(second["environment"])
    root = "/mnt/batch/tasks/shared/LS_root"
    expected = {
        "AZ_BATCHAI_NUM_GPUS": "2",
        "AZ_BATCH_HOST_LIST": "10.0.0.4,10.0.0.5",
        "AZ_BATCHAI_INPUT_DATA": f"{root}/mounts/data",
        "AZ_BATCHAI_JOB_TEMP": f"{root}/jobs/ws/exp/job",
        "AZ_BATCHAI_PYTORCH_BACKEND": "gloo",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "MASTER_ADDR": "10.0.0.4",
        "WORLD_SIZE": "2",
        "KEY": "***",
        "URL": f"https://me:***@x/{root}/mounts/data",
    }
    assert {name: found.get(name) for name in expected} == expected
    assert variables(told["processes"][1]["environment"]) == {
        "AZ_BATCHAI_TASK_INDEX": "1",
        "RANK": "1",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "NODE_RANK": "1",
    }
    assert "hunter2" not in str(told)


@pytest.mark.parametrize(
    ("mpi", "flavor", "starts"),
    [
        (None, "openmpi5", '"$(command -v mpirun)" --leave-session-attached --prtemca'),
        ("openmpi4", "openmpi4", '"$(command -v mpirun)" --leave-session-attached --mca'),
        ("MPICH", "mpich", "mpiexec -genvnone"),
        ("intel", "intelmpi", "mpiexec -genvnone"),
    ],
)
def test_the_mpi_that_the_nodes_are_said_to_hold(service: Service, mpi: str | None, flavor: str, starts: str) -> None:
    body = job({"customMpiSettings": {"commandLine": "true", "processCount": 2}}, gpusPerProcess=1)
    told = ask(service, {**body, "assume": {"gpus": 1, **({"mpi": mpi} if mpi else {})}})
    assert told["mpi"] == flavor
    assert told["processes"][0]["commandLine"].startswith(starts)
    assert [variables(rank["environment"]) for rank in told["ranks"]] == [
        {
            "RANK": str(rank),
            "LOCAL_RANK": "0",
            "LOCAL_WORLD_SIZE": "1",
            "NODE_RANK": str(rank),
            "WORLD_SIZE": "2",
            "CUDA_VISIBLE_DEVICES": "0",
        }
        for rank in range(2)
    ]


def test_a_cluster_tells_cpus_gpus_and_name(shed: Service) -> None:
    large = f"{CLUSTER[:-1]}Large_1"
    assert shed.send("PUT", large, cluster_body(vmSize="STANDARD_NC12")).status_code == 202
    told = ask(shed, job_body(nodeCount=2, cluster={"id": large}))
    assert [(n["name"], n["cpus"], n["gpus"]) for n in told["nodes"]] == [("large-1-1", 12, 2), ("large-1-2", 12, 2)]
    assert ask(shed, {**job_body(), "assume": {"gpus": 4}})["nodes"][0]["gpus"] == 4


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        (job_body(nodeCount=0), "InvalidJobProperties", "nodeCount"),
        (job_body(), "ClusterNotFound", "does not exist"),
        (job({}), "InvalidJobProperties", "exactly one toolkit"),
        (job({"horovodSettings": SCRIPT}) | {"assume": {"mpi": "none"}}, "JobLaunchFailed", "no MPI was found"),
        (job({"horovodSettings": SCRIPT}) | {"assume": {"mpi": "lam"}}, "", "Supported values"),
        (job({"horovodSettings": SCRIPT, "gpusPerProcess": 1}), "JobLaunchFailed", "it has 0. Use fewer processes"),
        (
            job({"tensorFlowSettings": {**SCRIPT, "workerCount": 9}}) | {"assume": {"gpus": 4}},
            "",
            "at most nodeCount x GPUs of a node, 8",
        ),
        (job({"pyTorchSettings": {**SCRIPT, "processCount": 1025}}), "JobPlanTooLarge", "at most 1024"),
        (job({"customToolkitSettings": {"commandLine": "true"}}, sizes=1), "", "sizes"),
    ],
)
def test_what_is_refused(service: Service, body: Any, code: str, told: str) -> None:
    error = ask(service, body, status=400)["error"]
    assert told in str(error)
    if code.startswith("Job") or code == "ClusterNotFound":
        assert error["code"] == code


def test_an_old_files_unknown_members_are_ignored_and_named(service: Service) -> None:
    body = {**job({"customToolkitSettings": {"commandLine": "true"}}, sizes=1), "apiVersion": "2018-05-01"}
    answer = service.send("POST", f"{EXPERIMENT}/planJob", body, version=NEW)
    assert answer.status_code == 200
    assert "properties.sizes" in answer.headers["warning"]


def test_the_original_has_no_plans(service: Service) -> None:
    assert service.send("POST", f"{EXPERIMENT}/planJob", job_body()).status_code in (400, 404)


@pytest.mark.parametrize(("member", "settings"), [each[:2] for each in TOOLKITS], ids=[each[0] for each in TOOLKITS])
def test_the_plan_is_the_same_in_a_container(service: Service, member: str, settings: dict[str, Any]) -> None:
    container = {"imageSourceRegistry": {"image": "ubuntu"}, "shmSize": "1g"}
    assert ask(service, job({member: settings}, containerSettings=container)) == ask(service, job({member: settings}))
