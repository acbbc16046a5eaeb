"""Job arrays: jobs that are submitted, watched and stopped together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainshed.client.effects import Steps
from trainshed.client.models import JobArray
from trainshed.client.noun import M, Noun, listing, operation
from trainshed.client.transport import pages, request, send


class JobArrays(Noun[M]):
    """The job arrays of the scope's experiment. Their jobs are jobs like any other: ``client.jobs.get("sweep-3")``."""

    @operation
    def create(self, name: str, properties: Mapping[str, Any]) -> Steps[JobArray]:
        """Submit a job for each index of ``properties["array"]``; all or none. The same again is the same array."""
        body = {"properties": dict(properties)}
        return JobArray((yield from send(request("PUT", self.scope.job_array_path(name), body=body))).json())

    @operation
    def get(self, name: str) -> Steps[JobArray]:
        """The array, and how many of its jobs are in which state. Raises NotFoundError."""
        return JobArray((yield from send(request("GET", self.scope.job_array_path(name)))).json())

    @listing(JobArray)
    def list(self, *, limit_per_page: int | None = None) -> Steps[None]:
        """Arrays of the experiment, in order of submission."""
        path = f"{self.scope.experiment_path()}/jobArrays"
        yield from pages(request("GET", path, query={"maxresults": limit_per_page}), JobArray)

    @operation
    def terminate(self, name: str) -> Steps[JobArray]:
        """Stop those of its jobs that have not ended. Does not wait for that."""
        path = f"{self.scope.job_array_path(name)}/terminate"
        return JobArray((yield from send(request("POST", path))).json())

    @operation
    def delete(self, name: str) -> Steps[bool]:
        """Stop its jobs and forget it with them; files stay. Does not wait. False when it was not there."""
        reply = yield from send(request("DELETE", self.scope.job_array_path(name)))
        return bool(reply.status != 204)
