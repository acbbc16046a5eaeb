"""The API under test: a real store on SQLite, a real home, and a test double in place of the controller."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
from sqlalchemy import Connection, text

from trainshed.api.app import create_app
from trainshed.api.authentication import Authenticator
from trainshed.api.services import Services
from trainshed.control.explaining import Explanation, QueueExplainer, Waiting, explain_fully
from trainshed.control.settings import ControlSettings
from trainshed.identity import LinkSigner, Tokens, Vault
from trainshed.identity.keyvault_files import FileKeyVault
from trainshed.resources.lifecycle import (
    AllocationEvent,
    AttemptEvent,
    JobEvent,
    NodeEvent,
    NodeState,
    OperationEvent,
    OperationVerb,
    ProvisioningEvent,
)
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.resources.vmsizes import local_sizes
from trainshed.store import attempts, clusters, experiments, jobs, nodes, operations, workspaces
from trainshed.store.database import Database
from trainshed.store.records import ClusterRecord, JobRecord, NodeRecord

T = TypeVar("T")

OLD, NEW = "2018-05-01", "2026-11-01"
PROVIDER = "/subscriptions/sub/resourceGroups/Group/providers/Microsoft.BatchAI"
SUB = "/subscriptions/sub"
GROUP = f"{SUB}/resourceGroups/Group"
ACCOUNTS = f"{GROUP}/providers/Microsoft.Storage/storageAccounts"
WS = f"{PROVIDER}/workspaces/ws"
EXPERIMENT = f"{WS}/experiments/exp"
CLUSTER = f"{WS}/clusters/c"
JOB = f"{EXPERIMENT}/jobs/j"
WS_KEY = "sub/group/ws"
JOB_KEY = f"{WS_KEY}/exp/j"
CLUSTER_KEY = f"{WS_KEY}/c"
WAITING = Reason(ReasonCode.WAITING_FOR_NODES, "It waits for 1 node of c.", {"cluster": "c"})
BASE = "http://shed.test:8080"
TABLES = ("workspaces", "experiments", "clusters", "nodes", "jobs", "attempts", "operations", "events", "secrets",
          "code_snapshots", "meta", "principals", "tokens", "role_assignments", "resource_groups", "storage_accounts",
          "file_servers", "usage")  # fmt: skip


@dataclass
class Clock:
    """Unix ms that only the test moves; starts at a whole second."""

    now: int = 1_528_319_162_000

    def __call__(self) -> int:
        return self.now


@dataclass
class FakeController:
    """Test double: counts how often it was woken, and does what a test tells it to do to the records."""

    db: Database
    clock: Clock
    wakes: int = 0
    engine_available: bool = True
    roots: dict[str, str] = field(default_factory=dict)

    def wake(self) -> None:
        self.wakes += 1

    def explain(self, _tx: Connection, _job: JobRecord) -> Reason:
        return WAITING

    def explain_fully(self, tx: Connection, job: JobRecord) -> Explanation:
        return explain_fully(tx, job, ControlSettings(clock=self.clock), engine_available=True)

    def queue(self, tx: Connection, cluster: ClusterRecord, limit: int) -> list[Waiting]:
        settings = ControlSettings(clock=self.clock)
        return QueueExplainer(tx, cluster, settings, engine_available=True).queue(limit)

    def provision(self, key: str = CLUSTER_KEY, count: int = 0, ssh_port: int | None = None) -> list[str]:
        """Finish a cluster's creation and give it nodes that are ready."""

        def change(tx: Connection) -> list[str]:
            record = clusters.apply_provisioning(tx, key, ProvisioningEvent.PROVISIONED, self.clock())
            clusters.apply_allocation(tx, key, AllocationEvent.RESIZE_FINISHED, self.clock())
            operations.finish_for(tx, OperationVerb.CREATE_CLUSTER, key, OperationEvent.SUCCEEDED, self.clock())
            ids = [f"tvm-{record.pool}_{number}-20180606t210834z" for number in range(count)]
            for number, node_id in enumerate(ids):
                nodes.insert(
                    tx,
                    NodeRecord(
                        node_id, record.uid, number, NodeState.PREPARING, self.clock(), 1, f"c-{number}",
                        f"127.40.1.{number + 4}", ssh_port, None,
                    ),
                )  # fmt: skip
                nodes.apply(tx, node_id, NodeEvent.PREPARED, self.clock())
            return ids

        return self.db.write_sync(change)

    def start(self, node_ids: list[str], key: str = JOB_KEY) -> str:
        """Put a queued job on nodes; the id of its attempt."""

        def change(tx: Connection) -> str:
            job = jobs.get(tx, key)
            attempt_id = f"{job.uid}-{job.attempts + 1}"
            jobs.place(tx, job.id, self.clock(), attempt_id)
            attempts.insert(
                tx, id=attempt_id, job_id=job.id, number=job.attempts + 1, cluster_uid=job.cluster_uid,
                node_ids=node_ids, now=self.clock(),
            )  # fmt: skip
            return attempt_id

        return self.db.write_sync(change)

    def finish(self, attempt_id: str | None = None, *, key: str = JOB_KEY, succeeded: bool = True) -> None:
        """End a job, and its attempt if it has one."""
        code, failure = (0, None) if succeeded else (2, Reason(ReasonCode.JOB_FAILED, "Job failed"))

        def change(tx: Connection) -> None:
            if attempt_id is not None:
                event = AttemptEvent.SUCCEEDED if succeeded else AttemptEvent.FAILED
                attempts.finish(
                    tx, attempt_id, event, self.clock(), exit_code=code, reason=failure, ended_at=self.clock()
                )
            event = JobEvent.SUCCEEDED if succeeded else JobEvent.FAILED
            jobs.finish(
                tx, jobs.get(tx, key).id, event, self.clock(), exit_code=code, errors=(failure,) if failure else (),
                ended_at=self.clock(),
            )  # fmt: skip

        self.db.write_sync(change)

    def finish_operations(self, event: OperationEvent = OperationEvent.SUCCEEDED, error: Reason | None = None) -> None:
        """End everything that is in progress."""

        def change(tx: Connection) -> None:
            for operation in operations.in_progress(tx):
                operations.finish(tx, operation.id, event, self.clock(), error)

        self.db.write_sync(change)


