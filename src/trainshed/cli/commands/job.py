"""``trainshed job``: what exists, and ending it."""

from __future__ import annotations

import click

from trainshed.cli import options
from trainshed.cli.lazy import LazyGroup
from trainshed.cli.session import Session

_COMMANDS = {
    "create": ("job_create", "create", "Submit a job from a job file."),
    "plan": ("job_plan", "plan", "Show what a job would start where, without running it."),
    "list": ("job", "list_", "List the experiment's jobs."),
    "show": ("job", "show", "Show a job: its state, why it waits or why it failed."),
    "logs": ("job_logs", "logs", "Print a job's log; -f stays with it."),
    "wait": ("job_wait", "wait", "Wait until a job has ended; exit as it did."),
    "explain": ("job_wait", "explain", "Say why a job waits, or how it came to its end."),
    "events": ("job_wait", "events", "List what happened to a job."),
    "terminate": ("job", "terminate", "Stop a job."),
    "preempt": ("job", "preempt", "Have a running job make room: warned, stopped, queued again."),
    "delete": ("job", "delete", "Forget a job; its files stay."),
    "files": ("job_files", "files", "List, follow and download a job's files."),
    "node": ("job_files", "node", "The nodes that run it."),
}


@click.group(cls=LazyGroup, table=_COMMANDS, aliases={"file": "files", "nodes": "node", "log": "logs"})
def job() -> None:
    """A job is a command on one or several nodes at once. NAME may be `last`: the job submitted last."""


@click.command("list")
@click.option("-c", "--cluster", metavar="NAME", help="Only jobs of this cluster.")
@click.option("--state", "states", multiple=True, metavar="STATE", help="Only jobs in this state; may be repeated.")
@click.option("--array", metavar="NAME", help="Only jobs of this array.")
@click.option("--watch", is_flag=True, help="Keep the table up to date until Ctrl-C.")
@options.session(experiment=True)
def list_(session: Session, cluster: str | None, states: tuple[str, ...], array: str | None, watch: bool) -> None:
    """List the experiment's jobs, the latest last."""
    from trainshed.cli.output import table
    from trainshed.cli.tables import JOBS, job_state
    from trainshed.client.models import Job, segment_after

    def wanted(job: Job) -> bool:
        return (
            (not states or job_state(job) in states)
            and (cluster is None or segment_after(job.cluster_id, "clusters").lower() == cluster.lower())
            and (array is None or job.array.lower() == array.lower())
        )

    if watch:
        session.watch(lambda: table([job for job in session.client.jobs.list() if wanted(job)], JOBS))
    found = (job for job in session.client.jobs.list() if wanted(job))
    session.show_list(found, JOBS, empty="no jobs: trainshed run -- COMMAND")


@click.command("show")
@options.name("job")
@options.session(experiment=True)
def show(session: Session, name: str) -> None:
    """Show a job: its state, why it waits, or why it failed with the last lines of the log that says so."""
    from trainshed.cli.failing import show_failing_log
    from trainshed.cli.output import Format
    from trainshed.cli.tables import JOBS

    found = session.client.jobs.get(session.job_name(name))
    session.show(found, JOBS)
    if session.form is Format.TABLE:
        for problem in (*filter(None, [found.why_waiting]), *found.errors):
            session.note(f"{problem.code}: {problem.message}")
        show_failing_log(session, found)


_ARRAY = click.option("--array", is_flag=True, help="NAME is a job array: all its jobs.")


@click.command("terminate")
@options.name("job")
@_ARRAY
@options.yes
@options.no_wait
@options.session(experiment=True)
def terminate(session: Session, name: str, array: bool, yes: bool, no_wait: bool) -> None:
    """Stop a queued or running job. One that has ended stays as it is."""
    if array:
        from trainshed.cli.arrays import terminate_array

        session.confirm(f"Terminate all jobs of array {name}?", yes=yes)
        terminate_array(session, name, wait=not no_wait)
        return
    name = session.job_name(name)
    session.confirm(f"Terminate job {name}?", yes=yes)
    session.client.jobs.terminate(name, wait=not no_wait)
    found = session.client.jobs.get(name)
    terminated = any(error.code == "JobTerminated" for error in found.errors)
    session.note(f"job {name} {'was terminated' if terminated else f'is {found.execution_state.value}'}")


@click.command("preempt")
@options.name("job")
@options.yes
@options.session(experiment=True)
def preempt(session: Session, name: str, yes: bool) -> None:
    """Have a running job make room for others.

    Its processes get the signal of its `preemption` (SIGUSR2) and its gracePeriod (30 seconds) to save their work and
    leave. Then it waits again, before the others of its priority, and goes on in its next attempt.
    """
    name = session.job_name(name)
    session.confirm(f"Preempt job {name}?", yes=yes)
    attempt = session.client.jobs.get(name).attempt
    session.client.jobs.preempt(name, attempt=attempt)
    session.note(f"job {name} makes room: trainshed job events {name}")


@click.command("delete")
@options.name("job")
@_ARRAY
@options.yes
@options.no_wait
@options.session(experiment=True)
def delete(session: Session, name: str, array: bool, yes: bool, no_wait: bool) -> None:
    """Stop a job if it runs, and forget it. Its files stay where they are."""
    if array:
        session.confirm(f"Delete array {name} and all its jobs?", yes=yes)
        found = session.client.job_arrays.delete(name)
        session.note(f"array {name} and its jobs are being deleted" if found else f"there is no array {name}")
        return
    name = session.job_name(name)
    session.confirm(f"Delete job {name}?", yes=yes)
    there = session.client.jobs.delete(name, wait=not no_wait)
    session.note(f"deleted job {name}" if there else f"there is no job {name}")
