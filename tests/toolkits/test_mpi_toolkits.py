"""CNTK, Caffe, Chainer and Horovod: what each rank runs, on how many nodes, with and without MPI (behaviour 8)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.toolkits.gangs import gang
from trainshed.toolkits import MpiFlavor, PlanError, Process, plan

PYTHON = '"$(command -v python || command -v python3 || echo python)"'
SCRIPT = {"pythonScriptFilePath": "$AZ_BATCHAI_INPUT_SCRIPTS/train it.py", "commandLineArgs": "-e 3 -o $OUT"}
RUN = f'{PYTHON} "$AZ_BATCHAI_INPUT_SCRIPTS/train it.py" -e 3 -o $OUT'
CONFIG = {"configFilePath": "$AZ_BATCHAI_INPUT_CONFIG/net.cntk", "commandLineArgs": "rootDir=. parallelTrain=true"}
BRAINSCRIPT = 'cntk configFile="$AZ_BATCHAI_INPUT_CONFIG/net.cntk" rootDir=. parallelTrain=true'
SOLVER = {"configFilePath": "$AZ_BATCHAI_INPUT_SAMPLE/solver.prototxt"}
TRAIN = 'caffe train --solver "$AZ_BATCHAI_INPUT_SAMPLE/solver.prototxt"'

KINDS: list[tuple[str, dict[str, Any], str]] = [
    ("chainerSettings", SCRIPT, RUN),
    ("horovodSettings", SCRIPT, RUN),
    ("cntkSettings", {**SCRIPT, "languageType": "Python"}, RUN),
    ("cntkSettings", SCRIPT, RUN),
    ("cntkSettings", CONFIG, BRAINSCRIPT),
    ("cntkSettings", {**CONFIG, "languageType": "BrainScript"}, BRAINSCRIPT),
    ("cntkSettings", {"configFilePath": "a.cntk"}, 'cntk configFile="a.cntk"'),
    ("caffeSettings", SCRIPT, RUN),
    ("caffeSettings", SOLVER, TRAIN),
    ("caffeSettings", {**SOLVER, "commandLineArgs": "-gpu all"}, f"{TRAIN} -gpu all"),
]


@pytest.mark.parametrize(("member", "settings", "command"), KINDS)
@pytest.mark.parametrize(
    ("nodes", "count", "slots"),
    [(1, None, (1,)), (1, 3, (3,)), (2, None, (1, 1)), (2, 8, (4, 4)), (4, None, (1, 1, 1, 1)), (4, 6, (2, 2, 1, 1))],
)
def test_one_launcher_for_all_ranks(
    member: str, settings: dict[str, Any], command: str, nodes: int, count: int | None, slots: tuple[int, ...]
) -> None:
    given = settings if count is None else {**settings, "processCount": count}
    made = plan({member: given}, gang(nodes, mpi=MpiFlavor.MPICH))
    [launcher] = made.processes
    hosts = ",".join(f"10.0.0.{4 + host}:{size}" for host, size in enumerate(slots))
    quoted = command.replace("'", "'\"'\"'")
    assert launcher == Process(
        host=0,
        role="master",
        index=0,
        command_line=(
            f"mpiexec -genvnone -launcher ssh -launcher-exec /agent -hosts {hosts} -n {sum(slots)} "
            f"/rank.sh bash -c '{quoted}'"
        ),
    )
    assert (made.slots, made.mpi_ranks) == (slots, sum(slots))
    assert made.environment["MASTER_ADDR"] == "10.0.0.4"


@pytest.mark.parametrize(("member", "settings", "command"), KINDS)
def test_a_single_process_does_without_mpi(member: str, settings: dict[str, Any], command: str) -> None:
    made = plan({member: settings}, gang(1))
    [alone] = made.processes
    assert (alone.host, alone.command_line, alone.stdout) == (0, command, "stdout.txt")
    assert (made.slots, made.mpi_ranks, made.environment["WORLD_SIZE"]) == ((1,), 0, "1")
    assert alone.environment == {"RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "NODE_RANK": "0"}


@pytest.mark.parametrize(("member", "settings"), [(member, settings) for member, settings, _ in KINDS])
def test_several_processes_need_mpi(member: str, settings: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match=f"{member}: no MPI was found"):
        plan({member: settings}, gang(2))


@pytest.mark.parametrize(
    ("member", "settings", "told"),
    [
        ("chainerSettings", {}, "pythonScriptFilePath is missing"),
        ("horovodSettings", {"pythonScriptFilePath": ""}, "pythonScriptFilePath is missing"),
        ("cntkSettings", {}, "pythonScriptFilePath is missing"),
        ("cntkSettings", {"languageType": "BrainScript"}, "configFilePath is missing"),
        ("caffeSettings", {}, "needs configFilePath"),
    ],
)
def test_something_must_be_run(member: str, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(PlanError, match=told):
        plan({member: settings}, gang(1))


@pytest.mark.parametrize(("nodes", "gpus"), [(1, 0), (2, 0), (4, 0)])
def test_caffe2_is_one_shard_a_node(nodes: int, gpus: int) -> None:
    made = plan({"caffe2Settings": SCRIPT}, gang(nodes))
    assert [(p.host, p.role, p.index, p.command_line, p.stdout, p.stderr) for p in made.processes] == [
        (node, "shard", node, RUN, f"stdout-{node}.txt", f"stderr-{node}.txt") for node in range(nodes)
    ]
    assert [p.environment["AZ_BATCHAI_TASK_INDEX"] for p in made.processes] == [str(node) for node in range(nodes)]
    assert all(process.essential for process in made.processes)
    assert (made.slots, made.mpi_ranks, made.environment["WORLD_SIZE"]) == ((1,) * nodes, 0, str(nodes))
