"""``trainshed engine bootstrap``: sets an engine up on hosts that are reached by SSH, then adds it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from trainshed.cli import options
from trainshed.cli.commands.engine import _RESTART, _call, _home


@click.command("bootstrap")
@click.argument("kind")
@click.argument("name")
@click.option(
    "--hosts", required=True, metavar="A,B,C", help="Hosts, the controller's first; NAME=ADDRESS where needed."
)
@click.option("--directory", required=True, metavar="PATH", help="A directory that the hosts and this machine share.")
@click.option("--user", default="root", show_default=True, help="Who logs in there: root, or one who may use sudo.")
@click.option("--ssh-port", type=click.IntRange(1, 65535), help="Port of the hosts' sshd.  [default: as ssh has it]")
@click.option("--ssh-option", multiple=True, metavar="NAME=VALUE", help="As for ssh -o; may be given several times.")
@click.option("--partition", default="main", show_default=True, help="The partition of all hosts.")
@click.option("--low-partition", default="", help="A second one, whose jobs make room for those of the first.")
@click.option(
    "--mode", type=click.Choice(["services", "daemons"]), help="[default: services where every host has systemd]"
)
@click.option("--dry-run", is_flag=True, help="Only look and print the plan.")
@click.option("--undo", "take_away", is_flag=True, help="Take away what was made, and forget the engine.")
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@options.home
def bootstrap(kind: str, name: str, output: str, home: Path | None, **given: Any) -> int:
    """Set an engine up on hosts that are reached by SSH, and add it. Run again, it changes what differs.

    \b
    trainshed engine bootstrap slurm team --hosts a,b,c --directory /shared --dry-run
    trainshed engine bootstrap slurm team --hosts a,b,c,d --directory /shared --yes
    """
    dry_run, take_away, yes = given.pop("dry_run"), given.pop("take_away"), given.pop("yes")
    told = _Told(output)
    setup = _set_up(kind, name, given)
    seen = setup.look()
    planned = setup.plan(seen, take_away=take_away)
    former = {one.name: one for one in _call("list_engines", _home(home))}.get(name)
    if former is not None and former.kind != kind:
        raise click.ClickException(f"there is an engine {name!r} of kind {former.kind} already; take another name")
    told.plan(seen, planned)
    if planned.problems:
        return told.end(1)
    if take_away:
        settings, differs = None, former is not None
    else:
        settings = setup.settings(seen, former.settings if former else {})
        differs = former is None or dict(former.settings) != settings
        told.engine(name, kind, settings, differs)
    if not planned.steps and not differs:
        told.say("nothing to do")
        return told.end(0)
    if dry_run:
        told.say("nothing was changed (--dry-run)")
        return told.end(0)
    if not yes:
        _ask(name, take_away)
    if take_away and former is not None:
        _call("remove_engine", _home(home), name, None)
        told.say(f"engine {name} is removed")
    outcomes = setup.carry_out(planned, told.outcome)
    if failed := [one for one in outcomes if one.problem is not None]:
        left = len(planned.steps) - len(outcomes) + len(failed)
        told.say(f"{len(failed)} failed; {left} of {len(planned.steps)} steps are not done")
        return told.end(1)
    if settings is not None:
        if differs:
            _call("add_engine", _home(home), kind, name, settings)
            told.say(f"engine {name} of kind {kind} is added. {_RESTART}")
        if why := setup.unreached(settings):
            told.say(f"warning: {why}")
    return told.end(0)


def _set_up(kind: str, name: str, given: dict[str, Any]) -> Any:
    module = _call("bootstrap_of", kind)
    options = {"port": given.pop("ssh_port"), "ssh_options": given.pop("ssh_option"), **given}
    from trainshed.resources.engines import InvalidEngines

    try:
        return module.Setup(name, **options)
    except InvalidEngines as error:
        raise click.ClickException(str(error)) from None


def _ask(name: str, take_away: bool) -> None:
    question = f"Take the site {name} away from these hosts?" if take_away else "Do this on these hosts?"
    if not sys.stdin.isatty():
        raise click.ClickException(f"ConfirmationRequired: {question} Nobody can be asked here; add --yes.")
    click.confirm(question, err=True, abort=True)


class _Told:
    """What is printed: text as things happen, or one JSON document at the end."""

    def __init__(self, output: str) -> None:
        self._json = output == "json"
        self._document: dict[str, Any] = {"problems": [], "notes": [], "steps": [], "outcomes": [], "messages": []}

    def say(self, text: str) -> None:
        """For people, on standard error."""
        self._document["messages"].append(text)
        if not self._json:
            click.echo(text, err=True)

    def plan(self, seen: Any, planned: Any) -> None:
        """What was seen and what is to be done."""
        self._document |= {"hosts": {host: fact.json for host, fact in seen.facts.items()}} | planned.json
        if self._json:
            return
        for host, fact in seen.facts.items():
            gpus = f", {len(fact.gpus)} GPUs ({fact.gpus[0]})" if fact.gpus else ""
            click.echo(
                f"{host}: {fact.system} {fact.release}, {fact.cpus} CPUs, {fact.memory} MiB{gpus}, Slurm {fact.slurm}"
            )
        shown: dict[str, str] = {}
        for number, step in enumerate(planned.steps, 1):
            as_on = f" (as on {shown[step.content]})" if step.content in shown else ""
            click.echo(f"{number:3}. {step.host}: {step.what}{as_on}")
            if step.content and not as_on:
                shown[step.content] = step.host
                click.echo("".join(f"       | {line}\n" for line in step.content.splitlines()), nl=False)
        for note in planned.notes:
            click.echo(f"note: {note}", err=True)
        for problem in planned.problems:
            click.echo(f"error: {problem}", err=True)

    def engine(self, name: str, kind: str, settings: dict[str, str], differs: bool) -> None:
        """How it is added."""
        self._document["engine"] = {"name": name, "kind": kind, "settings": settings, "changes": differs}
        if differs and not self._json:
            words = " ".join(f"--{key} {value}" for key, value in settings.items())
            click.echo(f"then: trainshed engine add {kind} {name} {words}")

    def outcome(self, one: Any) -> None:
        """A step ended."""
        self._document["outcomes"].append(one.json)
        if self._json:
            return
        word = "failed" if one.problem else "done"
        click.echo(f"{word:6} {one.step.host}: {one.step.what} ({one.seconds:.1f} s)", err=True)
        if one.said:
            click.echo(f"       {one.said}", err=True)
        if one.problem:
            click.echo(f"error: {one.problem}", err=True)

    def end(self, code: int) -> int:
        """The document, where it was asked for."""
        if self._json:
            click.echo(json.dumps(self._document, indent=2))
        return code
