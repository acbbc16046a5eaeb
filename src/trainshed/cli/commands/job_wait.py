"""``trainshed job wait``, ``job explain`` and ``job events``: where a job stands, and why."""

from __future__ import annotations

import click

from trainshed.cli import options
from trainshed.cli.session import Session


@click.command("wait")
@options.name("job")
@click.option(
    "--interval", type=click.FloatRange(min=0.05), default=1.0, show_default=True, help="Seconds between looks."
)
@click.option("--timeout", type=click.FloatRange(min=0), help="Give up after so many seconds.")
@options.session(experiment=True)
def wait(session: Session, name: str, interval: float, timeout: float | None) -> int:
    """Wait until a job has ended, and exit with its exit code.

    Without one: 143 when the job was terminated, 1 when it failed.
    """
    from trainshed.cli.endings import describe, exit_code
    from trainshed.cli.output import Format, structured

    job = session.client.jobs.wait(session.job_name(name), interval=interval, timeout=timeout)
    session.note(describe(job))
    if session.form in (Format.JSON, Format.YAML):
        click.echo(structured(job.json, session.form))
    return exit_code(job)


@click.command("explain")
@options.name("job")
@options.session(experiment=True)
def explain(session: Session, name: str) -> None:
    """Say why a job waits and what would change that, or how it came to its end."""
    from trainshed.cli.endings import describe
    from trainshed.cli.output import Format, structured
    from trainshed.cli.times import ago, starts_in
    from trainshed.client.models import parse_time

    job = session.client.jobs.get(session.job_name(name))
    attempts = list(session.client.jobs.attempts(job.name))
    told_more = session.client.jobs.explain(job.name).json if job.why_waiting else {}
    if session.form in (Format.JSON, Format.YAML):
        why = job.properties.get("whyWaiting")
        told = {
            "name": job.name,
            "executionState": job.execution_state.value,
            **({"whyWaiting": why} if why else {}),
            **{name: told_more[name] for name in ("estimatedStart", "refusedNodes") if name in told_more},
            "errors": (job.properties.get("executionInfo") or {}).get("errors", []),
            "attempts": [attempt.json for attempt in attempts],
        }
        click.echo(structured(told, session.form))
        return
    if job.final:
        click.echo(describe(job))
    elif job.why_waiting:
        click.echo(f"job {job.name} is {job.execution_state.value}: {job.why_waiting.message} ({job.why_waiting.code})")
        # The sentence names the first of many jobs; it has all other details.
        if job.why_waiting.code == "WaitingForDependencies" and len(job.why_waiting.details) > 1:
            for other, state in job.why_waiting.details:
                click.echo(f"  {other} is {state}")
        if starts := starts_in(told_more.get("estimatedStart")):
            click.echo(f"  starts: {starts}, if nothing more urgent is submitted")
        for node in told_more.get("refusedNodes", ()):
            why = (node.get("reason") or {}).get("message", "")
            click.echo(f"  node {node['id']} is {node['state']}" + (f": {why}" if why else ""))
    else:
        click.echo(f"job {job.name} is {job.execution_state.value}, since {ago(job.started or job.created)}")
    for attempt in attempts:
        reason = attempt.get("reason", "error") or {}
        line = f"attempt {attempt.get('number')}: {attempt.get('state')}"
        if attempt.get("exitCode"):
            line += f" with exit code {attempt.get('exitCode')}"
        begun = parse_time(attempt.get("startTime", "placedTime", "placedAt"))
        click.echo("  " + line + (f", {ago(begun)}" if begun else ""))
        if reason:
            click.echo(f"    {reason.get('code')}: {reason.get('message') or reason.get('text')}")


@click.command("events")
@options.name("job")
@options.session(experiment=True)
def events(session: Session, name: str) -> None:
    """List what happened to a job, oldest first."""
    from trainshed.cli.output import Column
    from trainshed.client.models import Record

    def change(event: Record) -> str:
        before, after = event.get("fromState", "from"), event.get("toState", "to")
        return f"{before} -> {after}" if before else str(after or "")

    def why(event: Record) -> str:
        reason = event.get("reason") or {}
        return str(reason.get("message") or reason.get("text") or "")

    columns: list[Column[Record]] = [
        Column("Time", lambda e: e.get("time", "at")),
        Column("What", lambda e: e.get("kind")),
        Column("Event", lambda e: e.get("event", "name")),
        Column("State", change),
        Column("Why", why),
    ]
    found = session.client.jobs.events(session.job_name(name))
    session.show_list(found, columns, name=lambda e: e.get("event", "name"))
