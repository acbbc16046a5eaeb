"""2026-11-01: a workspace's scheduling rules with what was used of its limits, and the queue of a cluster."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection
from starlette.responses import Response

from trainshed.api import clusters as cluster_routes
from trainshed.api import jobs as job_routes
from trainshed.api import workspaces as workspace_routes
from trainshed.api.answers import answer
from trainshed.api.call import Call
from trainshed.api.errors import ApiError, being_deleted
from trainshed.api.paging import whole_number
from trainshed.api.standing import standing, user_name
from trainshed.control.explaining import Waiting
from trainshed.resources import parsing
from trainshed.resources.errors import Problem
from trainshed.resources.ids import Kind
from trainshed.resources.lifecycle import JobState, ProvisioningState
from trainshed.resources.times import format_time
from trainshed.resources.views import Json
from trainshed.scheduling.estimate import Estimate
from trainshed.store import principals, workspaces
from trainshed.store.errors import or_none
from trainshed.store.records import NodeRecord

#: How many jobs of a queue are listed when nobody says, and at most.
DEFAULT_QUEUE = 100
MAX_QUEUE = 1000


async def get_rules(call: Call) -> Response:
    """GET the rules, and who uses how much now."""
    key, name = call.workspace_key, call.name("workspace")
    return answer(await call.read(lambda tx: _rules(tx, call, key, name)))


async def put_rules(call: Call) -> Response:
    """PUT all rules: those that were are replaced. ``{}`` takes them away. They hold from the next decision on."""
    key, name = call.workspace_key, call.name("workspace")
    rules = parsing.parse_scheduling_rules(await call.body())
    now = call.now()

    def store(tx: Connection) -> Json:
        existing = workspace_routes.required(tx, key, name)
        if existing.state is ProvisioningState.DELETING:
            raise being_deleted(Kind.WORKSPACE, existing.name)
        _require_users(tx, rules)
        workspaces.set_scheduling(tx, key, rules, now)
        return _rules(tx, call, key, name)

    told = await call.write(store)
    call.services.wake()
    return answer(told)


async def list_queue(call: Call) -> Response:
    """GET the jobs that wait for a cluster, in the order in which they are served, each with why."""
    key, name = call.cluster_key, call.name("cluster")
    limit = whole_number(call, "maxresults", DEFAULT_QUEUE, 1, MAX_QUEUE)

    def query(tx: Connection) -> list[Json]:
        record = cluster_routes.required(tx, key, name)
        users: dict[str, str] = {}
        return [_waiting(tx, waiting, users) for waiting in call.services.queue(tx, record, limit)]

    return answer({"value": await call.read(query)})


async def explain_job(call: Call) -> Response:
    """GET why a job waits, when it starts as far as that can be said, and which nodes it cannot have."""
    key = call.job_key

    def query(tx: Connection) -> Json:
        record = job_routes.required(tx, call, key)
        told: Json = {"executionState": record.execution.value}
        if record.execution is JobState.QUEUED:
            found = call.services.explain_fully(tx, record)
            told["whyWaiting"] = found.reason.to_batchai_error()
            told |= _estimated(found.estimate)
            told["refusedNodes"] = [
                {"id": node.id, "state": node.state.value, **({"reason": why} if (why := _why(node)) else {})}
                for node in found.refused_nodes
            ]
        return told

    return answer(await call.read(query))


def _why(node: NodeRecord) -> Json | None:
    return None if node.reason is None else node.reason.to_batchai_error()


def _estimated(estimate: Estimate | None) -> Json:
    """``latest`` is absent where it may be any time."""
    if estimate is None:
        return {}
    latest = {} if estimate.latest is None else {"latest": format_time(estimate.latest)}
    return {"estimatedStart": {"earliest": format_time(estimate.earliest), **latest}}


def _rules(tx: Connection, call: Call, key: str, name: str) -> Json:
    record = workspace_routes.required(tx, key, name)
    return {"properties": {**record.scheduling, "standing": standing(tx, record, call.services.prices, call.now())}}


def _require_users(tx: Connection, rules: dict[str, Any]) -> None:
    """Whom the rules name must exist: a misspelt name would limit nobody."""
    named = [
        (f"properties.limits[{index}].name", rule["name"])
        for index, rule in enumerate(rules.get("limits", ()))
        if rule["scope"] == "user" and "name" in rule
    ]
    named += [("properties.fairShare.weights", user) for user in rules.get("fairShare", {}).get("weights", {})]
    missing = [(place, user) for place, user in named if or_none(principals.get_by_name, tx, user) is None]
    if missing:
        problems = [
            Problem("UserNotFound", f"There is no user {user!r}: trainshed user list shows them.", place)
            for place, user in missing
        ]
        raise ApiError(400, problems[0].code, problems[0].message, target=problems[0].target, details=problems[1:])


def _waiting(tx: Connection, waiting: Waiting, users: dict[str, str]) -> Json:
    job = waiting.job
    parts = job.segment.split("/")
    told: Json = {
        "position": waiting.position,
        "job": job.name,
        "experiment": parts[5],
        "priority": job.definition.get("schedulingPriority", "normal"),
        "nodeCount": job.node_count,
        "queuedTime": format_time(job.execution_at),
        "whyWaiting": waiting.reason.to_batchai_error(),
        **_estimated(waiting.estimate),
    }
    if job.submitted_by is not None:
        if job.submitted_by not in users:
            users[job.submitted_by] = user_name(tx, job.submitted_by)
        told["user"] = users[job.submitted_by]
    return told
