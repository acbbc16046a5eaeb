"""Jobs: submitting, watching, stopping; their attempts, events and output listings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from re import Pattern
from time import monotonic
from typing import Any

from trainshed.client import logs, merging
from trainshed.client.effects import Sleep, Steps
from trainshed.client.errors import JobWaitTimeoutError
from trainshed.client.merging import LogLine, Wanted
from trainshed.client.models import File, Job, Log, Record, RemoteLogin
from trainshed.client.noun import M, Noun, listing, operation
from trainshed.client.poller import change, create
from trainshed.client.transport import API_VERSION, Query, pages, request, send

#: The output directory that every job has.
STDOUTERR = "stdouterr"


class Jobs(Noun[M]):
    """The jobs of the scope's experiment."""

    @operation
    def create(
        self, name: str, properties: Mapping[str, Any], *, wait: bool = True, version: str = API_VERSION
    ) -> Steps[Job]:
        """Submit a job from the contract's properties. Done when it is recorded. The same again is the same job."""
        body = {"properties": dict(properties)}
        reply = yield from create(request("PUT", self.scope.job_path(name), body=body, version=version), wait=wait)
        return Job(reply.json())

    @operation
    def plan(
        self,
        properties: Mapping[str, Any],
        *,
        assume: Mapping[str, Any] | None = None,
        version: str = API_VERSION,
    ) -> Steps[Record]:
        """What the job would start where; nothing is run. ``assume``: ``gpus``, ``cpus`` and ``mpi`` of the nodes.

        ``version`` is the one that the job would be submitted with.
        """
        body = {"properties": dict(properties), "apiVersion": version, "assume": dict(assume or {})}
        reply = yield from send(request("POST", f"{self.scope.experiment_path()}/planJob", body=body))
        return Record(reply.json())

    @operation
    def get(self, name: str) -> Steps[Job]:
        """The job. Raises NotFoundError."""
        return (yield from self._get(name))

    @listing(Job)
    def list(self, *, limit_per_page: int | None = None) -> Steps[None]:
        """Jobs of the experiment, in order of submission."""
        path = f"{self.scope.experiment_path()}/jobs"
        yield from pages(request("GET", path, query={"maxresults": limit_per_page}), Job)

    @operation
    def terminate(self, name: str, *, wait: bool = True) -> Steps[bool]:
        """Stop a queued or running job; nothing happens to one that has ended."""
        return (yield from change(request("POST", f"{self.scope.job_path(name)}/terminate"), wait=wait))

    @operation
    def delete(self, name: str, *, wait: bool = True) -> Steps[bool]:
        """Stop the job if it runs and forget it; its files stay. False when it was not there."""
        return (yield from change(request("DELETE", self.scope.job_path(name)), wait=wait))

    @operation
    def wait(self, name: str, *, interval: float = 1.0, timeout: float | None = None) -> Steps[Job]:
        """The job once it has ended. Times in seconds. Raises JobWaitTimeoutError after ``timeout``."""
        deadline = None if timeout is None else monotonic() + timeout
        pause = min(0.05, interval)
        while True:
            job = yield from self._get(name)
            if job.final:
                return job
            if deadline is not None and monotonic() + pause > deadline:
                raise JobWaitTimeoutError(f"job {name} is still {job.execution_state.value} after {timeout:g} s")
            yield Sleep(pause)
            pause = min(pause * 1.5, interval)

    @operation
    def explain(self, name: str) -> Steps[Record]:
        """Why a queued job waits, when it is likely to start, and the nodes that it cannot have."""
        return Record((yield from send(request("GET", f"{self.scope.job_path(name)}/explanation"))).json())

    @listing(Record)
    def attempts(self, name: str) -> Steps[None]:
        """Each run of the job, first to last."""
        yield from pages(request("GET", f"{self.scope.job_path(name)}/attempts"), Record)

    @listing(Record)
    def events(self, name: str) -> Steps[None]:
        """What happened to it, oldest first."""
        yield from pages(request("GET", f"{self.scope.job_path(name)}/events"), Record)

    @listing(RemoteLogin)
    def remote_logins(self, name: str) -> Steps[None]:
        """Where one can log in to the nodes that ran it (rest-contract section 10)."""
        yield from pages(request("POST", f"{self.scope.job_path(name)}/listRemoteLoginInformation"), RemoteLogin)

    @listing(File)
    def output_files(
        self, name: str, output_id: str = STDOUTERR, *, directory: str = ".", link_minutes: int = 60
    ) -> Steps[None]:
        """One level of an output directory (rest-contract section 9). Links live ``link_minutes``, 5 to 600."""
        query: Query = {"outputdirectoryid": output_id, "directory": directory, "linkexpiryinminutes": link_minutes}
        yield from pages(request("POST", f"{self.scope.job_path(name)}/listOutputFiles", query=query), File)

    @listing(bytes)
    def stream_log(self, name: str, file: str = "stdout.txt", *, offset: int = 0, follow: bool = True) -> Steps[None]:
        """A file of ``stdouterr`` from a byte offset on, live until the job has ended and all of it was read.

        A lost connection is taken up again where it broke, also with a service that was restarted.
        Raises NotFoundError for a file that the finished job does not have.
        """
        yield from logs.stream(self.scope.job_path(name), file, offset=offset, follow=follow)

    @listing(Log)
    def logs(self, name: str) -> Steps[None]:
        """The job's log files, in order of rank."""
        yield from pages(request("GET", f"{self.scope.job_path(name)}/logs"), Log)

    @listing(LogLine)
    def log_lines(
        self,
        name: str,
        wanted: Wanted,
        *,
        follow: bool = True,
        since: datetime | None = None,
        matching: Pattern[bytes] | None = None,
        tail: int | None = None,
    ) -> Steps[None]:
        """The lines of all logs for which ``wanted(log)`` holds, in the order of their times, live until the job ends.

        ``since`` leaves out what was there before, ``matching`` the lines in which it is not found; ``tail`` leaves
        out all but the last of what there is at first.
        """
        yield from merging.merge(
            self.scope.job_path(name), wanted, follow=follow, since=since, matching=matching, tail=tail
        )

    def _get(self, name: str) -> Steps[Job]:
        return Job((yield from send(request("GET", self.scope.job_path(name)))).json())
