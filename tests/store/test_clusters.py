"""Clusters and nodes: scale, states, numbers that are given once, and what holds a node."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from tests.store.helpers import REASON, make_node, ready_cluster
from tests.support.factories import WORKSPACE_KEY, make_cluster, make_job
from trainshed.resources.lifecycle import (
    AllocationEvent,
    AllocationState,
    AttemptEvent,
    ImpossibleTransition,
    NodeEvent,
    NodeState,
    ProvisioningEvent,
    ProvisioningState,
)
from trainshed.store import attempts, clusters, events, nodes, workspaces
from trainshed.store.database import Database
from trainshed.store.errors import AlreadyExists, InUse, NotFound


def test_a_cluster_comes_back_as_it_was_stored(db: Database) -> None:
    cluster = ready_cluster(db, 0)
    assert db.read_sync(lambda tx: clusters.get(tx, cluster.key)) == cluster
    assert db.read_sync(lambda tx: clusters.get_by_uid(tx, cluster.uid)) == cluster
    with pytest.raises(AlreadyExists):
        db.write_sync(lambda tx: clusters.insert(tx, cluster))
    with pytest.raises(InUse):
        db.write_sync(lambda tx: workspaces.delete(tx, WORKSPACE_KEY))


def test_pages_of_clusters(db: Database) -> None:
    ready_cluster(db, 0)
    for name in ("a", "b", "d"):
        db.write_sync(lambda tx, name=name: make_cluster(tx, name))
    page = db.read_sync(lambda tx: clusters.page(tx, WORKSPACE_KEY, f"{WORKSPACE_KEY}/a", 2))
    assert [cluster.name for cluster in page] == ["b", "c"]
    assert [cluster.name for cluster in db.read_sync(clusters.all)] == ["a", "b", "c", "d"]


def test_pools_and_ordinals_are_never_given_twice(db: Database) -> None:
    cluster = ready_cluster(db, 0)
    pools = [db.write_sync(clusters.next_pool) for _ in range(3)]
    assert pools == [cluster.pool + 1, cluster.pool + 2, cluster.pool + 3]
    taken = [db.write_sync(lambda tx, n=n: clusters.take_ordinals(tx, cluster.key, n)) for n in (3, 1, 2)]
    assert taken == [0, 3, 4]
    assert db.read_sync(lambda tx: clusters.get(tx, cluster.key)).next_ordinal == 6


def test_scale_is_a_users_change_and_states_are_not(db: Database) -> None:
    cluster = ready_cluster(db, 0)
    scaled = db.write_sync(lambda tx: clusters.set_scale(tx, cluster.key, {"autoScale": {}}, 50))
    assert (scaled.scale, scaled.modified_at) == ({"autoScale": {}}, 50)

    def settle(tx: Connection) -> None:
        clusters.apply_provisioning(tx, cluster.key, ProvisioningEvent.PROVISIONED, 60)
        clusters.apply_allocation(tx, cluster.key, AllocationEvent.RESIZE_FINISHED, 61)
        clusters.set_errors(tx, cluster.key, [REASON])

    db.write_sync(settle)
    now = db.read_sync(lambda tx: clusters.get(tx, cluster.key))
    assert (now.state, now.state_at) == (ProvisioningState.SUCCEEDED, 60)
    assert (now.allocation, now.allocation_at) == (AllocationState.STEADY, 61)
    assert (now.errors, now.modified_at) == ((REASON,), 50)
    with pytest.raises(ImpossibleTransition):
        db.write_sync(lambda tx: clusters.apply_allocation(tx, cluster.key, AllocationEvent.RESIZE_FINISHED, 62))
    logged = db.read_sync(lambda tx: events.page(tx, resource_key=cluster.key, kind="cluster"))
    assert [event.event for event in logged] == ["created", "provisioned", "resize-finished"]


def test_node_counts_tell_idle_from_running(db: Database) -> None:
    cluster = ready_cluster(db, 3)

    def more(tx: Connection) -> None:
        for ordinal, state in enumerate(NodeState, start=3):
            make_node(tx, cluster, ordinal, state)
        job = make_job(tx, cluster)
        attempts.insert(tx, id="a", job_id=job.id, number=1, cluster_uid=cluster.uid, node_ids=["c-n0", "c-n1"], now=5)
        nodes.apply(tx, "c-n1", NodeEvent.REBOOTED, 6)

    db.write_sync(more)
    counts = db.read_sync(lambda tx: clusters.node_counts(tx, cluster.uid))
    assert counts == {"idle": 2, "running": 1, "preparing": 2, "unusable": 1, "leaving": 1}
    assert db.read_sync(nodes.counts_by_state) == {
        NodeState.READY: 3,
        NodeState.PREPARING: 2,
        NodeState.UNUSABLE: 1,
        NodeState.LEAVING: 1,
    }
    assert db.read_sync(lambda tx: clusters.node_counts(tx, "none")) == dict.fromkeys(counts, 0)


def test_a_nodes_life(db: Database) -> None:
    cluster = ready_cluster(db, 2)
    failed = db.write_sync(lambda tx: nodes.apply(tx, "c-n0", NodeEvent.SETUP_FAILED, 5, REASON))
    assert (failed.state, failed.state_at, failed.reason) == (NodeState.UNUSABLE, 5, REASON)
    with pytest.raises(ImpossibleTransition):
        db.write_sync(lambda tx: nodes.apply(tx, "c-n0", NodeEvent.PREPARED, 6))

    def reboot(tx: Connection) -> None:
        nodes.apply(tx, "c-n0", NodeEvent.REBOOTED, 7)
        nodes.set_facts(tx, "c-n0", boot=2, host_name="new", address="127.9.9.9", ssh_port=22)
        nodes.set_reason(tx, "c-n0", REASON)

    db.write_sync(reboot)
    node = db.read_sync(lambda tx: nodes.get(tx, "c-n0"))
    assert (node.state, node.reason) == (NodeState.PREPARING, REASON)
    assert (node.boot, node.host_name, node.address, node.ssh_port) == (2, "new", "127.9.9.9", 22)

    def remove(tx: Connection) -> None:
        nodes.apply(tx, "c-n0", NodeEvent.REMOVAL_REQUESTED, 8)
        nodes.apply(tx, "c-n0", NodeEvent.REMOVED, 9)

    db.write_sync(remove)
    for listed in (nodes.of_cluster, lambda tx, _: nodes.all_live(tx)):
        present = db.read_sync(lambda tx, listed=listed: listed(tx, cluster.uid))
        assert [node.id for node in present] == ["c-n1"]
    logged = db.read_sync(lambda tx: events.page(tx, resource_key=cluster.key, kind="node"))
    its = [(event.event, event.reason) for event in logged if event.details == {"node": "c-n0"}]
    assert its == [
        ("created", None),
        ("setup-failed", REASON),
        ("rebooted", None),
        ("removal-requested", None),
        ("removed", None),
    ]


def test_a_cluster_goes_with_its_former_nodes_but_not_with_present_ones(db: Database) -> None:
    cluster = ready_cluster(db, 1)
    db.write_sync(lambda tx: make_node(tx, cluster, 1, NodeState.GONE))
    with pytest.raises(InUse):
        db.write_sync(lambda tx: clusters.delete(tx, cluster.key))

    def remove(tx: Connection) -> None:
        nodes.apply(tx, "c-n0", NodeEvent.REMOVAL_REQUESTED, 8)
        nodes.apply(tx, "c-n0", NodeEvent.REMOVED, 9)
        clusters.delete(tx, cluster.key)

    db.write_sync(remove)
    with pytest.raises(NotFound):
        db.read_sync(lambda tx: clusters.get(tx, cluster.key))


def test_a_released_node_remembers_when(db: Database) -> None:
    cluster = ready_cluster(db, 2)

    def run(tx: Connection) -> None:
        job = make_job(tx, cluster)
        attempts.insert(tx, id="a", job_id=job.id, number=1, cluster_uid=cluster.uid, node_ids=["c-n1"], now=5)
        assert [node.attempt_id for node in nodes.of_cluster(tx, cluster.uid)] == [None, "a"]
        attempts.finish(tx, "a", AttemptEvent.SUCCEEDED, 70, exit_code=0, reason=None, ended_at=70)

    db.write_sync(run)
    assert db.read_sync(lambda tx: nodes.released_at(tx, cluster.uid)) == {"c-n1": 70}
    assert db.read_sync(lambda tx: nodes.get(tx, "c-n1")).attempt_id is None


def test_what_is_not_there_is_not_found(db: Database) -> None:
    for call in (
        lambda tx: clusters.get(tx, "none"),
        lambda tx: clusters.get_by_uid(tx, "none"),
        lambda tx: clusters.set_scale(tx, "none", {}, 1),
        lambda tx: clusters.set_errors(tx, "none", []),
        lambda tx: clusters.take_ordinals(tx, "none", 1),
        lambda tx: clusters.apply_allocation(tx, "none", AllocationEvent.RESIZE_STARTED, 1),
        lambda tx: clusters.delete(tx, "none"),
        lambda tx: nodes.get(tx, "none"),
        lambda tx: nodes.apply(tx, "none", NodeEvent.REMOVED, 1),
        lambda tx: nodes.set_reason(tx, "none", None),
        lambda tx: nodes.set_facts(tx, "none", boot=1, host_name="", address="", ssh_port=None),
    ):
        with pytest.raises(NotFound):
            db.write_sync(call)
