"""Resource groups, storage accounts, file servers, and directories that are to be removed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Connection

from tests.support.factories import (
    EXPERIMENT_KEY,
    GROUP_KEY,
    SUBSCRIPTION,
    WORKSPACE_KEY,
    make_account,
    make_cluster,
    make_file_server,
    make_group,
    make_job,
    make_parents,
)
from trainshed.resources.ids import file_server_id
from trainshed.resources.lifecycle import ImpossibleTransition, JobEvent, ProvisioningEvent, ProvisioningState
from trainshed.store import file_servers, jobs, meta, mounts, removals, resource_groups, secrets, storage_accounts
from trainshed.store.database import Database
from trainshed.store.encoding import to_json
from trainshed.store.errors import AlreadyExists, InUse, NotFound
from trainshed.store.records import FileServerRecord
from trainshed.store.tables import clusters as clusters_table
from trainshed.store.tables import jobs as jobs_table
from trainshed.store.usages import Region, everywhere, of_region


def test_a_group_comes_back_as_it_was_stored(db: Database) -> None:
    group = db.write_sync(make_group)
    assert db.read_sync(lambda tx: resource_groups.get(tx, GROUP_KEY)) == group
    with pytest.raises(AlreadyExists):
        db.write_sync(make_group)
    changed = db.write_sync(lambda tx: resource_groups.set_tags(tx, GROUP_KEY, {"a": "ü"}, 7))
    assert changed == replace(group, tags={"a": "ü"}, modified_at=7)


def test_groups_belong_to_their_subscription(db: Database) -> None:
    def fill(tx: Connection) -> None:
        for subscription, name, place in (
            ("S", "b", "y"), ("s", "A", "x"), ("s2", "c", "z"), ("s-", "d", "z"), ("S", "c", "x"),
        ):  # fmt: skip
            key = f"{subscription}/{name}".lower()
            resource_groups.insert(tx, replace(group, key=key, subscription=subscription, name=name, location=place))

    group = db.write_sync(make_group)
    db.write_sync(fill)
    pages = [
        [found.name for found in db.read_sync(lambda tx, after=after: resource_groups.page(tx, "S", after, 2))]
        for after in (None, "s/b")
    ]
    assert pages == [["A", "b"], ["c"]]
    assert db.read_sync(lambda tx: resource_groups.locations(tx, "S")) == ["x", "y"]
    assert [name.lower() for name in db.read_sync(resource_groups.subscriptions)] == [SUBSCRIPTION, "s", "s-", "s2"]


def test_a_group_is_deleted_by_its_lifecycle(db: Database) -> None:
    db.write_sync(make_group)
    db.write_sync(lambda tx: resource_groups.apply(tx, GROUP_KEY, ProvisioningEvent.DELETE_REQUESTED, 5))
    assert [group.key for group in db.read_sync(resource_groups.deleting)] == [GROUP_KEY]
    with pytest.raises(ImpossibleTransition):
        db.write_sync(lambda tx: resource_groups.apply(tx, GROUP_KEY, ProvisioningEvent.DELETE_REQUESTED, 6))
    db.write_sync(lambda tx: resource_groups.delete(tx, GROUP_KEY))
    with pytest.raises(NotFound):
        db.read_sync(lambda tx: resource_groups.get(tx, GROUP_KEY))


def test_an_account_comes_back_and_goes_with_its_keys(db: Database) -> None:
    account = db.write_sync(make_account)
    assert db.read_sync(lambda tx: storage_accounts.get(tx, "mydata")) == account
    with pytest.raises(AlreadyExists):
        db.write_sync(make_account)
    changed = db.write_sync(
        lambda tx: storage_accounts.update_facts(tx, "mydata", kind="Storage", sku="x", tags={"a": "1"}, now=9)
    )
    assert changed == replace(account, kind="Storage", sku="x", tags={"a": "1"}, modified_at=9)
    db.write_sync(lambda tx: storage_accounts.delete(tx, "mydata"))
    assert db.read_sync(lambda tx: secrets.get(tx, account.uid)) == {}
    with pytest.raises(NotFound):
        db.write_sync(lambda tx: storage_accounts.delete(tx, "mydata"))


def test_accounts_are_listed_by_group_and_by_subscription(db: Database) -> None:
    def fill(tx: Connection) -> None:
        account = make_account(tx, "b")
        for name, group in (("c", "trainshed2"), ("a", "trainshed"), ("d", "x")):
            key = f"{SUBSCRIPTION}/{group}"
            storage_accounts.insert(tx, replace(account, name=name, uid=name, group_key=key, resource_group=group))
        storage_accounts.insert(tx, replace(account, name="e", uid="e", group_key=f"{SUBSCRIPTION}1/trainshed"))

    db.write_sync(fill)

    def names(group: str | None, after: str | None = None, limit: int = 9) -> list[str]:
        def query(tx: Connection) -> list[str]:
            found = storage_accounts.page(tx, subscription=SUBSCRIPTION, resource_group=group, after=after, limit=limit)
            return [account.name for account in found]

        return db.read_sync(query)

    assert (names("TrainShed"), names(None), names(None, "a", 2)) == (["a", "b"], ["a", "b", "c", "d"], ["b", "c"])
    of_group = db.read_sync(lambda tx: storage_accounts.of_group(tx, GROUP_KEY))
    assert [account.name for account in of_group] == ["a", "b"]


def test_removals_wait_until_they_are_cleared(db: Database) -> None:
    def ask(tx: Connection) -> None:
        meta.set(tx, "removals", "another fact")
        removals.request(tx, "u1", "storage/a")
        removals.request(tx, "u2", "fileservers/u2")

    db.write_sync(ask)
    assert db.read_sync(removals.pending) == {"u1": "storage/a", "u2": "fileservers/u2"}
    assert db.write_sync(lambda tx: removals.moved(tx, "u1", "elsewhere")) is True
    db.write_sync(lambda tx: removals.clear(tx, "u2"))
    assert db.read_sync(removals.pending) == {"u1": "elsewhere"}
    assert db.write_sync(lambda tx: removals.moved(tx, "u2", "elsewhere")) is False
    assert db.read_sync(removals.pending) == {"u1": "elsewhere"}


@pytest.fixture
def server(db: Database) -> FileServerRecord:
    """A file server ``nfs_1`` in the workspace."""
    db.write_sync(make_parents)
    return db.write_sync(lambda tx: make_file_server(tx, "nfs_1"))


def test_a_file_server_comes_back_and_goes_with_its_secrets(db: Database, server: FileServerRecord) -> None:
    assert db.read_sync(lambda tx: file_servers.get(tx, server.key)) == server
    with pytest.raises(AlreadyExists):
        db.write_sync(lambda tx: make_file_server(tx, "nfs_1"))
    settings = {"mountPoint": "/mnt/data"}
    db.write_sync(lambda tx: file_servers.set_mount_settings(tx, server.key, settings))
    changed = db.write_sync(lambda tx: file_servers.apply(tx, server.key, ProvisioningEvent.PROVISIONED, 4))
    assert changed == replace(server, mount_settings=settings, state=ProvisioningState.SUCCEEDED, state_at=4)
    db.write_sync(lambda tx: file_servers.delete(tx, server.key))
    assert db.read_sync(lambda tx: secrets.get(tx, server.uid)) == {}
    with pytest.raises(NotFound):
        db.write_sync(lambda tx: file_servers.delete(tx, server.key))


def test_file_servers_that_change_are_found(db: Database, server: FileServerRecord) -> None:
    db.write_sync(lambda tx: make_file_server(tx, "b"))
    db.write_sync(lambda tx: file_servers.apply(tx, server.key, ProvisioningEvent.PROVISIONED, 4))
    assert [found.name for found in db.read_sync(file_servers.changing)] == ["b"]
    db.write_sync(lambda tx: file_servers.apply(tx, server.key, ProvisioningEvent.DELETE_REQUESTED, 4))
    assert [found.name for found in db.read_sync(file_servers.changing)] == ["b", "nfs_1"]
    everyone = db.read_sync(lambda tx: file_servers.page(tx, WORKSPACE_KEY, f"{WORKSPACE_KEY}/b", 9))
    assert [found.name for found in everyone] == ["nfs_1"]


def test_a_workspace_with_file_servers_stays(db: Database, server: FileServerRecord) -> None:
    from trainshed.store import experiments, workspaces

    db.write_sync(lambda tx: experiments.delete(tx, EXPERIMENT_KEY))
    with pytest.raises(InUse):
        db.write_sync(lambda tx: workspaces.delete(tx, WORKSPACE_KEY))


def test_who_mounts_a_file_server(db: Database, server: FileServerRecord) -> None:
    arm_id = file_server_id(SUBSCRIPTION, "TRAINSHED", "default", "NFS_1")
    volumes = {"fileServers": [{"fileServer": {"id": arm_id}, "relativeMountPath": "x"}]}
    other = {"fileServers": [{"fileServer": {"id": arm_id.replace("NFS_1", "NFSx1")}, "relativeMountPath": "x"}]}

    def fill(tx: Connection) -> int:
        cluster = make_cluster(tx, "mounts")
        make_cluster(tx, "idle")
        for name, definition in (("mounts", {"nodeSetup": {"mountVolumes": volumes}}), ("idle", {"mountVolumes": {}})):
            tx.execute(
                clusters_table.update().where(clusters_table.c.name == name).values(definition=to_json(definition))
            )
        ids = [make_job(tx, cluster, name).id for name in ("ended", "queued", "other")]
        for number, mounted in zip(ids, (volumes, volumes, other), strict=True):
            definition = to_json({"mountVolumes": mounted})
            tx.execute(jobs_table.update().where(jobs_table.c.id == number).values(definition=definition))
        jobs.finish(tx, ids[0], JobEvent.FAILED, 2, exit_code=1, errors=(), ended_at=2)
        return ids[1]

    queued = db.write_sync(fill)
    assert db.read_sync(lambda tx: mounts.users_of_file_server(tx, server.key)) == ["cluster mounts", "job queued"]
    db.write_sync(lambda tx: jobs.finish(tx, queued, JobEvent.FAILED, 2, exit_code=1, errors=(), ended_at=2))
    assert db.read_sync(lambda tx: mounts.users_of_file_server(tx, server.key)) == ["cluster mounts"]


def test_usages_are_a_subscriptions_in_a_region(db: Database) -> None:
    def fill(tx: Connection) -> None:
        make_parents(tx)
        make_cluster(tx, "a", nodes=3)
        make_cluster(tx, "b", scale={"autoScale": {"minimumNodeCount": 1, "maximumNodeCount": 9}})

    db.write_sync(fill)
    region = Region.of(SUBSCRIPTION.upper(), "LO CAL")
    found = db.read_sync(lambda tx: of_region(tx, region))
    assert [(use.key, use.nodes, use.promised, use.reserved) for use in found] == [
        (f"{WORKSPACE_KEY}/a", 0, 3, 3),
        (f"{WORKSPACE_KEY}/b", 0, 1, 1),
    ]
    assert db.read_sync(everywhere) == {region: found}
    assert db.read_sync(lambda tx: of_region(tx, Region.of(SUBSCRIPTION[:-1], "local"))) == []
    assert db.read_sync(lambda tx: of_region(tx, Region.of(SUBSCRIPTION, "moon"))) == []
