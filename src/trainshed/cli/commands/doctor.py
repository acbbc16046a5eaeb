"""``trainshed doctor``: every thing that the service and its jobs need, with what mends each fault."""

from __future__ import annotations

import click

from trainshed.cli import options
from trainshed.cli.session import Session


@click.command()
@options.session(workspace=False)
def doctor(session: Session) -> int:
    """Check this machine and the service; say what mends each fault. Exits 1 when something needs mending."""
    from trainshed.cli.checks import run_checks
    from trainshed.cli.output import Format, structured

    checks = run_checks(session)
    if session.form in (Format.JSON, Format.YAML):
        told = [
            {"name": check.name, "ok": check.ok, "needed": check.needed, "detail": check.detail, "mend": check.mend}
            for check in checks
        ]
        click.echo(structured(told, session.form))
    elif session.form is not Format.QUIET:
        for check in checks:
            mark = (
                click.style("✓", fg="green") if check.ok else click.style("✗", fg="red" if check.needed else "yellow")
            )
            click.echo(f"{mark} {check.name}: {check.detail}")
            if not check.ok and check.mend:
                click.echo(f"    mend: {check.mend}")
    return 0 if all(check.ok or not check.needed for check in checks) else 1
