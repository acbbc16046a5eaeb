"""What Slurm's tools print: as captured from 22.05.8, and as later versions are documented to print it."""

from __future__ import annotations

import pytest

from trainshed.engines.protocol import NodeCondition
from trainshed.engines.slurm import parsing, reasons
from trainshed.engines.slurm.parsing import NodeLine
from trainshed.resources.reasons import ReasonCode

QUEUE = (
    "8                       PENDING                 1           2026-11-21T17:02:29     "
    "trainshed:0123456789ab:5f0c0f3e-6f5c-4a2b-9a55-5a2d0c6b1a77                                                    "
    "                                                 BeginTime\n"
    "7                       RUNNING                 0           2026-11-21T17:02:23     "
    "(null)                                                                                                          "
    "                                                 None\n"
    "\n"
    "slurm_load_jobs error: something that a plugin says\n"
)


def test_the_queue() -> None:
    first, second = parsing.parse_queue(QUEUE)
    assert (first.job, first.state, first.restarts, first.reason) == ("8", "PENDING", 1, "BeginTime")
    assert first.comment == "trainshed:0123456789ab:5f0c0f3e-6f5c-4a2b-9a55-5a2d0c6b1a77"
    assert first.queued and not first.over
    assert (second.state, second.comment, second.reason) == ("RUNNING", "", "")
    assert not second.queued and not second.over
    assert first.start is not None and second.start is not None and first.start - second.start == 6000


@pytest.mark.parametrize(
    ("state", "queued", "over"),
    [
        ("PENDING", True, False),
        ("REQUEUE_HOLD", True, False),
        ("SPECIAL_EXIT", True, False),
        ("CONFIGURING", False, False),
        ("COMPLETING", False, False),
        ("SUSPENDED", False, False),
        ("COMPLETED", False, True),
        ("CANCELLED", False, True),
        ("OUT_OF_MEMORY", False, True),
        ("A_STATE_OF_TOMORROW", False, False),
    ],
)
def test_states(state: str, queued: bool, over: bool) -> None:
    line = f"{'1':24}{state:24}{'0':12}{'N/A':24}{'(null)':160}{'None':300}"
    (found,) = parsing.parse_queue(line)
    assert (found.queued, found.over, found.start) == (queued, over, None)


NODES = """\
n1|batch*|1-00:00:00|idle|127.20.3.4|2|1000|gpu:a100:4(S:0-1)|none
n1|low|1-00:00:00|idle|127.20.3.4|2|1000|gpu:a100:4(S:0-1)|none
n2|batch*|1-00:00:00|mixed-|127.20.3.5|2|1000|(null)|none
n3|batch*|1-00:00:00|down*|127.20.3.6|2|1000|(null)|Not responding | twice
c1|batch*|1-00:00:00|idle~|c1|8|16000|(null)|none
c2|batch*|1-00:00:00|allocated#|c2|8|16000|(null)|none
c3|batch*|1-00:00:00|powering_down%|c3|8|16000|(null)|none
n4|batch*|1-00:00:00|drained|n4|2|1000|(null)|a fan
n5|batch*|1-00:00:00|completing|n5|2|1000|(null)|none
n6|batch*|1-00:00:00|planned|n6|2|1000|(null)|none
n7|batch*|1-00:00:00|reserved|n7|2|1000|(null)|none
not a line of nodes
"""


def test_nodes() -> None:
    nodes = {(node.name, node.partition): node for node in parsing.parse_nodes(NODES)}
    gres = "gpu:a100:4(S:0-1)"
    assert nodes["n1", "batch*"] == NodeLine("n1", "batch*", 1440, "idle", "", "127.20.3.4", 2, 1000, gres, "")
    assert nodes["n3", "batch*"].marks == "*" and nodes["n3", "batch*"].reason == "Not responding | twice"
    conditions = {name: reasons.condition_of(node) for (name, _), node in nodes.items()}
    seen = {name: told and told[0] for name, told in conditions.items()}
    ready = NodeCondition.READY
    assert seen == {
        "n1": ready,
        "n2": ready,
        "n3": NodeCondition.UNUSABLE,
        "c1": None,
        "c2": NodeCondition.PREPARING,
        "c3": None,
        "n4": NodeCondition.UNUSABLE,
        "n5": ready,
        "n6": ready,
        "n7": ready,
    }


@pytest.mark.parametrize(
    ("text", "number"), [("7-00:00:00", 10080), ("1:30:00", 90), ("30:00", 30), ("infinite", None), ("n/a", None)]
)
def test_limits(text: str, number: int | None) -> None:
    assert parsing.minutes_of(text) == number


def test_accounting() -> None:
    told = "7|CANCELLED by 1000|0:15\n8|COMPLETED|0:0\n9|FAILED|3:0\n9.batch|FAILED|3:0\naccounting is off\n"
    assert [(line.job, line.state, line.exit_code, line.by) for line in parsing.parse_accounting(told)] == [
        ("7", "CANCELLED", 0, "1000"),
        ("8", "COMPLETED", 0, ""),
        ("9", "FAILED", 3, ""),
    ]


@pytest.mark.parametrize(
    ("said", "job"),
    [("12\n", "12"), ("12;cluster\n", "12"), ("lua: welcome\n34\n", "34"), ("", ""), ("Submitted batch job 5\n", "")],
)
def test_the_number_of_a_submitted_job(said: str, job: str) -> None:
    assert parsing.parse_submitted(said) == job


@pytest.mark.parametrize(
    ("said", "version"),
    [("slurm-wlm 22.05.8\n", (22, 5)), ("slurm 24.11.1", (24, 11)), ("slurm 26.05", (26, 5)), ("nothing", None)],
)
def test_versions(said: str, version: tuple[int, int] | None) -> None:
    assert parsing.parse_version(said) == version


def test_the_configuration() -> None:
    told = "Configuration data as of 2026\nKillWait                = 30 sec\nEpilog                  = (null)\n"
    assert parsing.parse_config(told) == {"KillWait": "30 sec", "Epilog": "(null)"}


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("Priority", ReasonCode.WAITING_BEHIND_JOBS),
        ("Resources", ReasonCode.WAITING_FOR_NODES),
        ("PartitionNodeLimit", ReasonCode.CLUSTER_TOO_SMALL),
        ("QOSMaxNodePerUserLimit", ReasonCode.LIMIT_REACHED),
        ("AssocGrpGRES", ReasonCode.LIMIT_REACHED),
        ("MaxGRESPerAccount", ReasonCode.LIMIT_REACHED),
        ("BeginTime", ReasonCode.WAITING_FOR_RETRY),
        ("JobHeldAdmin", ReasonCode.WAITING_FOR_SCHEDULER),
        ("launch failed requeued held", ReasonCode.WAITING_FOR_SCHEDULER),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-3]", ReasonCode.NODES_UNUSABLE),
        ("AReasonOfTomorrow", ReasonCode.WAITING_FOR_SCHEDULER),
    ],
)
def test_why_a_job_waits(word: str, code: ReasonCode) -> None:
    (line,) = parsing.parse_queue(f"{'42':24}{'PENDING':24}{'0':12}{'2026-11-21T17:02:29':24}{'x':160}{word:300}")
    assert line.start is not None
    told = reasons.why_waiting(line, line.start - 60_000)
    assert told.code is code
    assert word in told.text and "expects to start it at" in told.text
    assert told.details["slurmReason"] == word and told.details["slurmJob"] == "42"
    # What Slurm expected and did not come true is no news.
    assert "expectedStart" not in reasons.why_waiting(line, line.start + 1).details
