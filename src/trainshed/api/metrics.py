"""Prometheus metrics: requests as they happen, jobs and nodes counted when they are asked for."""

from __future__ import annotations

import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import Connection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trainshed.api.call import Call
from trainshed.api.routing import ROUTE
from trainshed.control.standing import Role, Standing
from trainshed.resources.lifecycle import JobState, NodeState
from trainshed.store import jobs, nodes

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """All metrics of one service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = Counter(
            "trainshed_http_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "trainshed_http_request_duration_seconds",
            "Time until the answer began.",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._jobs = Gauge("trainshed_jobs", "Jobs by execution state.", ["state"], registry=self.registry)
        self._nodes = Gauge("trainshed_nodes", "Nodes by state.", ["state"], registry=self.registry)
        self._queue = Gauge("trainshed_queue_length", "Jobs that wait.", registry=self.registry)
        self._leads = Gauge(
            "trainshed_leader", "1 in the process that controls, 0 in the others.", registry=self.registry
        )
        self._term = Gauge(
            "trainshed_leadership_token", "Token of the lease: grows with each take-over.", registry=self.registry
        )
        self._children: dict[tuple[str, str, int], tuple[Any, Any]] = {}

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        labels = (method, route, status)
        children = self._children.get(labels)
        if children is None:
            children = self._requests.labels(method, route, str(status)), self._seconds.labels(method, route)
            self._children[labels] = children
        children[0].inc()
        children[1].observe(seconds)

    async def answer(self, call: Call) -> Response:
        """GET /metrics."""

        def query(tx: Connection) -> tuple[dict[JobState, int], dict[NodeState, int], Standing]:
            return jobs.counts_by_state(tx), nodes.counts_by_state(tx), call.services.standing(tx)

        job_counts, node_counts, standing = await call.read(query)
        for state in JobState:
            self._jobs.labels(state.value).set(job_counts.get(state, 0))
        for node_state in NodeState:
            if node_state is not NodeState.GONE:
                self._nodes.labels(node_state.value).set(node_counts.get(node_state, 0))
        self._queue.set(job_counts.get(JobState.QUEUED, 0))
        self._leads.set(standing.role in (Role.SOLE, Role.LEADER))
        self._term.set(standing.token or 0)
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)


class MetricsMiddleware:
    """Times every answer until it begins (streams go on for as long as a job does)."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()

        async def observe(message: Message) -> None:
            if message["type"] == "http.response.start":
                # The template, never the path: names of resources would make endless series.
                route = scope.get(ROUTE, "none")
                method = scope["method"] if route != "none" else "other"
                self.metrics.observe(method, route, message["status"], time.perf_counter() - started)
            await send(message)

        await self.app(scope, receive, observe)
