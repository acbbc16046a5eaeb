"""The database as the invariants see it: read with the driver alone, so that no code of the product stands between."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Any:
    """JSON that nobody changes."""
    return json.loads(text)


LIVE = ("placed", "running", "stopping")


class Job(NamedTuple):
    """A row of ``jobs``."""

    id: int
    uid: str
    key: str
    name: str
    cluster_uid: str
    state: str
    execution: str
    node_count: int
    priority: int
    attempts: int
    lost_attempts: int
    retries: int
    not_before: int | None
    exit_code: int | None
    definition: str
    errors: str
    returned: int
    experiment_key: str
    submitted_by: str | None
    blocked: int
    waits_turn: int
    array_id: int | None
    handed_over: int


class Attempt(NamedTuple):
    """A row of ``attempts``."""

    id: str
    job_id: int
    number: int
    cluster_uid: str
    node_ids: str
    state: str
    exit_code: int | None
    placed_at: int
    ended_at: int | None
    waiting: str | None
    began_at: int | None
    #: JSON of why it was to stop.
    stop_reason: str | None

    @property
    def live(self) -> bool:
        """Whether it may have processes."""
        return self.state in LIVE

    @property
    def nodes(self) -> list[str]:
        """Its nodes, the master first."""
        found: list[str] = _parsed(self.node_ids)
        return found


class NodeRow(NamedTuple):
    """A row of ``nodes``."""

    id: str
    cluster_uid: str
    state: str
    reason: str | None


class ClusterRow(NamedTuple):
    """A row of ``clusters``."""

    uid: str
    key: str
    name: str
    vm_size: str
    scale: str
    state: str
    allocation: str

    @property
    def settings(self) -> dict[str, Any]:
        """The scale settings."""
        return _parsed(self.scale)

    @property
    def largest(self) -> int:
        """The most nodes that the scale settings allow."""
        settings = self.settings
        if "autoScale" in settings:
            return int(settings["autoScale"]["maximumNodeCount"])
        return int(settings["manual"]["targetNodeCount"])


class Event(NamedTuple):
    """A row of ``events``."""

    seq: int
    at: int
    kind: str
    key: str
    event: str
    before: str | None
    after: str | None
    details: str | None
    reason: str | None


@dataclass
class Snapshot:
    """Everything that the invariants look at, after one transaction."""

    jobs: dict[int, Job] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    #: Attempt by node.
    holdings: dict[str, str] = field(default_factory=dict)
    #: Those that are not gone.
    nodes: dict[str, NodeRow] = field(default_factory=dict)
    clusters: dict[str, ClusterRow] = field(default_factory=dict)
    #: The workspace's scheduling rules.
    rules: dict[str, Any] = field(default_factory=dict)
    #: Since the last snapshot.
    events: list[Event] = field(default_factory=list)


_JOBS = """SELECT id, uid, key, name, cluster_uid, state, execution, node_count, priority, attempts, lost_attempts,
    retries, not_before, exit_code, definition, errors, returned, experiment_key, submitted_by, blocked, waits_turn,
    array_id, handed_over FROM jobs"""
_ATTEMPTS = """SELECT id, job_id, number, cluster_uid, node_ids, state, exit_code, placed_at, ended_at, waiting,
    began_at, stop_reason FROM attempts ORDER BY job_id, number"""
_NODES = "SELECT id, cluster_uid, state, reason FROM nodes WHERE state <> 'gone'"
_CLUSTERS = "SELECT uid, key, name, vm_size, scale, state, allocation FROM clusters"
_EVENTS = """SELECT seq, at, kind, resource_key, event, from_state, to_state, details, reason FROM events
    WHERE seq > ? ORDER BY seq"""


def take(driver: sqlite3.Connection, after_seq: int) -> Snapshot:
    """As it is now; events after ``after_seq``."""
    run = driver.execute
    return Snapshot(
        {row[0]: Job._make(row) for row in run(_JOBS)},
        {row[0]: Attempt._make(row) for row in run(_ATTEMPTS)},
        dict(run("SELECT node_id, attempt_id FROM holdings").fetchall()),
        {row[0]: NodeRow._make(row) for row in run(_NODES)},
        {row[0]: ClusterRow._make(row) for row in run(_CLUSTERS)},
        _parsed(run("SELECT coalesce(scheduling, '{}') FROM workspaces").fetchone()[0]),
        [Event._make(row) for row in run(_EVENTS, (after_seq,))],
    )


def operations_in_progress(driver: sqlite3.Connection) -> list[tuple[str, str]]:
    """Verb and resource of long-running operations that have not ended."""
    return driver.execute(
        "SELECT verb, resource_key FROM operations WHERE status = 'InProgress' ORDER BY started_at, id"
    ).fetchall()