class Service:
    """Sends requests to the app in this process."""

    def __init__(self, home: Path, database: Path, runner: asyncio.Runner) -> None:
        self.home = home
        self.database = database
        self.runner = runner
        self.clock = Clock()
        self.db = Database.open(f"sqlite:///{database}")
        self.controller = FakeController(self.db, self.clock)
        self.vault = Vault.load_or_create(home, {})
        self.tokens = Tokens.load_or_create(home)
        self.links = LinkSigner.from_vault(self.vault)
        self.keyvault = FileKeyVault(home / "keyvault")
        self.stopping = False
        (home / "mounts").mkdir()
        self.services = Services(
            db=self.db,
            vault=self.vault,
            links=self.links,
            authenticator=Authenticator(self.db, self.tokens, None, self.clock),
            keyvault=self.keyvault,
            home=home,
            wake=self.controller.wake,
            wake_queue=self.controller.wake,
            explain=self.controller.explain,
            explain_fully=self.controller.explain_fully,
            queue=self.controller.queue,
            mount_root=lambda uid: self.controller.roots.get(uid, str(home / "mounts")),
            local_sizes=local_sizes(2, 4096, 0),
            now_ms=self.clock,
            engine_available=lambda: self.controller.engine_available,
            stopping=lambda: self.stopping,
        )
        self.app = create_app(self.services)
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, raise_app_exceptions=False), base_url=BASE, timeout=10
        )

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        version: str | None = OLD,
        token: str | None = "right",
        headers: dict[str, str] | None = None,
        **query: Any,
    ) -> httpx.Response:
        """One request. ``body``: bytes as they are, anything else as JSON; ``query`` names may end in ``_``."""
        return self.run(self.asend(method, path, body, version=version, token=token, headers=headers, **query))

    async def asend(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        version: str | None = OLD,
        token: str | None = "right",
        headers: dict[str, str] | None = None,
        **query: Any,
    ) -> httpx.Response:
        sent = {"Content-Type": "application/json; charset=utf-8"}
        if token is not None:
            sent["Authorization"] = f"Bearer {self.tokens.admin if token == 'right' else token}"
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        params = {name.removesuffix("_"): value for name, value in query.items()}
        if version is not None and path.startswith("/"):
            params["api-version"] = version
        return await self.http.request(
            method, path, content=content, params=params or None, headers=sent | (headers or {})
        )

    def make_parents(self) -> None:
        """Workspace ``ws``, experiment ``exp`` and cluster ``c``."""
        assert self.send("PUT", WS, {"location": "local"}).status_code == 200
        assert self.send("PUT", EXPERIMENT).status_code == 200
        assert self.send("PUT", CLUSTER, cluster_body()).status_code == 202

    def make_job(self, name: str = "j", body: dict[str, Any] | None = None, version: str = OLD) -> JobRecord:
        """A queued job."""
        answer = self.send("PUT", f"{EXPERIMENT}/jobs/{name}", body or job_body(), version=version)
        assert answer.status_code == 202, answer.text
        return self.db.read_sync(lambda tx: jobs.get(tx, f"{WS_KEY}/exp/{name.lower()}"))

    def dump(self) -> dict[str, list[Any]]:
        """Every row of every table."""
        return self.db.read_sync(
            lambda tx: {name: [tuple(row) for row in tx.execute(text(f"SELECT * FROM {name}"))] for name in TABLES}
        )

    def stdouterr(self, job: JobRecord) -> Path:
        """The job's log directory, made."""
        path = self.home / "mounts" / "logs" / job.segment / "stdouterr"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def apply(self, change: Callable[[Connection], T]) -> T:
        return self.db.write_sync(change)

    def close(self) -> None:
        self.run(self.http.aclose())
        self.db.close_sync()


