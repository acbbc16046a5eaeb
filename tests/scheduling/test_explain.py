"""Every way of waiting has a code and a sentence that says what would change it."""

from typing import Any

import pytest

from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.scheduling.explain import WaitingFacts, explain

BROKEN = Reason(ReasonCode.SETUP_TASK_FAILED, "The setup task of node n1 ended with exit code 3.")
FULL = Reason(ReasonCode.ALLOCATION_FAILED, "The machine has no more CPUs.")


@pytest.mark.parametrize(
    ("facts", "code", "said"),
    [
        ({"cluster": None}, ReasonCode.CLUSTER_NOT_FOUND, "no longer exists"),
        ({"cluster_deleting": True}, ReasonCode.CLUSTER_BEING_DELETED, "being deleted"),
        ({"engine_available": False, "largest": 2}, ReasonCode.ENGINE_UNAVAILABLE, "cannot be reached"),
        ({"largest": 0}, ReasonCode.CLUSTER_EMPTY, "trainshed cluster resize -n gpu -t 2"),
        ({"largest": 1, "idle": 1, "target": 1}, ReasonCode.CLUSTER_TOO_SMALL, "limited to 1"),
        ({"largest": 2, "draining": True, "running": 3, "target": 2}, ReasonCode.CLUSTER_DRAINING, "scaling down"),
        (
            {"largest": 2, "target": 2, "unusable": 1, "idle": 1, "node_problem": BROKEN},
            ReasonCode.NODES_UNUSABLE,
            "exit code 3",
        ),
        (
            {"largest": 2, "target": 2, "running": 2, "ahead": 3, "first_ahead": "mnist"},
            ReasonCode.WAITING_BEHIND_JOBS,
            "3 jobs are ahead of it",
        ),
        (
            {"largest": 0, "retry_at": 1_528_319_162_350, "now": 1_528_319_142_350},
            ReasonCode.WAITING_FOR_RETRY,
            "in 20 s, at 2018-06-06T21:06:02.35Z",
        ),
        ({"largest": 2, "target": 2, "idle": 2}, ReasonCode.WAITING_FOR_SCHEDULER, "starts in a moment"),
        ({"largest": 2, "target": 2, "node_problem": FULL}, ReasonCode.ALLOCATION_FAILED, "no more CPUs"),
        ({"largest": 2, "target": 2, "preparing": 2}, ReasonCode.NODES_PREPARING, "2 preparing"),
        ({"largest": 2, "target": 2, "running": 1, "idle": 1}, ReasonCode.WAITING_FOR_NODES, "1 idle and 1 busy node"),
    ],
)
def test_each_situation(facts: dict[str, Any], code: ReasonCode, said: str) -> None:
    defaults: dict[str, Any] = {"job": "train", "node_count": 2, "cluster": "gpu"}
    reason = explain(WaitingFacts(**{**defaults, **facts}))
    assert reason.code is code
    assert said in reason.text
