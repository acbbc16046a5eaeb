"""What slurmrestd of several versions answers. Of v0.0.38 as a real one said it; of later ones after their OpenAPI."""

from __future__ import annotations

from typing import Any

import pytest

from trainshed.engines.slurm.parsing import NodeLine, QueueLine
from trainshed.engines.slurm.rest import shapes


def value(number: int | None) -> dict[str, Any]:
    """A number as v0.0.39 and later have it."""
    return {"set": number is not None, "infinite": False, "number": number or 0}


OLD_JOB = {
    "job_id": 8,
    "array_job_id": 0,
    "array_task_id": None,
    "array_task_string": "",
    "comment": "trainshed:m:t",
    "job_state": "PENDING",
    "restart_cnt": 1,
    "start_time": 1795294823,
    "state_description": "",
    "state_reason": "BeginTime",
    "user_id": 5,
    "user_name": "games",
}
NEW_JOB = {
    **OLD_JOB,
    "array_job_id": value(0),
    "array_task_id": value(None),
    "job_state": ["PENDING"],
    "start_time": value(1795294823),
}
EXPECTED = QueueLine("8", "PENDING", 1, 1795294823000, "trainshed:m:t", "BeginTime", 5)


@pytest.mark.parametrize("job", [OLD_JOB, NEW_JOB], ids=["v0.0.38", "v0.0.40"])
def test_a_job_reads_the_same_from_every_version(job: dict[str, Any]) -> None:
    assert shapes.queue_lines({"jobs": [job]}) == [("games", EXPECTED)]


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("RUNNING", "RUNNING"),
        (["RUNNING"], "RUNNING"),
        (["RUNNING", "COMPLETING"], "COMPLETING"),
        (["PENDING", "REQUEUED"], "REQUEUED"),
        (["PENDING", "REQUEUE_HOLD", "SPECIAL_EXIT"], "REQUEUE_HOLD"),
        (["CANCELLED", "POWER_UP_NODE"], "CANCELLED"),
        ([], "UNKNOWN"),
        (None, "UNKNOWN"),
    ],
)
def test_a_state_is_one_word(said: Any, state: str) -> None:
    assert shapes.job_state(said) == state


@pytest.mark.parametrize(
    ("job", "names"),
    [
        ({"job_id": 9, "array_job_id": 7, "array_task_id": 2, "array_task_string": ""}, ["7_2"]),
        ({"job_id": 9, "array_job_id": value(7), "array_task_id": value(0)}, ["7_0"]),
        (
            {"job_id": 7, "array_job_id": 7, "array_task_id": None, "array_task_string": "0-2,6%4"},
            ["7_0", "7_1", "7_2", "7_6"],
        ),
        ({"job_id": 7, "array_job_id": value(0), "array_task_id": value(None)}, ["7"]),
    ],
)
def test_elements_of_an_array_are_jobs(job: dict[str, Any], names: list[str]) -> None:
    assert [line.job for _, line in shapes.queue_lines({"jobs": [{**job, "job_state": "PENDING"}]})] == names


@pytest.mark.parametrize(
    ("said", "number"),
    [
        (7, 7),
        ("7", 7),
        (None, None),
        (True, None),
        (value(7), 7),
        (value(None), None),
        ({"set": True, "infinite": True, "number": 0}, None),
    ],
)
def test_numbers_are_plain_or_say_more(said: Any, number: int | None) -> None:
    assert shapes.number(said) == number


OLD_NODES = {"nodes": [{"name": "n1", "address": "127.0.0.4", "cpus": 2, "real_memory": 1000, "gres": "gpu:2"}]}
OLD_PARTITIONS = [
    {"name": "batch", "flags": ["default"], "max_time_limit": -1},
    {"name": "low", "flags": [], "max_time_limit": 60},
]
NEW_PARTITIONS = [
    {"name": "batch", "maximums": {"time": {"set": False, "infinite": True, "number": 0}}},
    {"name": "low", "maximums": {"time": value(60)}},
]


def test_nodes_are_seen_once_in_each_of_their_partitions() -> None:
    state = {"state": "idle", "state_flags": ["DRAIN"], "reason": "a fan", "partitions": ["batch", "low"]}
    nodes = {"nodes": [{**OLD_NODES["nodes"][0], **state}]}
    line = NodeLine("n1", "batch*", None, "drained", "", "127.0.0.4", 2, 1000, "gpu:2", "a fan")
    assert shapes.node_lines(nodes, {"partitions": OLD_PARTITIONS})[0] == line
    newer = {"nodes": [{**OLD_NODES["nodes"][0], **state, "state": ["IDLE", "DRAIN"], "state_flags": None}]}
    found = shapes.node_lines(newer, {"partitions": NEW_PARTITIONS})
    # Later versions do not say which partition is the default one.
    assert [(one.partition, one.minutes, one.state) for one in found] == [
        ("batch", None, "drained"),
        ("low", 60, "drained"),
    ]
    assert shapes.node_lines(newer, {"partitions": NEW_PARTITIONS[:1]})[0].partition == "batch*"


@pytest.mark.parametrize(
    ("said", "state", "marks"),
    [
        (["IDLE"], "idle", ""),
        (["IDLE", "CLOUD", "POWERED_DOWN"], "idle", "~"),
        (["IDLE", "CLOUD", "POWERING_UP"], "idle", "#"),
        (["DOWN", "NOT_RESPONDING"], "down", "*"),
        (["ALLOCATED", "DRAIN"], "draining", ""),
        (["MIXED", "COMPLETING"], "mixed", ""),
        (["IDLE", "FAIL"], "fail", ""),
        (["IDLE", "A_FLAG_OF_TOMORROW"], "idle", ""),
        ([], "unknown", ""),
    ],
)
def test_states_of_nodes_are_as_sinfo_has_them(said: list[str], state: str, marks: str) -> None:
    assert shapes.node_state(said) == (state, marks)


def test_errors_have_had_several_names() -> None:
    answer = {
        "errors": [
            {"error_code": 2000, "error": "Invalid partition name specified"},
            {"description": "Failed", "error_number": -1, "error": "Unspecified error", "source": "x"},
            "words",
        ]
    }
    assert shapes.errors(answer) == [
        (2000, "Invalid partition name specified"),
        (-1, "Failed: Unspecified error"),
        (None, "words"),
    ]
    assert shapes.errors({"errors": []}) == shapes.errors(None) == []


@pytest.mark.parametrize(
    ("answer", "job"),
    [
        ({"job_id": 5}, "5"),
        ({"result": {"job_id": 6}}, "6"),
        ({"job_id": value(7)}, "7"),
        ({"job_id": 0}, ""),
        ({}, ""),
    ],
)
def test_the_number_of_a_submitted_job(answer: dict[str, Any], job: str) -> None:
    assert shapes.submitted(answer) == job


@pytest.mark.parametrize("state", [{"current": "PREEMPTED"}, {"current": ["PREEMPTED"]}])
def test_final_states_by_accounting(state: Any) -> None:
    assert shapes.final_states({"jobs": [{"job_id": 5, "state": state}]}) == {"5": "PREEMPTED"}