def cluster_body(**properties: Any) -> dict[str, Any]:
    """A valid cluster."""
    return {
        "properties": {
            "vmSize": "Standard_D1",
            "scaleSettings": {"manual": {"targetNodeCount": 2}},
            "userAccountSettings": {"adminUserName": "trainer", "adminUserPassword": "pass-w0rd-in-clear"},
            **properties,
        }
    }


def file_server_body(**properties: Any) -> dict[str, Any]:
    """A valid file server."""
    return {
        "properties": {
            "vmSize": "Standard_D1",
            "sshConfiguration": {
                "userAccountSettings": {"adminUserName": "trainer", "adminUserPassword": "pass-w0rd-in-clear"}
            },
            "dataDisks": {"diskSizeInGB": 10, "diskCount": 2, "storageAccountType": "standard_lrs"},
            **properties,
        }
    }


def job_body(**properties: Any) -> dict[str, Any]:
    """A valid job; a value of None removes the property."""
    given = {
        "cluster": {"id": CLUSTER},
        "nodeCount": 1,
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
        "customToolkitSettings": {"commandLine": "true"},
        **properties,
    }
    return {"properties": {name: value for name, value in given.items() if value is not None}}


def delete_workspace_requested(tx: Connection) -> None:
    """As if somebody had asked for it: the workspace is on its way out."""
    workspaces.apply(tx, WS_KEY, ProvisioningEvent.DELETE_REQUESTED, 1)


def delete_experiment_requested(tx: Connection) -> None:
    """As if somebody had asked for it: the experiment is on its way out."""
    experiments.apply(tx, f"{WS_KEY}/exp", ProvisioningEvent.DELETE_REQUESTED, 1)
