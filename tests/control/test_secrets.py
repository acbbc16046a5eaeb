"""Secrets under the control loops: opened when an attempt or a node starts, and a failure is that one's alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, update

from tests.control.conftest import World
from tests.control.test_jobs import LOST, in_state, started
from tests.support.factories import WORKSPACE_KEY, make_cluster, make_job
from trainshed.control.controller import Controller
from trainshed.control.settings import ControlSettings
from trainshed.engines.protocol import GangResult
from trainshed.identity import Vault
from trainshed.resources.keyvault import SecretName, SecretUnavailable
from trainshed.resources.lifecycle import JobState
from trainshed.resources.reasons import ReasonCode
from trainshed.store import attempts, clusters, secrets, tables
from trainshed.store.encoding import to_json
from trainshed.store.records import ClusterRecord, JobRecord

pytestmark = pytest.mark.slow

Run = Callable[[Callable[[World], Awaitable[None]]], None]

REFERENCE = {
    "sourceVault": {"id": "/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/research"},
    "secretUrl": "https://research.vault.azure.net/secrets/token",
}
VARIABLES = [{"name": "PLAIN"}, {"name": "TOKEN", "valueSecretReference": REFERENCE}]
TOKEN = SecretName("research", "token")


class Vaults:
    """Test double of a provider: a dictionary that the test changes; it remembers who asked."""

    def __init__(self) -> None:
        self.values = {TOKEN: "first"}
        self.asked: list[str] = []

    def get(self, secret: SecretName, workspace: str) -> str:
        self.asked.append(workspace)
        if secret not in self.values:
            raise SecretUnavailable(f"there is no {secret}")
        return self.values[secret]


async def with_vaults(world: World, vault: Vault | None = None) -> Vaults:
    """Let the world's controller resolve references, and open what ``vault`` sealed."""
    vaults = Vaults()
    unseal = vault.unseal_text if vault is not None else lambda sealed, owner: sealed.decode()
    await world.controller.stop()
    settings = ControlSettings(clock=world.clock, slow_clock_seconds=0.05, lost_attempts_limit=3)
    world.controller = Controller(world.db, world.engine, unseal, settings, vaults.get)
    await world.controller.start()
    return vaults


def secret_job(
    tx: Connection, cluster: ClusterRecord, name: str = "job", variables: Any = VARIABLES, sealed: bytes = b"plain"
) -> JobRecord:
    job = make_job(tx, cluster, name)
    definition = {**job.definition, "secrets": variables}
    tx.execute(update(tables.jobs).where(tables.jobs.c.id == job.id).values(definition=to_json(definition)))
    secrets.put(tx, job.uid, {"/secrets/0": sealed})
    return replace(job, definition=definition)


def test_references_are_resolved_at_each_attempt(run: Run) -> None:
    async def scenario(world: World) -> None:
        vaults = await with_vaults(world)
        job = await world.write(lambda tx: secret_job(tx, make_cluster(tx)))
        first = await started(world, job)
        assert world.engine.specs[first.id].secrets == {"PLAIN": "plain", "TOKEN": "first"}
        vaults.values[TOKEN] = "second"
        world.engine.end(first.id, GangResult.LOST, reason=LOST)
        await world.until(lambda tx: len(set(world.engine.started)) == 2)
        [second] = set(world.engine.started) - {first.id}
        assert world.engine.specs[second].secrets["TOKEN"] == "second"
        assert set(vaults.asked) == {WORKSPACE_KEY}

    run(scenario)


def test_a_job_whose_secret_is_gone_fails_and_says_which(run: Run) -> None:
    async def scenario(world: World) -> None:
        vaults = await with_vaults(world)
        vaults.values.clear()
        cluster = await world.write(lambda tx: make_cluster(tx, nodes=1))
        job = await world.write(lambda tx: secret_job(tx, cluster))
        other = await world.write(lambda tx: make_job(tx, cluster, "other"))
        failed = await world.until(in_state(job, JobState.FAILED))
        assert failed is not None and failed.exit_code is None
        [error] = failed.errors
        assert error.code is ReasonCode.SECRET_NOT_FOUND
        assert error.text.startswith("properties.secrets[1].valueSecretReference does not resolve: ")
        assert "there is no secret token of key vault research" in error.text
        [attempt] = await world.db.read(lambda tx: attempts.of_job(tx, job.id))
        assert attempt.reason == error
        world.engine.end((await started(world, other)).id, GangResult.SUCCEEDED, exit_code=0)
        await world.until(in_state(other, JobState.SUCCEEDED))
        assert attempt.id not in world.engine.started

    run(scenario)


@pytest.mark.parametrize("how", ["another key", "another owner", "no sealed value"])
def test_a_secret_that_does_not_open_fails_its_job_alone(run: Run, how: str) -> None:
    async def scenario(world: World) -> None:
        vault = Vault(bytes(32))
        await with_vaults(world, vault)
        sealed = {
            "another key": Vault(bytes(range(32))).seal_text("x", "y"),
            "another owner": vault.seal_text("x", "somebody else"),
            "no sealed value": b"x",
        }[how]
        cluster = await world.write(lambda tx: make_cluster(tx, nodes=1))
        job = await world.write(lambda tx: secret_job(tx, cluster, variables=VARIABLES[:1], sealed=sealed))
        other = await world.write(lambda tx: make_job(tx, cluster, "other"))
        failed = await world.until(in_state(job, JobState.FAILED))
        assert failed is not None and [error.code for error in failed.errors] == [ReasonCode.SECRET_UNREADABLE]
        world.engine.end((await started(world, other)).id, GangResult.SUCCEEDED, exit_code=0)
        await world.until(in_state(other, JobState.SUCCEEDED))

    run(scenario)


def secret_cluster(tx: Connection) -> ClusterRecord:
    cluster = make_cluster(tx, nodes=1)
    task = {"commandLine": "true", "stdOutErrPathPrefix": "/logs", "secrets": VARIABLES}
    definition = {**cluster.definition, "nodeSetup": {"setupTask": task}}
    tx.execute(
        update(tables.clusters).where(tables.clusters.c.key == cluster.key).values(definition=to_json(definition))
    )
    secrets.put(tx, cluster.uid, {"/nodeSetup/setupTask/secrets/0": b"plain"})
    return replace(cluster, definition=definition)


def test_a_cluster_gets_its_secrets_with_its_nodes(run: Run) -> None:
    async def scenario(world: World) -> None:
        await with_vaults(world)
        cluster = await world.write(secret_cluster)
        await world.until(lambda tx: world.engine.nodes)
        assert world.engine.clusters[cluster.uid].setup_secrets == {"PLAIN": "plain", "TOKEN": "first"}

    run(scenario)


def test_a_cluster_whose_secret_is_gone_says_so_and_gets_nodes_when_it_is_back(run: Run) -> None:
    async def scenario(world: World) -> None:
        vaults = await with_vaults(world)
        vaults.values.clear()
        cluster = await world.write(secret_cluster)

        def refused(tx: Connection) -> ClusterRecord | None:
            found = clusters.get(tx, cluster.key)
            return found if found.errors else None

        found = await world.until(refused)
        assert found is not None and found.errors[0].code is ReasonCode.SECRET_NOT_FOUND
        assert "nodeSetup.setupTask.secrets[1].valueSecretReference" in found.errors[0].text
        assert world.engine.nodes == {}
        vaults.values[TOKEN] = "back"

        def some_time_later(tx: Connection) -> object:
            world.clock.now += 60_000
            return world.engine.nodes

        await world.until(some_time_later)
        await world.until(lambda tx: not clusters.get(tx, cluster.key).errors)

    run(scenario)
