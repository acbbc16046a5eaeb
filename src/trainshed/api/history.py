"""2026-11-01: what happened to a job or cluster — its events and attempts — and the nodes of a cluster."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection
from starlette.responses import Response

from trainshed.api import clusters as cluster_routes
from trainshed.api import jobs as job_routes
from trainshed.api.answers import JSON, answer
from trainshed.api.call import Call
from trainshed.api.paging import page, page_request
from trainshed.resources.lifecycle import NodeState
from trainshed.resources.times import format_time
from trainshed.resources.views import Json
from trainshed.store import attempts, events, nodes
from trainshed.store.records import AttemptRecord, EventRecord, JobRecord, NodeRecord

_JOB_KINDS = frozenset({"job", "attempt"})
_CLUSTER_KINDS = frozenset({"cluster", "node"})


async def list_job_events(call: Call) -> Response:
    """GET a job's events, oldest first."""
    key = call.job_key
    return await _events(call, key, _JOB_KINDS, lambda tx: job_routes.required(tx, call, key).created_at)


async def list_cluster_events(call: Call) -> Response:
    """GET a cluster's events and its nodes', oldest first."""
    key, name = call.cluster_key, call.name("cluster")
    return await _events(call, key, _CLUSTER_KINDS, lambda tx: cluster_routes.required(tx, key, name).created_at)


async def list_attempts(call: Call) -> Response:
    """GET the runs of a job, first to last, with the nodes that each held (first the master)."""
    key = call.job_key

    def query(tx: Connection) -> list[Json]:
        record = job_routes.required(tx, call, key)
        containers = _containers(tx, record) if "containerSettings" in record.definition else {}
        return [_attempt_view(attempt, containers.get(attempt.id)) for attempt in attempts.of_job(tx, record.id)]

    return answer({"value": await call.read(query)})


async def list_nodes(call: Call) -> Response:
    """GET the nodes of a cluster: idle, running, preparing, unusable or leaving, and why."""
    key, name = call.cluster_key, call.name("cluster")

    def query(tx: Connection) -> list[Json]:
        record = cluster_routes.required(tx, key, name)
        return [node_view(node) for node in nodes.of_cluster(tx, record.uid)]

    return answer({"value": await call.read(query)})


def node_state(node: NodeRecord) -> str:
    """The contract's word: a ready node is idle or running."""
    if node.state is NodeState.READY:
        return "idle" if node.attempt_id is None else "running"
    return node.state.value


async def _events(call: Call, key: str, kinds: frozenset[str], created_at: Callable[[Connection], int]) -> Response:
    asked = page_request(call)
    after = asked.after_number()

    def query(tx: Connection) -> bytes:
        # An earlier resource of the same name has its own story.
        since = created_at(tx)
        # A cluster and an experiment of one name have the same key: their kinds tell them apart.
        found: list[EventRecord] = []
        last = after
        while len(found) < asked.one_more:
            rows = events.page(tx, resource_key=key, after_seq=last, since=since, limit=asked.one_more)
            found += [row for row in rows if row.kind in kinds]
            if len(rows) < asked.one_more:
                break
            last = rows[-1].seq
        return page(call, asked, found[: asked.one_more], _event_view, lambda event: event.seq)

    return Response(await call.read(query), media_type=JSON)


def _event_view(event: EventRecord) -> Json:
    view: Json = {"sequence": event.seq, "time": format_time(event.at), "kind": event.kind, "event": event.event}
    if event.from_state is not None:
        view["fromState"] = event.from_state
    if event.to_state is not None:
        view["toState"] = event.to_state
    if event.reason is not None:
        view["reason"] = event.reason.to_batchai_error()
    if event.details:
        view["details"] = event.details
    return view


def _containers(tx: Connection, job: JobRecord) -> dict[str, Json]:
    """Image and digest of each attempt's container, from the events of their ends."""
    told = events.page(tx, resource_key=job.key, kind=events.Kind.ATTEMPT, since=job.created_at)
    found = [event.details for event in told if event.details and "container" in event.details]
    return {details["attemptId"]: details["container"] for details in found}


def _attempt_view(attempt: AttemptRecord, container: Json | None) -> Json:
    view: Json = {
        "id": attempt.id,
        "number": attempt.number,
        "state": attempt.state.value,
        "nodes": list(attempt.node_ids),
        "startTime": format_time(attempt.since),
    }
    if attempt.waiting is not None and attempt.ended_at is None:
        view["whyWaiting"] = attempt.waiting.to_batchai_error()
    if attempt.ended_at is not None:
        view["endTime"] = format_time(attempt.ended_at)
    if attempt.exit_code is not None:
        view["exitCode"] = attempt.exit_code
    if container is not None:
        view["container"] = container
    reason = attempt.reason or attempt.stop_reason
    if reason is not None:
        view["reason"] = reason.to_batchai_error()
    return view


def node_view(node: NodeRecord) -> Json:
    """A node as 2026-11-01 shows it."""
    view: Json = {
        "id": node.id,
        "state": node_state(node),
        "stateTransitionTime": format_time(node.state_at),
        "address": node.address,
        "hostName": node.host_name,
        "boot": node.boot,
    }
    if node.ssh_port is not None:
        view["sshPort"] = node.ssh_port
    if node.attempt_id is not None:
        view["attempt"] = node.attempt_id
    if node.reason is not None:
        view["reason"] = node.reason.to_batchai_error()
    return view
