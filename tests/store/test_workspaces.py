"""Workspaces and experiments: insertion, pages, tags and deletion."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Connection

from tests.support.factories import EXPERIMENT_KEY, SUBSCRIPTION, WORKSPACE_KEY, make_parents
from trainshed.resources.lifecycle import ImpossibleTransition, ProvisioningEvent, ProvisioningState
from trainshed.store import events, experiments, workspaces
from trainshed.store.database import Database
from trainshed.store.errors import AlreadyExists, InUse, NotFound
from trainshed.store.records import ExperimentRecord, WorkspaceRecord


def _workspace(group: str, name: str, subscription: str = SUBSCRIPTION) -> WorkspaceRecord:
    key = f"{subscription}/{group}/{name}".lower()
    return WorkspaceRecord(
        key, subscription, group, name, "local", {"a": "ü\x01"}, ProvisioningState.SUCCEEDED, 1, 2, 3
    )


def _experiment(name: str) -> ExperimentRecord:
    return ExperimentRecord(
        f"{WORKSPACE_KEY}/{name.lower()}", WORKSPACE_KEY, name, ProvisioningState.SUCCEEDED, 1, 2, 3
    )


def test_a_workspace_comes_back_as_it_was_stored(db: Database) -> None:
    workspace = _workspace("Group", "Name")
    db.write_sync(lambda tx: workspaces.insert(tx, workspace))
    assert db.read_sync(lambda tx: workspaces.get(tx, workspace.key)) == replace(workspace, user_number=1)


def test_a_user_number_is_never_given_again(db: Database) -> None:
    def add_and_remove(name: str) -> int:
        def change(tx: Connection) -> int:
            workspace = _workspace("g", name)
            workspaces.insert(tx, workspace)
            number = workspaces.get(tx, workspace.key).user_number
            workspaces.delete(tx, workspace.key)
            return number

        return db.write_sync(change)

    assert [add_and_remove(name) for name in ("w", "w", "v")] == [1, 2, 3]


def test_a_second_of_the_same_key_is_refused_and_the_transaction_goes_on(db: Database) -> None:
    def twice(tx: Connection) -> int:
        workspaces.insert(tx, _workspace("g", "w"))
        with pytest.raises(AlreadyExists):
            workspaces.insert(tx, _workspace("G", "W"))
        return workspaces.count(tx, SUBSCRIPTION)

    assert db.write_sync(twice) == 1


def test_pages_follow_the_keys_within_a_subscription_or_group(db: Database) -> None:
    places = [("a", "x"), ("a", "Y"), ("a-b", "x"), ("A.b", "x"), ("a_b", "x"), ("b", "x")]

    def fill(tx: Connection) -> None:
        for group, name in places:
            workspaces.insert(tx, _workspace(group, name))
        workspaces.insert(tx, _workspace("a", "x", SUBSCRIPTION[:-1] + "1"))

    db.write_sync(fill)

    def walk(tx: Connection, group: str | None, limit: int) -> list[str]:
        keys: list[str] = []
        while page := workspaces.page(
            tx, subscription=SUBSCRIPTION.upper(), resource_group=group, after=keys[-1] if keys else None, limit=limit
        ):
            assert len(page) <= limit
            keys += [record.key for record in page]
        return keys

    everything = sorted(f"{SUBSCRIPTION}/{group}/{name}".lower() for group, name in places)
    for limit in (1, 2, 100):
        assert db.read_sync(lambda tx, limit=limit: walk(tx, None, limit)) == everything
    assert db.read_sync(lambda tx: walk(tx, "A", 1)) == [f"{SUBSCRIPTION}/a/x", f"{SUBSCRIPTION}/a/y"]
    assert db.read_sync(lambda tx: workspaces.count(tx, SUBSCRIPTION, "A")) == 2
    assert db.read_sync(lambda tx: workspaces.count(tx, SUBSCRIPTION)) == len(places)


def test_tags_are_a_users_change(db: Database) -> None:
    db.write_sync(make_parents)
    changed = db.write_sync(lambda tx: workspaces.set_tags(tx, WORKSPACE_KEY, {"new": "tag"}, 77))
    assert (changed.tags, changed.modified_at, changed.created_at) == ({"new": "tag"}, 77, 1)


def test_deletion_goes_by_the_lifecycle_and_waits_for_what_is_below(db: Database) -> None:
    db.write_sync(make_parents)
    workspace = db.write_sync(lambda tx: workspaces.apply(tx, WORKSPACE_KEY, ProvisioningEvent.DELETE_REQUESTED, 5))
    assert (workspace.state, workspace.state_at, workspace.modified_at) == (ProvisioningState.DELETING, 5, 1)
    assert db.read_sync(workspaces.deleting) == [workspace]
    with pytest.raises(ImpossibleTransition):
        db.write_sync(lambda tx: workspaces.apply(tx, WORKSPACE_KEY, ProvisioningEvent.DELETE_REQUESTED, 6))
    with pytest.raises(InUse):
        db.write_sync(lambda tx: workspaces.delete(tx, WORKSPACE_KEY))
    db.write_sync(lambda tx: experiments.delete(tx, EXPERIMENT_KEY))
    db.write_sync(lambda tx: workspaces.delete(tx, WORKSPACE_KEY))
    logged = db.read_sync(lambda tx: events.page(tx, resource_key=WORKSPACE_KEY))
    assert [(event.event, event.from_state, event.to_state) for event in logged] == [
        ("created", None, "succeeded"),
        ("delete-requested", "succeeded", "deleting"),
    ]


@pytest.mark.parametrize("noun", [workspaces, experiments], ids=["workspaces", "experiments"])
def test_what_is_not_there_is_not_found(db: Database, noun: type[workspaces]) -> None:
    for call in (
        lambda tx: noun.get(tx, "none"),
        lambda tx: noun.delete(tx, "none"),
        lambda tx: noun.apply(tx, "none", ProvisioningEvent.DELETE_REQUESTED, 1),
    ):
        with pytest.raises(NotFound):
            db.write_sync(call)


def test_experiments_of_a_workspace(db: Database) -> None:
    db.write_sync(make_parents)
    for name in ("Zeta", "alpha", "mid"):
        db.write_sync(lambda tx, name=name: experiments.insert(tx, _experiment(name)))
    with pytest.raises(AlreadyExists):
        db.write_sync(lambda tx: experiments.insert(tx, _experiment("ALPHA")))
    names = [record.name for record in db.read_sync(lambda tx: experiments.of_workspace(tx, WORKSPACE_KEY))]
    assert names == ["alpha", "exp", "mid", "Zeta"]
    page = db.read_sync(lambda tx: experiments.page(tx, WORKSPACE_KEY, f"{WORKSPACE_KEY}/alpha", 2))
    assert [record.name for record in page] == ["exp", "mid"]
    deleted = db.write_sync(lambda tx: experiments.apply(tx, EXPERIMENT_KEY, ProvisioningEvent.DELETE_REQUESTED, 9))
    assert db.read_sync(experiments.deleting) == [deleted]
