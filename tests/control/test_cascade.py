"""Deleting parents: groups with accounts and workspaces, workspaces with file servers, experiments with many jobs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Connection, event

from tests.control.conftest import World
from tests.control.test_clusters import operation
from tests.control.test_jobs import Run, started
from tests.support.factories import (
    EXPERIMENT_KEY,
    GROUP_KEY,
    WORKSPACE_KEY,
    make_account,
    make_cluster,
    make_file_server,
    make_group,
    make_job,
)
from trainshed.control.actions import Actions
from trainshed.control.cascade import delete_parents
from trainshed.engines.protocol import GangResult
from trainshed.resources.lifecycle import (
    JobEvent,
    JobState,
    OperationState,
    OperationVerb,
    ProvisioningEvent,
    ProvisioningState,
)
from trainshed.store import (
    clusters,
    code,
    experiments,
    file_servers,
    jobs,
    operations,
    principals,
    removals,
    resource_groups,
    role_assignments,
    secrets,
    storage_accounts,
    workspaces,
)
from trainshed.store.errors import or_none
from trainshed.store.records import PrincipalRecord, RoleAssignmentRecord
from trainshed.store.tables import jobs as jobs_table

pytestmark = pytest.mark.slow


def test_a_group_goes_with_everything_in_it(run: Run) -> None:
    async def scenario(world: World) -> None:
        def build(tx: Connection) -> object:
            make_group(tx)
            make_file_server(tx)
            return make_job(tx, make_cluster(tx)), make_account(tx)

        job, account = await world.write(build)  # type: ignore[misc]
        await started(world, job)
        (world.home / "storage/mydata/files/share").mkdir(parents=True)

        def delete(tx: Connection) -> None:
            resource_groups.apply(tx, GROUP_KEY, ProvisioningEvent.DELETE_REQUESTED, 2)
            operations.insert(tx, operation(OperationVerb.DELETE_GROUP, GROUP_KEY))

        await world.write(delete)
        await world.until(lambda tx: operations.get(tx, "op").status is OperationState.SUCCEEDED)
        await world.until(lambda tx: not removals.pending(tx))

        def left(tx: Connection) -> list[object]:
            return [
                or_none(resource_groups.get, tx, GROUP_KEY),
                or_none(workspaces.get, tx, WORKSPACE_KEY),
                or_none(storage_accounts.get, tx, "mydata"),
                or_none(file_servers.get, tx, f"{WORKSPACE_KEY}/nfs"),
                or_none(jobs.get_by_id, tx, job.id),
            ]

        assert await world.db.read(left) == [None] * 5
        assert await world.db.read(lambda tx: secrets.get(tx, account.uid)) == {}
        assert world.engine.live() == [] and world.engine.nodes == {}
        assert not (world.home / "storage/mydata").exists()
        assert world.engine.file_servers == {}

    run(scenario)


def test_an_empty_group_goes_at_once(run: Run) -> None:
    async def scenario(world: World) -> None:
        def build(tx: Connection) -> None:
            make_group(tx)
            experiments.delete(tx, EXPERIMENT_KEY)
            workspaces.delete(tx, WORKSPACE_KEY)
            resource_groups.apply(tx, GROUP_KEY, ProvisioningEvent.DELETE_REQUESTED, 2)

        await world.write(build)
        await world.until(lambda tx: or_none(resource_groups.get, tx, GROUP_KEY) is None)

    run(scenario)


def test_a_workspaces_file_servers_go_after_its_clusters(run: Run) -> None:
    async def scenario(world: World) -> None:
        server = await world.write(make_file_server)
        job = await world.write(lambda tx: make_job(tx, make_cluster(tx)))
        await started(world, job)
        world.engine.ignore_stops = True
        await world.write(lambda tx: workspaces.apply(tx, WORKSPACE_KEY, ProvisioningEvent.DELETE_REQUESTED, 2))
        await world.until(lambda _: world.engine.stopped)
        found = await world.db.read(lambda tx: file_servers.get(tx, server.key))
        assert found.state is not ProvisioningState.DELETING
        world.engine.ignore_stops = False
        world.controller.wake()
        await world.until(lambda tx: or_none(workspaces.get, tx, WORKSPACE_KEY) is None)
        assert await world.db.read(lambda tx: or_none(file_servers.get, tx, server.key)) is None

    run(scenario)


def test_a_workspaces_code_and_roles_go_with_it(run: Run) -> None:
    async def scenario(world: World) -> None:
        def build(tx: Connection) -> int:
            number = workspaces.get(tx, WORKSPACE_KEY).user_number
            code.put_snapshot(tx, number, "snapshot", {}, 1)
            principals.insert(tx, PrincipalRecord("ann", "User", "ann", "Ann", None, None, None, 1))
            for scope_key in (f"/{WORKSPACE_KEY}", f"/{GROUP_KEY}"):
                role_assignments.insert(
                    tx, RoleAssignmentRecord(f"at {scope_key}", scope_key, "/", "ann", "Reader", 1, "test")
                )
            workspaces.apply(tx, WORKSPACE_KEY, ProvisioningEvent.DELETE_REQUESTED, 2)
            return number

        number = await world.write(build)
        await world.until(lambda tx: or_none(workspaces.get, tx, WORKSPACE_KEY) is None)
        assert await world.db.read(lambda tx: code.get_snapshot(tx, number, "snapshot")) is None
        left = await world.db.read(lambda tx: role_assignments.of_principal(tx, "ann"))
        assert [entry.scope_key for entry in left] == [f"/{GROUP_KEY}"]

    run(scenario)


def _statements_to_delete(world: World, count: int) -> object:
    """Deletes an experiment of so many finished jobs in one pass; the number of statements that it took."""

    def change(tx: Connection) -> int:
        cluster = make_cluster(tx, f"c{count}")
        for number in range(count):
            job = make_job(tx, cluster, f"job{number}")
            secrets.put(tx, job.uid, {"/secrets/0": b"sealed"})
            jobs.finish(tx, job.id, JobEvent.FAILED, 2, exit_code=1, errors=(), ended_at=2)
        experiments.apply(tx, EXPERIMENT_KEY, ProvisioningEvent.DELETE_REQUESTED, 3)
        statements: list[str] = []

        def note(conn: object, cursor: object, statement: str, *_: object) -> None:
            statements.append(statement)

        event.listen(tx, "before_cursor_execute", note)
        try:
            delete_parents(tx, Actions(), 4)
        finally:
            event.remove(tx, "before_cursor_execute", note)
        assert or_none(experiments.get, tx, EXPERIMENT_KEY) is None
        assert tx.exec_driver_sql("SELECT count(*) FROM jobs").scalar() == 0
        assert tx.exec_driver_sql("SELECT count(*) FROM secrets").scalar() == 0
        return len(statements)

    return change


def test_the_jobs_of_an_experiment_go_together(run: Run) -> None:
    async def scenario(world: World) -> None:
        await world.controller.stop()
        taken = await world.db.write(_statements_to_delete(world, 300))  # type: ignore[arg-type]
        assert taken <= 20

    run(scenario)


def test_siblings_of_what_is_deleted_stay(run: Run) -> None:
    async def scenario(world: World) -> None:
        other_key = f"{GROUP_KEY}/other"
        sibling = f"{WORKSPACE_KEY}/sibling"

        def build(tx: Connection) -> tuple[int, int]:
            make_group(tx)
            mine = workspaces.get(tx, WORKSPACE_KEY)
            workspaces.insert(tx, replace(mine, key=other_key, name="other"))
            experiments.insert(tx, replace(experiments.get(tx, EXPERIMENT_KEY), key=sibling, name="sibling"))
            cluster = make_cluster(tx, nodes=0)
            gone, kept = make_job(tx, cluster, "gone"), make_job(tx, cluster, "kept")
            tx.execute(jobs_table.update().where(jobs_table.c.id == kept.id).values(experiment_key=sibling))
            return gone.id, kept.id

        gone, kept = await world.write(build)
        await world.write(lambda tx: experiments.apply(tx, EXPERIMENT_KEY, ProvisioningEvent.DELETE_REQUESTED, 2))
        await world.until(lambda tx: or_none(experiments.get, tx, EXPERIMENT_KEY) is None)
        assert await world.db.read(lambda tx: or_none(jobs.get_by_id, tx, gone)) is None
        left = await world.db.read(lambda tx: jobs.get_by_id(tx, kept))
        assert (left.execution, left.state) == (JobState.QUEUED, ProvisioningState.SUCCEEDED)
        assert await world.db.read(lambda tx: clusters.get(tx, f"{WORKSPACE_KEY}/c").state) == "succeeded"
        await world.write(lambda tx: workspaces.apply(tx, WORKSPACE_KEY, ProvisioningEvent.DELETE_REQUESTED, 3))
        await world.until(lambda tx: or_none(workspaces.get, tx, WORKSPACE_KEY) is None)
        assert await world.db.read(lambda tx: workspaces.get(tx, other_key).state) == "succeeded"
        assert await world.db.read(lambda tx: resource_groups.get(tx, GROUP_KEY).state) == "succeeded"

    run(scenario)


def test_finished_jobs_outlive_their_cluster(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await world.write(lambda tx: make_job(tx, make_cluster(tx)))
        attempt = await started(world, job)
        world.engine.end(attempt.id, GangResult.SUCCEEDED, exit_code=0)
        await world.until(lambda tx: jobs.get_by_id(tx, job.id).execution is JobState.SUCCEEDED)
        await world.write(
            lambda tx: clusters.apply_provisioning(tx, job.cluster_key, ProvisioningEvent.DELETE_REQUESTED, 3)
        )
        await world.until(lambda tx: or_none(clusters.get, tx, job.cluster_key) is None)
        assert (await world.db.read(lambda tx: jobs.get_by_id(tx, job.id))).exit_code == 0

    run(scenario)
