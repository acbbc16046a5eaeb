"""What the ends of its parts make of a gang."""

from __future__ import annotations

from trainshed.engines.local.gang import Gang, daemon_lost, node_lost, runner_lost
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.runner.spec import Outcome

STOP = Reason(ReasonCode.JOB_TERMINATED, "Because.").to_json()
FAILED = Outcome("failed", 3, Reason(ReasonCode.JOB_FAILED, "It failed.").to_json(), 42)
CUT_OFF = Outcome("lost", None, Reason(ReasonCode.NODE_LOST, "The connection broke.").to_json(), 43)


def gang() -> Gang:
    return Gang("a", ("master", "worker"))


def code_of(ended: Gang) -> str:
    assert ended.final is not None
    return str(ended.final["reason"]["code"])


def test_it_ends_when_every_part_has() -> None:
    one = gang()
    assert not one.part_ended("worker", FAILED)
    assert one.status() == {"attempt_id": "a"}
    assert one.running == ("master",)
    assert one.part_ended("master", FAILED)
    assert one.running == ()


def test_the_masters_word_decides() -> None:
    one = gang()
    one.part_ended("worker", CUT_OFF)
    one.part_ended("master", FAILED)
    assert one.final == {
        "attempt_id": "a",
        "result": "failed",
        "exit_code": 3,
        "reason": FAILED.reason,
        "ended_at": 42,
        "container": None,
    }


def test_a_failure_beside_a_lost_part_is_a_loss() -> None:
    """mpirun fails when a node goes, before the master's runner knows why."""
    one = gang()
    one.part_ended("worker", None)
    one.part_ended("master", FAILED)
    assert one.final is not None
    assert (one.final["result"], one.final["exit_code"]) == ("lost", None)


def test_a_part_ends_once() -> None:
    one = gang()
    one.part_ended("worker", FAILED)
    assert one.part_ended("master", FAILED)
    assert not one.part_ended("master", None)
    assert one.final is not None
    assert one.final["result"] == "failed"


def test_without_the_masters_word_it_is_lost() -> None:
    one = gang()
    one.part_ended("worker", FAILED)
    one.part_ended("master", None)
    assert one.final is not None
    assert (one.final["result"], code_of(one)) == ("lost", "RunnerLost")
    assert one.final["ended_at"] > 1_600_000_000_000


def test_a_known_cause_is_told_instead_of_what_the_master_saw() -> None:
    one = gang()
    one.loss = runner_lost("worker")
    one.part_ended("worker", None)
    one.part_ended("master", CUT_OFF)
    assert one.final is not None
    assert (one.final["result"], code_of(one)) == ("lost", "RunnerLost")
    assert one.final["reason"]["details"] == {"node": "worker"}


def test_what_the_master_saw_is_told_where_nothing_better_is_known() -> None:
    one = gang()
    one.part_ended("worker", FAILED)
    one.part_ended("master", CUT_OFF)
    assert code_of(one) == "NodeLost"


def test_a_stop_that_was_asked_for_is_no_loss() -> None:
    for word in (None, CUT_OFF):
        one = gang()
        one.stop_reason, one.loss = STOP, node_lost("master")
        one.part_ended("worker", None)
        one.part_ended("master", word)
        assert one.final is not None
        assert (one.final["result"], one.final["reason"]) == ("stopped", STOP)


def test_what_the_daemon_stopped_after_a_loss_is_lost() -> None:
    one = gang()
    one.loss = node_lost("worker")
    one.part_ended("worker", None)
    one.part_ended("master", Outcome("stopped", None, STOP, 45))
    assert one.final is not None
    assert (one.final["result"], code_of(one)) == ("lost", "NodeLost")


def test_success_beats_a_stop_that_came_too_late() -> None:
    one = Gang("a", ("master",), stop_reason=STOP)
    one.part_ended("master", Outcome("succeeded", 0, None, 44))
    assert one.final is not None
    assert (one.final["result"], one.final["reason"]) == ("succeeded", None)


def test_losses_name_the_nodes() -> None:
    assert node_lost("n").details == {"node": "n"}
    assert "n" in node_lost("n").text
    assert daemon_lost(("n", "m")).details == {"nodes": "n,m"}
