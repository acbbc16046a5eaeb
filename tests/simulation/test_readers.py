"""Traces in each format: what is read, what is left out, and what is said of what cannot be read."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from trainshed.simulation.helios import COLUMNS, read_helios
from trainshed.simulation.history import from_history
from trainshed.simulation.philly import read_philly
from trainshed.simulation.reading import TraceFormat, read_trace, recognised
from trainshed.simulation.swf import Field, read_swf, write_swf
from trainshed.simulation.table import read_table, write_table
from trainshed.simulation.trace import Trace, TraceError, TraceJob


def swf(**fields: float) -> str:
    line: list[float] = [-1] * len(Field)
    for name, value in fields.items():
        line[Field[name.upper()]] = value
    return " ".join(f"{value:g}" for value in line)


SWF = [
    "; Version: 2.2",
    "; UnixStartTime: 1000",
    "; MaxNodes: 16 (thin)",
    ";  MaxProcs: 64",
    "",
    swf(job=1, submit=5, run_time=100, allocated=6, requested=8, requested_time=300, status=1, user=3, executable=9),
    swf(job=2, submit=0, run_time=60, requested=4, requested_time=10, status=0),
    swf(job=3, submit=1, run_time=0, allocated=4, status=5),
    swf(job=4, submit=1, run_time=-1, allocated=4, status=0),
    swf(job=5, submit=1, run_time=9, allocated=4, status=2),
    swf(job=6, submit=2, run_time=9, allocated=1, status=5),
    swf(job=7, submit=2, run_time=9, status=1),
]


def test_the_standard_workload_format() -> None:
    trace = read_swf(SWF)
    assert trace.nodes == 16
    assert trace.jobs == (
        TraceJob(1_000_000, 60_000, 1, limit=60_000, name="2"),
        TraceJob(1_002_000, 9_000, 1, name="6"),
        TraceJob(1_005_000, 100_000, 2, limit=300_000, user="3", experiment="9", name="1"),
    )
    assert trace.skipped == {
        "cancelled before they ran": 1,
        "without a run time": 1,
        "parts of jobs that have a line of their own": 1,
        "without a number of processors": 1,
    }


def test_processors_of_a_node_can_be_said() -> None:
    trace = read_swf(SWF, per_node=1)
    assert (trace.nodes, trace.widest) == (64, 6)


HELIOS = [
    ",".join(COLUMNS),
    "1,uA,vcB,9,16,2,COMPLETED,2020-06-09 18:41:01,2020-06-09 18:41:05,2020-06-09 18:42:05,60,4",
    "2,uA,vcB,0,16,1,COMPLETED,2020-06-09 18:41:02,2020-06-09 18:41:05,2020-06-09 18:42:05,60,3",
    "3,uA,vcB,1,16,1,CANCELLED,2020-06-09 18:41:02,None,None,0,0",
    "4,uC,vcD,1,1,1,FAILED,2020-06-09 18:41:00,2020-06-09 18:41:00,2020-06-09 18:41:07,7,0",
]


def test_helios() -> None:
    trace = read_helios(HELIOS, per_node=8)
    assert [(job.name, job.nodes, job.runtime, job.user, job.experiment) for job in trace.jobs] == [
        ("4", 1, 7_000, "uC", "vcD"),
        ("1", 2, 60_000, "uA", "vcB"),
    ]
    assert trace.span == 1_000
    assert trace.skipped == {"without GPUs": 1, "never ran": 1}


def philly(**changes: Any) -> dict[str, Any]:
    def attempt(start: str | None, end: str | None, gpus: int) -> dict[str, Any]:
        return {"start_time": start, "end_time": end, "detail": [{"ip": "m1", "gpus": ["gpu0"] * gpus}]}

    job = {
        "status": "Pass",
        "vc": "ee9e8c",
        "jobid": "application_1",
        "attempts": [
            attempt("2017-10-07 01:12:09", "2017-10-07 01:12:19", 8),
            attempt("2017-10-07 01:13:00", None, 16),
            attempt("2017-10-07 01:14:00", "2017-10-07 01:15:00", 4),
        ],
        "submitted_time": "2017-10-07 01:11:39",
        "user": "ce2f4c",
    }
    return {**job, **changes}


def test_philly() -> None:
    jobs = [philly(), philly(jobid="application_2", attempts=[]), philly(submitted_time="None")]
    trace = read_philly(json.dumps(jobs, indent=1).splitlines(keepends=True), per_node=4)
    (job,) = trace.jobs
    assert (job.name, job.runtime, job.nodes, job.user, job.experiment) == (
        "application_1",
        70_000,
        2,
        "ce2f4c",
        "ee9e8c",
    )
    assert trace.skipped == {"never ran": 1, "without a time of submission": 1}


def test_plain_tables() -> None:
    trace = read_table(
        [
            "submitted,runtime,nodes,limit,user,experiment,priority,name",
            "60.5,PT2M,2,1:00:00,ann,e,high,late",
            '0,90,1,,"b,b",,-5,early',
        ]
    )
    assert trace.jobs == (
        TraceJob(0, 90_000, 1, user="b,b", priority=-5, name="early"),
        TraceJob(60_500, 120_000, 2, 3_600_000, "ann", "e", 1000, "late"),
    )


def test_the_services_own_history() -> None:
    def job(name: str, state: str, **execution: str) -> dict[str, Any]:
        return {
            "id": f"/subscriptions/s/.../workspaces/w/experiments/exp/jobs/{name}",
            "name": name,
            "properties": {
                "creationTime": "2026-11-21T10:00:00Z",
                "nodeCount": 2,
                "schedulingPriority": "low",
                "constraints": {"maxWallClockTime": "PT1H"},
                "executionState": state,
                "executionInfo": execution,
            },
        }

    start, end = "2026-11-21T10:01:00Z", "2026-11-21T10:01:30.5Z"
    trace = from_history(
        [
            job("a", "succeeded", startTime=start, endTime=end),
            job("b", "running", startTime=start),
            job("c", "queued"),
            job("d", "failed", endTime=end),
        ]
    )
    (one,) = trace.jobs
    assert (one.name, one.runtime, one.nodes, one.limit, one.experiment, one.priority) == (
        "a", 30_500, 2, 3_600_000, "exp", -1000
    )  # fmt: skip
    assert trace.skipped == {"still running": 1, "still waiting": 1, "never ran": 1}


JOBS = Trace.of(
    [
        TraceJob(1_600_000_000_000, 1_500, 3, 60_000, "ann", "e1", 0, "x"),
        TraceJob(1_600_000_005_250, 0, 1, None, "bob", "", 0, 'y,"'),
    ],
    nodes=8,
)


def test_what_is_written_is_read_again() -> None:
    assert read_table(write_table(JOBS)).jobs == JOBS.jobs
    again = read_swf(write_swf(JOBS, note="made"))
    assert again.nodes == 8
    assert [(job.submitted, job.runtime, job.nodes, job.limit, job.user) for job in again.jobs] == [
        (job.submitted, job.runtime, job.nodes, job.limit, str(number)) for number, job in enumerate(JOBS.jobs, 1)
    ]


@pytest.mark.parametrize(
    ("line", "form"),
    [
        ("; Version: 2.2", TraceFormat.SWF),
        (swf(job=1, submit=0), TraceFormat.SWF),
        ("1 0 -1 2.5", TraceFormat.SWF),
        ("[", TraceFormat.PHILLY),
        (",".join(COLUMNS), TraceFormat.HELIOS),
        ("submitted,runtime,nodes", TraceFormat.CSV),
    ],
)
def test_formats_are_recognised(line: str, form: TraceFormat) -> None:
    assert recognised(line) is form


def test_empty_lines_before_a_trace_do_not_matter() -> None:
    assert len(read_trace(["\n", "\n", *(line + "\n" for line in SWF)]).jobs) == 3
    assert read_trace(["submitted,runtime,nodes\n"]).jobs == ()


@pytest.mark.parametrize(
    ("read", "lines", "said"),
    [
        (read_swf, ["; x", "1 2 3"], "line 2: a job has 18 fields and this line has 3"),
        (read_swf, [swf(job=1).replace("1", "one", 1)], "line 1: a field is not a number"),
        (read_swf, [swf(job=1, submit=-5, run_time=1, allocated=1)], "line 1: the submit time is negative"),
        (read_table, ["submitted,nodes"], "line 1: the column 'runtime' is missing; there are submitted, nodes"),
        (read_table, ["submitted,runtime,nodes,gpu"], "line 1: the column 'gpu' is not known"),
        (read_table, ["submitted,runtime,nodes", "0,1,1", "0,1,0"], "line 3: nodes is '0'"),
        (read_table, ["submitted,runtime,nodes", "0,soon,1"], "line 2: runtime: 'soon' is not a duration"),
        (read_table, ["submitted,runtime,nodes", "-1,1,1"], "line 2: submitted is '-1'"),
        (read_table, ["submitted,runtime,nodes,priority", "0,1,1,urgent"], "line 2: priority is 'urgent'"),
        (read_table, ["submitted,runtime,nodes", "0,1"], "line 2: nodes is ''"),
        (read_table, ["submitted,runtime,nodes", "0,1,1,5"], "line 2: it has more values than there are columns"),
        (read_table, [], "the column 'submitted' is missing; there are none"),
        (read_helios, [*HELIOS, "5,u,v,x,1,1,S,2020-06-09 18:41:01,a,b,1,0"], "line 6: gpu_num is 'x', not a number"),
        (read_helios, [HELIOS[0], "5,u,v,1,1,1,S,today,a,b,1,0"], "line 2: submit_time is 'today', not a time"),
        (read_philly, ["[\n", "{,"], "line 2: it is not JSON"),
        (read_philly, ["{}"], "line 1: it is not a list of jobs"),
        (read_philly, ['[{"jobid": "a"}]'], "job 1 (a): 'submitted_time' is missing"),
        (read_philly, [json.dumps([philly(submitted_time="x")])], "job 1 (application_1): submitted_time is 'x'"),
        (read_philly, ["[1]"], "job 1: "),
    ],
)
def test_what_cannot_be_read_is_named(read: Callable[[list[str]], Trace], lines: list[str], said: str) -> None:
    with pytest.raises(TraceError) as error:
        read(lines)
    assert said in str(error.value)
