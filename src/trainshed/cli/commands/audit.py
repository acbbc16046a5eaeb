"""``trainshed audit``."""

from __future__ import annotations

import click

from trainshed.cli import options
from trainshed.cli.session import Session


@click.command()
@click.option("--user", "caller", metavar="NAME", help="Changes by this user.")
@click.option("--action", metavar="TEXT", help="Actions that contain this, for example jobs/write.")
@click.option("--resource", metavar="TEXT", help="Resources whose path contains this.")
@click.option("--outcome", type=click.Choice(["accepted", "refused", "failed"]), help="With this outcome.")
@click.option("--since", metavar="TIME", help="From then on: 2026-11-21T08:00Z, or 90m, 12h, 7d ago.")
@click.option("--until", metavar="TIME", help="Before then.")
@click.option("--scope", metavar="PATH", help="At this scope and below.  [default: /]")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, metavar="N", help="The newest N.")
@options.session(workspace=False)
def audit(
    session: Session,
    caller: str | None,
    action: str | None,
    resource: str | None,
    outcome: str | None,
    since: str | None,
    until: str | None,
    scope: str | None,
    limit: int,
) -> None:
    """Who changed what, with what outcome, from where. The newest entries, in the order in which they happened.

    \b
    trainshed audit --since 1d --outcome refused
    trainshed audit --user alice --action jobs/write -o json
    """
    from trainshed.cli.tables_access import AUDIT

    filters = {
        "caller": caller,
        "action": action,
        "resource": resource,
        "outcome": outcome,
        "since": _time("--since", since),
        "until": _time("--until", until),
        "scope": scope,
    }
    found = list(session.client.audit.list(filters, newest_first=True, limit=limit))
    session.show_list(
        reversed(found), AUDIT, name=lambda entry: entry.get("sequence"), empty="nothing of the kind was changed"
    )


def _time(option: str, text: str | None) -> str | None:
    """An absolute time as it is, or how long ago."""
    if text is None:
        return None
    from datetime import UTC, datetime, timedelta

    from trainshed.cli.times import iso_duration
    from trainshed.resources.times import duration_seconds

    try:
        if text[:4].isdigit() and text[4:5] == "-":
            datetime.fromisoformat(text.replace("Z", "+00:00"))
            return text
        seconds = duration_seconds(iso_duration(text.removesuffix(" ago")))
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no time; give it as 2026-11-21T08:00Z, or as 90m, 12h, 7d ago", param_hint=option
        ) from None
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
