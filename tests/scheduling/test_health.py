"""Whose fault lost attempts are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.scheduling.health import LossLimits, LostAttempt, blamed_nodes, job_kills_nodes, node_is_bad

LIMITS = LossLimits(attempts=20, on_node=3, alone=5)
GANG = ("n1", "n2", "n3")


@pytest.mark.parametrize(
    ("code", "details", "blamed"),
    [
        (ReasonCode.NODE_LOST, {"node": "n2"}, ("n2",)),
        (ReasonCode.RUNNER_LOST, {"node": "n3"}, ("n3",)),
        (ReasonCode.NODE_LOST, {"nodes": "n1,n3"}, ("n1", "n3")),
        (ReasonCode.NODE_LOST, {}, GANG),
        (ReasonCode.NODE_LOST, {"node": "nobody"}, GANG),
        (ReasonCode.NODE_DAEMON_LOST, {"nodes": "n1,n2"}, ()),
        (ReasonCode.NODE_EVICTED, {"node": "n1"}, ()),
        (ReasonCode.NODE_NOT_READY, {"node": "n1"}, ()),
        (ReasonCode.ENGINE_STOPPED, {}, ()),
    ],
)
def test_the_nodes_that_a_reason_blames(code: ReasonCode, details: dict[str, str], blamed: tuple[str, ...]) -> None:
    assert blamed_nodes(Reason(code, "text", details), GANG) == blamed


@pytest.mark.parametrize(
    ("jobs", "elsewhere", "bad"),
    [
        ([1, 2], False, False),
        ([1, 2, 1], False, True),
        ([1, 2, 3], True, True),
        ([1, 1, 1], False, True),
        ([1, 1, 1], True, False),
        ([1, 1, 1, 1, 1, 1], True, False),
    ],
)
def test_a_node_is_bad_when_several_jobs_die_there_or_one_that_dies_nowhere_else(
    jobs: list[int], elsewhere: bool, bad: bool
) -> None:
    assert node_is_bad(jobs, elsewhere, LIMITS) is bad


def lost(*nodes: str, job: int = 1, disproved: bool = True) -> LostAttempt:
    return LostAttempt(job, 1, nodes, 0, disproved)


def unclear(*nodes: str) -> LostAttempt:
    """Nothing came to its end there since."""
    return lost(*nodes, disproved=False)


@pytest.mark.parametrize(
    ("own", "others", "guilty"),
    [
        ([lost("a"), lost("b"), lost("c"), lost("a")], [], False),
        ([lost("a"), lost("b"), lost("c"), lost("a"), lost("b")], [], True),
        ([lost("a")] * 9, [], False),
        ([lost("a"), lost("b"), lost("c"), lost("a"), lost("b")], [lost("a", job=2)], False),
        ([lost("a"), lost("b"), lost("c"), lost("a"), lost("b")], [lost(job=2)], True),
        ([lost("a"), lost("b"), lost(), lost(), lost()], [], False),
        ([lost("a"), lost("b"), lost("c"), unclear("a"), unclear("b")], [], True),
        ([lost("a"), lost("b"), unclear("c"), unclear("a"), unclear("b")], [], False),
        ([unclear("a", "b", "c")] * 19, [], False),
    ],
)
def test_a_job_is_guilty_when_it_alone_loses_many_on_several_nodes_that_are_well(
    own: list[LostAttempt], others: list[LostAttempt], guilty: bool
) -> None:
    assert job_kills_nodes(own, others, LIMITS) is guilty


@given(
    st.lists(st.sampled_from(GANG), max_size=12),
    st.integers(1, 6),
    st.integers(1, 8),
)
def test_one_job_never_takes_out_two_nodes_before_it_is_stopped(where: list[str], on_node: int, alone: int) -> None:
    """Whatever the order in which it kills nodes: at most the first is blamed, while it died nowhere else."""
    limits = LossLimits(on_node=on_node, alone=alone)
    own: list[LostAttempt] = []
    here: dict[str, list[int]] = {}
    out = set()
    for node in where:
        own.append(lost(node))
        if job_kills_nodes(own, [], limits):
            break
        here.setdefault(node, []).append(1)
        if node_is_bad(here[node], {loss.node_ids[0] for loss in own} != {node}, limits):
            out.add(node)
    assert len(out) <= 1
