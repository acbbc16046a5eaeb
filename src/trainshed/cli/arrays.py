"""Job arrays on the command line: ``run --array`` and ``job terminate --array``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from trainshed.cli.output import Format, structured
from trainshed.cli.session import Session
from trainshed.resources.indices import MAX_JOBS, parse_indices

#: Seconds between two looks at an array that is being terminated.
_PAUSE = 0.2


def array_of(text: str) -> dict[str, Any]:
    """The array of ``--array``: ``0-9``, or ``0-9%2`` for at most two at once. Raises BadParameter."""
    indices, percent, most = text.partition("%")
    try:
        parse_indices(indices)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--array") from None
    if not percent:
        return {"indices": indices}
    if not (most.isascii() and most.isdigit() and 1 <= int(most) <= MAX_JOBS):
        raise click.BadParameter(f"after % comes how many run at once, 1 to {MAX_JOBS}", param_hint="--array")
    return {"indices": indices, "maxRunning": int(most)}


def submit_array(session: Session, name: str, properties: Mapping[str, Any]) -> int:
    """Submit the jobs, and say how to follow them: they are too many to stay with."""
    array = session.client.job_arrays.create(name, properties)
    click.echo(structured(array.json, session.form) if session.form in (Format.JSON, Format.YAML) else array.name)
    session.next_commands(
        (f"trainshed job list --array {name}", "see how its jobs are doing"),
        (f"trainshed run --after-any {name} -- COMMAND", "run something after all of them"),
        (f"trainshed job terminate --array {name}", "stop them"),
    )
    return 0


def terminate_array(session: Session, name: str, *, wait: bool) -> None:
    """Stop all jobs of an array, and wait until they have ended."""
    array = session.client.job_arrays.terminate(name)
    while wait and array.unfinished:
        time.sleep(_PAUSE)
        array = session.client.job_arrays.get(name)
    counts = ", ".join(f"{number} {state}" for state, number in array.counts.items() if number)
    session.note(f"jobs of array {name}: {counts or 'none'}")
