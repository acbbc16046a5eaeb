"""Priority, then first come first served; gangs all or nothing."""

from hypothesis import given
from hypothesis import strategies as st

from trainshed.scheduling.order import decide, in_order
from trainshed.scheduling.snapshot import ClusterSnapshot, QueuedGang


def gang(job_id: int, nodes: int = 1, priority: int = 0) -> QueuedGang:
    return QueuedGang(job_id, priority, nodes)


def snapshot(*queue: QueuedGang, idle: int, attainable: int | None = None, draining: bool = False) -> ClusterSnapshot:
    names = tuple(f"n{i}" for i in range(idle))
    return ClusterSnapshot(tuple(queue), names, idle if attainable is None else attainable, draining)


def test_first_come_first_served_within_a_priority() -> None:
    assert [p.job_id for p in decide(snapshot(gang(2), gang(1), idle=1))] == [1]


def test_high_priority_overtakes() -> None:
    assert [p.job_id for p in decide(snapshot(gang(1), gang(2, priority=1000), idle=1))] == [2]


def test_low_priority_waits_for_normal() -> None:
    assert [p.job_id for p in decide(snapshot(gang(1, priority=-1000), gang(2), idle=1))] == [2]


def test_a_wide_gang_at_the_head_holds_back_narrow_ones() -> None:
    assert decide(snapshot(gang(1, nodes=3), gang(2), idle=2, attainable=4)) == ()


def test_a_gang_wider_than_the_cluster_can_become_holds_back_nobody() -> None:
    assert [p.job_id for p in decide(snapshot(gang(1, nodes=5), gang(2), idle=2, attainable=4))] == [2]


def test_nothing_starts_while_draining() -> None:
    assert decide(snapshot(gang(1), idle=4, draining=True)) == ()


def test_nodes_are_used_in_their_order_and_the_first_is_the_master() -> None:
    first, second = decide(snapshot(gang(1, nodes=2), gang(2), idle=3))
    assert first.node_ids == ("n0", "n1")
    assert second.node_ids == ("n2",)


gangs = st.lists(
    st.builds(
        QueuedGang,
        job_id=st.integers(1, 10_000),
        priority=st.sampled_from([-1000, 0, 1000]),
        node_count=st.integers(1, 8),
    ),
    unique_by=lambda g: g.job_id,
    max_size=30,
)


@given(gangs, st.integers(0, 10), st.integers(0, 10))
def test_properties_of_every_decision(queue: list[QueuedGang], idle: int, more: int) -> None:
    cluster = ClusterSnapshot(tuple(queue), tuple(f"n{i}" for i in range(idle)), idle + more)
    placements = decide(cluster)
    by_id = {g.job_id: g for g in queue}
    used = [node for p in placements for node in p.node_ids]
    assert len(used) == len(set(used)), "a node in two gangs"
    assert set(used) <= set(cluster.idle_nodes)
    assert all(len(p.node_ids) == by_id[p.job_id].node_count for p in placements), "a gang that is not whole"
    # Nobody who could ever run was overtaken.
    possible = [g for g in in_order(tuple(queue)) if g.node_count <= cluster.attainable_nodes]
    started = [p.job_id for p in placements]
    assert started == [g.job_id for g in possible[: len(started)]]
    # And nobody waits who need not: the next in line does not fit.
    if len(started) < len(possible):
        assert possible[len(started)].node_count > idle - len(used)
