"""Targets, and which nodes go."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scheduling.values import gang
from trainshed.scheduling.ledger import Ledger
from trainshed.scheduling.limits import NO_LIMITS, Limit, Limits, Measure
from trainshed.scheduling.scaling import Deallocation, ScalingNode, resize, startable_nodes, target_of
from trainshed.scheduling.snapshot import Owner, Scope

NOW = 10_000_000


def node(
    ordinal: int, attempt: str | None = None, *, ready: bool = True, usable: bool = True, idle_ms: int = 0
) -> ScalingNode:
    return ScalingNode(f"n{ordinal}", ordinal, usable, ready, attempt, NOW - idle_ms)


def manual(target: int, option: str = "requeue") -> dict[str, Any]:
    return {"manual": {"targetNodeCount": target, "nodeDeallocationOption": option}}


def auto(low: int, high: int, initial: int = 0, idle: str | None = None) -> dict[str, Any]:
    more = {} if idle is None else {"idleTimeBeforeScaleDown": idle}
    return {"autoScale": {"minimumNodeCount": low, "maximumNodeCount": high, "initialNodeCount": initial, **more}}


LONG = 5 * 60 * 1000


@pytest.mark.parametrize(
    ("scale", "nodes", "queued", "created", "target"),
    [
        (manual(3), [], 9, True, 3),
        (auto(0, 4), [], 0, True, 0),
        (auto(0, 4), [], 2, True, 2),
        (auto(0, 4), [], 9, True, 4),
        (auto(1, 4), [], 0, True, 1),
        (auto(0, 4, initial=2), [], 0, False, 2),
        (auto(0, 4, initial=2), [node(0, idle_ms=LONG)], 0, True, 0),
        (auto(0, 4), [node(0, "a"), node(1, "b")], 1, True, 3),
        (auto(0, 4), [node(0, idle_ms=1)], 0, True, 1),
        (auto(0, 4), [node(0, idle_ms=1)], 2, True, 2),
        (auto(0, 4), [node(0, "a"), node(1, idle_ms=LONG)], 0, True, 1),
        (auto(0, 4, idle="PT0S"), [node(0, idle_ms=0)], 0, True, 0),
        (auto(0, 4, idle="PT0S"), [node(0, "a"), node(1, idle_ms=0)], 0, True, 1),
        (auto(0, 4, idle="PT0S"), [node(0, idle_ms=0)], 1, True, 1),
        (auto(0, 4, idle="PT1H"), [node(0, idle_ms=LONG)], 0, True, 1),
        (auto(0, 4, idle="PT10S"), [node(0, idle_ms=10_000), node(1, idle_ms=9_999)], 0, True, 1),
        (auto(1, 4, idle="PT0S"), [node(0, idle_ms=0)], 0, True, 1),
        (auto(0, 4), [node(0, usable=False, ready=False)], 1, True, 1),
    ],
)
def test_target(scale: dict[str, Any], nodes: list[ScalingNode], queued: int, created: bool, target: int) -> None:
    assert target_of(scale, nodes, queued, NOW, created=created) == target


def test_growth_asks_for_what_is_missing() -> None:
    assert resize(manual(3), [node(0)], 3).add == 2


def test_idle_nodes_go_before_working_ones_and_young_before_old() -> None:
    members = [node(0), node(1, "a"), node(2), node(3, "b")]
    assert [n.node_id for n in resize(manual(1), members, 1).remove] == ["n2", "n0", "n3"]


def test_unusable_nodes_go_first() -> None:
    members = [node(0), node(1, usable=False, ready=False), node(2, ready=False)]
    assert [n.node_id for n in resize(manual(1), members, 1).remove] == ["n1", "n2"]


def test_waiting_for_job_completion_drains_and_takes_only_free_nodes() -> None:
    step = resize(manual(0, "waitforjobcompletion"), [node(0, "a"), node(1)], 0)
    assert [n.node_id for n in step.remove] == ["n1"]
    assert step.draining


@pytest.mark.parametrize("option", ["requeue", "terminate"])
def test_the_other_options_take_working_nodes_at_once(option: str) -> None:
    step = resize(manual(0, option), [node(0, "a")], 0)
    assert [n.node_id for n in step.remove] == ["n0"]
    assert step.deallocation is Deallocation(option)
    assert not step.draining


nodes_strategy = st.lists(
    st.builds(
        lambda attempt, ready, usable, idle: (attempt if ready and usable else None, ready and usable, usable, idle),
        st.sampled_from([None, "a", "b"]),
        st.booleans(),
        st.booleans(),
        st.integers(0, 2 * LONG),
    ),
    max_size=12,
)


@given(nodes_strategy, st.integers(0, 5), st.integers(0, 8), st.integers(0, 20))
def test_an_auto_scaled_cluster_never_takes_a_node_with_work_and_stays_within_bounds(
    raw: list[tuple[str | None, bool, bool, int]], low: int, more: int, queued: int
) -> None:
    members = [node(i, a, ready=r, usable=u, idle_ms=d) for i, (a, r, u, d) in enumerate(raw)]
    scale = auto(low, low + more)
    target = target_of(scale, members, queued, NOW, created=True)
    assert low <= target <= low + more
    step = resize(scale, members, target)
    assert all(n.attempt_id is None for n in step.remove)
    assert not (step.add and step.remove)


def test_only_gangs_that_could_start_ask_for_nodes() -> None:
    ann = Owner("w", "ann", "w/x")
    queue = [gang(1, nodes=5), gang(2, nodes=2, owner=ann), gang(3, nodes=2, owner=ann), gang(4)]
    limits = Limits([Limit("w", Scope.USER, Measure.NODES, 3)])
    ledger = Ledger()
    assert startable_nodes(queue, ledger, limits, most=4) == 3, "one is too wide, one beyond its limit"
    assert ledger.account(Scope.USER, ann).nodes == 0
    assert startable_nodes([gang(n) for n in range(1, 100)], ledger, NO_LIMITS, most=4) == 4
