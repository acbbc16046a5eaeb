"""File servers under the control loops: an address and a directory come, and go."""

from __future__ import annotations

from sqlalchemy import Connection

from tests.control.conftest import World
from tests.control.test_clusters import operation
from tests.control.test_jobs import Run
from tests.support.factories import WORKSPACE_KEY, make_file_server
from trainshed.resources.lifecycle import OperationState, OperationVerb, ProvisioningEvent, ProvisioningState
from trainshed.store import file_servers, operations, removals, secrets
from trainshed.store.errors import or_none
from trainshed.store.records import FileServerRecord

KEY = f"{WORKSPACE_KEY}/nfs"


def created(tx: Connection) -> FileServerRecord:
    operations.insert(tx, operation(OperationVerb.CREATE_FILE_SERVER, KEY))
    return make_file_server(tx)


def in_state(state: ProvisioningState, key: str = KEY) -> object:
    def check(tx: Connection) -> FileServerRecord | None:
        found = or_none(file_servers.get, tx, key)
        return found if found is not None and found.state is state else None

    return check


def test_it_gets_an_address_and_a_directory(run: Run) -> None:
    async def scenario(world: World) -> None:
        server = await world.write(created)
        done = await world.until(in_state(ProvisioningState.SUCCEEDED))
        assert done.mount_settings == {
            "mountPoint": "/mnt/data",
            "fileServerPublicIP": "127.230.0.2",
            "fileServerInternalIP": "127.230.0.2",
        }
        assert (world.home / "fileservers" / server.uid).is_dir()
        assert (await world.db.read(lambda tx: operations.get(tx, "op"))).status is OperationState.SUCCEEDED

    run(scenario)


def test_a_second_one_is_told_which_addresses_are_taken(run: Run) -> None:
    async def scenario(world: World) -> None:
        await world.write(make_file_server)
        first = await world.until(in_state(ProvisioningState.SUCCEEDED))
        await world.write(lambda tx: make_file_server(tx, "other"))
        second = await world.until(in_state(ProvisioningState.SUCCEEDED, f"{WORKSPACE_KEY}/other"))
        assert first.mount_settings != second.mount_settings

    run(scenario)


def test_without_room_for_its_directory_it_fails_and_says_so(run: Run) -> None:
    async def scenario(world: World) -> None:
        # A file where the directory has to be: as good as a full disk.
        (world.home / "fileservers").write_text("")
        await world.write(created)
        await world.until(in_state(ProvisioningState.FAILED))
        ended = await world.db.read(lambda tx: operations.get(tx, "op"))
        assert ended.status is OperationState.FAILED
        assert ended.error is not None and "its directory could not be made" in ended.error.text

    run(scenario)


def test_an_engine_without_addresses_has_no_file_servers(run: Run) -> None:
    async def scenario(world: World) -> None:
        object.__setattr__(world.settings, "file_server_address", None)
        await world.write(created)
        await world.until(in_state(ProvisioningState.FAILED))
        ended = await world.db.read(lambda tx: operations.get(tx, "op"))
        assert ended.error is not None and "no addresses for file servers" in ended.error.text

    run(scenario)


def test_deletion_takes_its_data_and_secrets_along(run: Run) -> None:
    async def scenario(world: World) -> None:
        server = await world.write(created)
        await world.until(in_state(ProvisioningState.SUCCEEDED))
        folder = world.home / "fileservers" / server.uid
        (folder / "deep").mkdir()
        (folder / "deep" / "data").write_bytes(b"x")

        def delete(tx: Connection) -> None:
            file_servers.apply(tx, KEY, ProvisioningEvent.DELETE_REQUESTED, 2)
            operations.insert(tx, operation(OperationVerb.DELETE_FILE_SERVER, KEY, "delete"))

        await world.write(delete)
        await world.until(lambda tx: operations.get(tx, "delete").status is OperationState.SUCCEEDED)
        await world.until(lambda tx: not removals.pending(tx))
        assert await world.db.read(lambda tx: or_none(file_servers.get, tx, KEY)) is None
        assert await world.db.read(lambda tx: secrets.get(tx, server.uid)) == {}
        assert not folder.exists()
        assert list((world.home / "storage/.removed").iterdir()) == []

    run(scenario)


def test_deleted_while_it_is_being_made_it_leaves_nothing(run: Run) -> None:
    async def scenario(world: World) -> None:
        def both(tx: Connection) -> FileServerRecord:
            server = created(tx)
            file_servers.apply(tx, KEY, ProvisioningEvent.DELETE_REQUESTED, 2)
            return server

        server = await world.write(both)
        await world.until(lambda tx: or_none(file_servers.get, tx, KEY) is None and not removals.pending(tx))
        assert not (world.home / "fileservers" / server.uid).exists()

    run(scenario)


def test_a_removal_that_was_cut_off_is_carried_out_after_a_restart(run: Run) -> None:
    """What a crash between the commit and the work leaves: the row is gone, the directory is there."""

    async def scenario(world: World) -> None:
        await world.controller.stop()
        folder = world.home / "storage" / "mydata" / "files" / "share"
        folder.mkdir(parents=True)
        await world.write(lambda tx: removals.request(tx, "uid", "storage/mydata"))
        world.controller = world.make_controller()
        await world.controller.start()
        await world.until(lambda tx: not removals.pending(tx))
        assert not (world.home / "storage" / "mydata").exists()

    run(scenario)
