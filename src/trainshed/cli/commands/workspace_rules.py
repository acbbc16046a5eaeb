"""``trainshed workspace rules``: fair share, limits and budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trainshed.cli import options
from trainshed.cli.session import Session

_EXAMPLES = """\b
Examples:
  trainshed workspace rules show
  trainshed workspace rules set --fair-share P7D --limit user:nodes=4 --limit user/ann:nodes=8
  trainshed workspace rules set --limit experiment:nodeHours=500 --limit workspace:cost=2000/P30D,soft
  trainshed workspace rules set -f rules.yaml
  trainshed workspace rules clear

\b
A limit is SCOPE[/NAME]:MEASURE=AMOUNT[/PERIOD][,soft]
  SCOPE    workspace, user or experiment; without NAME for each of them
  MEASURE  nodes or runningJobs at once; nodeHours or cost altogether, or in each PERIOD (P1D, P30D ...)
  soft     who has spent it goes behind everyone else, rather than to wait"""


@click.group(epilog=_EXAMPLES)
def rules() -> None:
    """Who goes first and who may have how much: fair share, limits and budgets of a workspace."""


@rules.command("show", epilog=_EXAMPLES)
@options.session()
def show(session: Session) -> None:
    """Show the rules, and what each user and experiment has and had."""
    _print(session, session.client.workspaces.scheduling_rules().json["properties"])


@rules.command("set", epilog=_EXAMPLES)
@click.option("--fair-share", metavar="HALF-LIFE", help="Who used less goes first; usage counts half after this time.")
@click.option("--no-fair-share", is_flag=True, help="First come, first served within a priority.")
@click.option("--limit", "limits", multiple=True, metavar="LIMIT", help="A limit or budget; may be given again.")
@click.option("-f", "--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="All rules (YAML).")
@options.session()
def set_(
    session: Session, fair_share: str | None, no_fair_share: bool, limits: tuple[str, ...], file: Path | None
) -> None:
    """Change the rules: what is named replaces what was, the rest stays. With -f everything is replaced."""
    if file is not None:
        if fair_share or no_fair_share or limits:
            raise click.UsageError("-f holds all rules: give either a file or options")
        wanted = _read(file)
    else:
        if fair_share and no_fair_share:
            raise click.UsageError("--fair-share and --no-fair-share exclude each other")
        if not (fair_share or no_fair_share or limits):
            raise click.UsageError("nothing to change: give --fair-share, --no-fair-share, --limit or -f")
        wanted = dict(session.client.workspaces.scheduling_rules().json["properties"])
        wanted.pop("standing", None)
        if no_fair_share:
            wanted.pop("fairShare", None)
        if fair_share:
            wanted["fairShare"] = {**wanted.get("fairShare", {}), "halfLife": fair_share}
        if limits:
            wanted["limits"] = [_limit(text) for text in limits]
    _print(session, session.client.workspaces.set_scheduling_rules(wanted).json["properties"])


@rules.command("clear")
@options.session()
def clear(session: Session) -> None:
    """Take all rules away: first come, first served, and nobody is limited."""
    session.client.workspaces.set_scheduling_rules({})
    session.note("the workspace has no rules any more: first come, first served within a priority")


def _read(file: Path) -> dict[str, Any]:
    import yaml

    from trainshed.cli.errors import CommandError

    try:
        written = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CommandError("InvalidFile", f"{file} is not YAML or JSON: {error}") from None
    if not isinstance(written, dict):
        raise CommandError("InvalidFile", f"{file} must hold fairShare and limits")
    return dict(written.get("properties", written))


def _limit(text: str) -> dict[str, Any]:
    """``SCOPE[/NAME]:MEASURE=AMOUNT[/PERIOD][,soft]``."""
    wrong = click.BadParameter(
        f"{text!r} is not a limit: write SCOPE[/NAME]:MEASURE=AMOUNT[/PERIOD][,soft], such as user:nodes=4",
        param_hint="--limit",
    )
    whose, colon, what = text.partition(":")
    measure, equals, amount = what.partition("=")
    if not colon or not equals:
        raise wrong
    scope, _, name = whose.partition("/")
    amount, _, mode = amount.partition(",")
    number, _, period = amount.partition("/")
    if mode not in ("", "soft", "hard"):
        raise wrong
    try:
        limit: dict[str, Any] = {"scope": scope, "measure": measure, "amount": float(number)}
    except ValueError:
        raise wrong from None
    if name:
        limit["name"] = name
    if period:
        limit["period"] = period
    if mode:
        limit["hard"] = mode == "hard"
    return limit


def _print(session: Session, properties: dict[str, Any]) -> None:
    from trainshed.cli.output import Column, Format, structured, table
    from trainshed.client.models import Record

    if session.form is not Format.TABLE:
        click.echo(structured(properties, session.form))
        return
    fair = properties.get("fairShare")
    if fair is None:
        click.echo("order: priority, then first come, first served")
    else:
        whom = " and ".join(name for name in ("users", "experiments") if fair.get(name, True))
        click.echo(f"order: priority, then fair share between {whom}; usage counts half after {fair['halfLife']}")
    limits = [Record(limit) for limit in properties.get("limits", [])]
    if limits:
        click.echo(table(limits, [
            Column("For", lambda r: r.get("scope") + (f" {r.get('name')}" if r.get("name") else "")),
            Column("Limit", lambda r: r.get("measure")),
            Column("Amount", lambda r: f"{r.get('amount'):g}"),
            Column("Period", lambda r: r.get("period") or ""),
            Column("When reached", lambda r: "waits" if r.json.get("hard", True) else "goes behind the others"),
        ]))  # fmt: skip
    else:
        click.echo("no limits")
    standing = [Record(row) for row in properties.get("standing", [])]
    if standing:
        click.echo(table(standing, [
            Column("Scope", lambda r: r.get("scope")),
            Column("Name", lambda r: r.get("name")),
            Column("Nodes", lambda r: r.json["nodes"]),
            Column("Jobs", lambda r: r.json["runningJobs"]),
            Column("Node-hours", lambda r: f"{r.json['nodeHours']:g}"),
            Column("Lately", lambda r: f"{r.json['recentNodeHours']:g}"),
            Column("Cost", lambda r: f"{r.json['cost']:g}"),
        ]))  # fmt: skip
