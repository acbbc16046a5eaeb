"""``trainshed experiment``."""

from __future__ import annotations

import click

from trainshed.cli import options
from trainshed.cli.session import Session


@click.group()
def experiment() -> None:
    """An experiment is a named bag of jobs."""


@experiment.command("create")
@options.name("experiment")
@options.session()
def create(session: Session, name: str) -> None:
    """Create an experiment."""
    from trainshed.cli.parents import with_parents
    from trainshed.cli.tables import EXPERIMENTS

    session.show(with_parents(session, lambda: session.client.experiments.create(name)), EXPERIMENTS)
    session.next_commands((f"trainshed run -e {name} -- COMMAND", "run a command in it"))


@experiment.command("show")
@options.name("experiment", optional=True)
@options.session()
def show(session: Session, name: str | None) -> None:
    """Show an experiment; the default one without a name."""
    from trainshed.cli.tables import EXPERIMENTS

    session.show(session.client.experiments.get(name), EXPERIMENTS)


@experiment.command("list")
@options.session()
def list_(session: Session) -> None:
    """List the workspace's experiments."""
    from trainshed.cli.tables import EXPERIMENTS

    session.show_list(
        session.client.experiments.list(), EXPERIMENTS, empty="no experiments yet: trainshed experiment create -n NAME"
    )


@experiment.command("delete")
@options.name("experiment")
@options.yes
@options.no_wait
@options.session()
def delete(session: Session, name: str, yes: bool, no_wait: bool) -> None:
    """Delete an experiment and its jobs. Files in storage stay."""
    session.confirm(f"Delete experiment {name} and all its jobs?", yes=yes)
    there = session.client.experiments.delete(name, wait=not no_wait)
    session.note(f"deleted experiment {name}" if there else f"there is no experiment {name}")
