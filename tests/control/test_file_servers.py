"""File servers under the control loops: the engine serves them, and lets go of them."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from tests.control.conftest import World
from tests.control.test_clusters import operation
from tests.control.test_jobs import Run
from tests.support.factories import WORKSPACE_KEY, make_file_server
from trainshed.engines.protocol import FileServerCondition, FileServerSpec
from trainshed.resources.lifecycle import OperationState, OperationVerb, ProvisioningEvent, ProvisioningState
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import file_servers, operations, removals, secrets
from trainshed.store.errors import or_none
from trainshed.store.records import FileServerRecord

pytestmark = pytest.mark.slow

KEY = f"{WORKSPACE_KEY}/nfs"


def created(tx: Connection) -> FileServerRecord:
    operations.insert(tx, operation(OperationVerb.CREATE_FILE_SERVER, KEY))
    return make_file_server(tx)


def in_state(state: ProvisioningState, key: str = KEY) -> object:
    def check(tx: Connection) -> FileServerRecord | None:
        found = or_none(file_servers.get, tx, key)
        return found if found is not None and found.state is state else None

    return check


def test_it_is_served_and_gets_an_address(run: Run) -> None:
    async def scenario(world: World) -> None:
        server = await world.write(created)
        done = await world.until(in_state(ProvisioningState.SUCCEEDED))
        assert done.mount_settings == {
            "mountPoint": "/mnt/data",
            "fileServerPublicIP": "127.230.0.2",
            "fileServerInternalIP": "127.230.0.2",
            "nfsPort": 2049,
            "mountPort": 20048,
            "sshPort": 22,
        }
        told = world.engine.file_server_specs[0]
        assert (told.uid, told.disk_bytes, told.admin_name) == (server.uid, 2 * 10 * 2**30, "demo")
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


def test_one_that_the_engine_refuses_fails_and_says_why(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.engine.file_server_refusal = Reason(ReasonCode.FILE_SERVER_FAILED, "The disk of this machine is full.")
        await world.write(created)
        await world.until(in_state(ProvisioningState.FAILED))
        ended = await world.db.read(lambda tx: operations.get(tx, "op"))
        assert ended.status is OperationState.FAILED
        assert ended.error is not None and ended.error.text.startswith("The disk of this machine is full. Mend that")

    run(scenario)


def test_one_that_never_serves_fails_and_is_let_go(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.engine.serve_slowly = True
        server = await world.write(created)
        await world.until(lambda _: world.engine.file_servers)
        assert await world.db.read(lambda tx: file_servers.get(tx, KEY).state) is ProvisioningState.CREATING
        reason = Reason(ReasonCode.FILE_SERVER_FAILED, "The file server nfs: its NFS server ended.")
        world.engine.change_file_server(server.uid, FileServerCondition.FAILED, reason)
        failed = await world.until(in_state(ProvisioningState.FAILED))
        assert failed is not None and failed.mount_settings is None
        await world.until(lambda _: not world.engine.file_servers)
        ended = await world.db.read(lambda tx: operations.get(tx, "op"))
        assert ended.error is not None and "its NFS server ended" in ended.error.text

    run(scenario)


def test_after_a_restart_the_engine_is_told_of_it_again_with_its_password(run: Run) -> None:
    async def scenario(world: World) -> None:
        await world.write(created)
        await world.until(in_state(ProvisioningState.SUCCEEDED))
        await world.controller.stop()
        world.engine.file_server_specs.clear()
        world.controller = world.make_controller()
        await world.controller.start()
        await world.until(lambda _: world.engine.file_server_specs)
        assert world.engine.file_server_specs[0].admin_password == "sealed"

    run(scenario)


def test_one_that_the_engine_has_lost_is_served_again(run: Run) -> None:
    async def scenario(world: World) -> None:
        server = await world.write(created)
        await world.until(in_state(ProvisioningState.SUCCEEDED))
        world.engine.file_servers.clear()
        await world.until(lambda _: server.uid in world.engine.file_servers)

    run(scenario)


def test_ports_that_changed_are_recorded(run: Run) -> None:
    async def scenario(world: World) -> None:
        server = await world.write(created)
        await world.until(in_state(ProvisioningState.SUCCEEDED))
        world.engine.change_file_server(server.uid, FileServerCondition.SERVING, ssh_port=2222)
        await world.until(lambda tx: (file_servers.get(tx, KEY).mount_settings or {})["sshPort"] == 2222)

    run(scenario)


def test_one_that_nobody_knows_is_ended_with_its_data(run: Run) -> None:
    """What is left when it was deleted while the engine was being asked for it."""

    async def scenario(world: World) -> None:
        folder = world.home / "fileservers" / "lost"
        folder.mkdir(parents=True)
        await world.engine.ensure_file_server(FileServerSpec("lost", "lost", 1, "demo"))
        await world.until(lambda tx: not world.engine.file_servers and not removals.pending(tx))
        assert not folder.exists()

    run(scenario)


def test_deletion_takes_its_data_and_secrets_along(run: Run) -> None:
    async def scenario(world: World) -> None:
        server = await world.write(created)
        await world.until(in_state(ProvisioningState.SUCCEEDED))
        folder = world.home / "fileservers" / server.uid
        (folder / "deep").mkdir(parents=True)
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
        assert not world.engine.file_servers
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
