"""``trainshed simulate``: a trace of jobs on clusters that might be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import click

from trainshed.cli import options
from trainshed.cli.lazy import LazyGroup
from trainshed.cli.session import Session

if TYPE_CHECKING:
    from trainshed.cli.tables_simulation import Outcome
    from trainshed.simulation.scenario import Scenario
    from trainshed.simulation.trace import Trace

_COMMANDS = {
    "run": ("simulate", "run", "Play a trace and report how long jobs wait; `run` may be left out."),
    "generate": ("simulate_generate", "generate", "Make up a trace with the shape of real ones."),
}
_EXAMPLES = """\b
Examples:
  trainshed simulate jobs.csv --nodes 16
  trainshed simulate --history --nodes 16 --compare nodes=20 --compare backfill=off
  trainshed simulate KTH-SP2-1996-2.1-cln.swf.gz --compare backfill=off --plot waits.svg
  trainshed simulate cluster_log.csv --gpus-per-node 8 --nodes 133 --fair-share P7D -o json
  trainshed simulate jobs.csv --autoscale 0:64 --faults 30d --checkpoint 1h --price 0.9
  trainshed simulate generate --jobs 5000 --nodes 64 | trainshed simulate - --nodes 64"""
#: Options whose values are read as those of --compare.
_AS_CHANGES = (
    "autoscale", "boot", "idle", "grace", "fair_share", "faults", "repair", "checkpoint", "limit", "speed",
)  # fmt: skip
_FORMATS = ("csv", "swf", "philly", "helios")


class Price(NamedTuple):
    """What an hour of a node costs."""

    node_hour: float
    currency: str


class _RunsByDefault(LazyGroup):
    """What is no command of its own is an argument of ``run``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*_COMMANDS, *ctx.help_option_names):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_RunsByDefault, table=_COMMANDS, epilog=_EXAMPLES)
def simulate() -> None:
    """What if we had four more nodes, or turned backfill on? Jobs that were, on clusters that might be.

    `trainshed simulate TRACE` plays a trace of jobs through the service's own scheduler, a day in seconds, and reports
    how long they would have waited. No service is needed for it.
    """


def _changed(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Check the value of an option that is named as a change of --compare."""
    if value is not None:
        from trainshed.simulation.scenario import Scenario, ScenarioError

        try:
            Scenario(1).varied(f"{(parameter.name or '').replace('_', '-')}={value}")
        except ScenarioError as error:
            raise click.BadParameter(str(error), ctx, parameter) from None
    return value


@click.command("run", epilog=_EXAMPLES)
@click.argument("path", metavar="[TRACE]", required=False)
@click.option("--history", is_flag=True, help="Play the jobs of the service's workspace instead of a file.")
@click.option("-c", "--cluster", metavar="NAME", help="With --history: only jobs of this cluster.")
@click.option("--format", "trace_format", type=click.Choice(_FORMATS), help="Of the trace.  [default: as it looks]")
@click.option(
    "--gpus-per-node",
    "--processors-per-node",
    "per_node",
    type=click.IntRange(1),
    metavar="N",
    help="GPUs or processors of a node, where a trace counts those.  [default: as it says, else 1]",
)
@click.option("--nodes", type=click.IntRange(1), metavar="N", help="Nodes of the cluster.  [default: the trace's]")
@click.option("--autoscale", metavar="MIN:MAX", callback=_changed, help="Nodes come and go with the work instead.")
@click.option("--boot", metavar="TIME", callback=_changed, help="Until a new node is ready.  [default: 5m]")
@click.option("--idle", metavar="TIME", callback=_changed, help="Until a node without work goes.  [default: 5m]")
@click.option("--backfill/--no-backfill", default=True, help="Whether small jobs may pass.  [default: they may]")
@click.option("--preemption", is_flag=True, help="Higher priorities take nodes from lower ones.")
@click.option("--grace", metavar="TIME", callback=_changed, help="From a victim's warning to its end.  [default: 30s]")
@click.option("--fair-share", metavar="HALF-LIFE", callback=_changed, help="Who used less goes first, such as P7D.")
@click.option("--faults", metavar="MTBF", callback=_changed, help="Mean time between failures of a node, such as 30d.")
@click.option("--repair", metavar="TIME", callback=_changed, help="How long a failed node is away.  [default: 10m]")
@click.option("--checkpoint", metavar="TIME", callback=_changed, help="How often jobs save.  [default: never]")
@click.option("--limit", metavar="TIME", callback=_changed, help="Time limit of jobs that have none.  [default: 7d]")
@click.option("--speed", metavar="FACTOR", callback=_changed, help="Submit the jobs so many times as fast.")
@click.option("--seed", type=int, default=0, help="Of failures: the same seed gives the same ones.")
@click.option(
    "--compare",
    "variations",
    multiple=True,
    metavar="CHANGES",
    help="Play it again with changes such as nodes=20,backfill=off; may be repeated.",
)
@click.option("--price", metavar="PRICE|SIZE", help="Of a node-hour; or a VM size of the service's prices.json.")
@click.option(
    "--vm-priority",
    type=click.Choice(["dedicated", "lowpriority"]),
    default="dedicated",
    help="With the price of a VM size.  [default: dedicated]",
)
@click.option("--plot", metavar="FILE", help="Draw nodes, queue and waits over time to a .svg or .png file.")
@click.option("--save-trace", metavar="FILE", help="Write the trace as it was read to a .csv or .swf file.")
@options.session()
def run(session: Session, **chosen: Any) -> None:
    """Play a trace and report how long jobs wait.

    TRACE is a CSV file with the columns submitted, runtime and nodes, one in the Standard Workload Format, or the job
    log of Microsoft's Philly or SenseTime's Helios clusters; `.gz` is fine, and `-` is standard input.
    """
    from trainshed.cli import traces
    from trainshed.cli.output import Format

    path, history = chosen["path"], chosen["history"]
    if (path is None) == (not history):
        raise click.UsageError("give a trace's file, or --history for the service's own jobs")
    price = None if chosen["price"] is None else _price(chosen["price"], chosen["vm_priority"])
    draw = traces.plotter(chosen["plot"]) if chosen["plot"] else None
    trace = (
        traces.from_service(session, chosen["cluster"])
        if history
        else traces.load(path, chosen["trace_format"], chosen["per_node"])
    )
    _tell(session, trace, "the service's history" if history else path)
    if chosen["limit"] is None:
        _warn_of_limit(session, trace)
    scenarios = _scenarios(chosen, trace)
    if chosen["save_trace"]:
        traces.save(chosen["save_trace"], traces.written(trace, chosen["save_trace"], "written by trainshed simulate"))
    outcomes = _play_all(trace, scenarios, price)
    _show(session, trace, outcomes)
    if draw is not None:
        from trainshed.simulation.plots import svg

        draw(svg([(outcome.name, outcome.played) for outcome in outcomes], f"{len(trace.jobs)} jobs"))
        if session.form is Format.TABLE:
            session.note(f"plots: {chosen['plot']}")


def _tell(session: Session, trace: Trace, source: str) -> None:
    from trainshed.cli.errors import CommandError

    for reason, count in trace.skipped.items():
        session.note(f"left out: {_jobs(count)}, {reason}")
    if not trace.jobs:
        raise CommandError("TraceInvalid", f"{source}: there is no job in it that ran and ended")


def _warn_of_limit(session: Session, trace: Trace) -> None:
    """The service's default would end jobs that really went on."""
    from trainshed.simulation.trace import DEFAULT_LIMIT

    count = sum(job.limit is None and job.runtime > DEFAULT_LIMIT for job in trace.jobs)
    if count:
        session.note(f"{_jobs(count)} without a limit took longer than the default of 7d; --limit off lets them end")


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def _scenarios(chosen: dict[str, Any], trace: Trace) -> list[tuple[str, Scenario]]:
    """The scenario of the options, and its variations, by their names."""
    from trainshed.simulation.scenario import Scenario, ScenarioError

    nodes = chosen["nodes"] or trace.nodes
    if nodes is None and chosen["autoscale"] is None:
        raise click.UsageError(
            f"the trace does not say how many nodes it ran on; give --nodes (its widest job has {trace.widest})"
        )
    base = Scenario(
        nodes or trace.widest, backfill=chosen["backfill"], preemption=chosen["preemption"], seed=chosen["seed"]
    )
    for name in (
        "autoscale",
        "boot",
        "idle",
        "grace",
        "fair_share",
        "faults",
        "repair",
        "checkpoint",
        "limit",
        "speed",
    ):
        if chosen[name] is not None:
            base = base.varied(f"{name.replace('_', '-')}={chosen[name]}")
    found = [("as given" if chosen["variations"] else "simulated", base)]
    for changes in chosen["variations"]:
        try:
            found.append((changes, base.varied(changes)))
        except ScenarioError as error:
            raise click.UsageError(f"--compare {changes}: {error}") from None
    return found


def _play_all(trace: Trace, scenarios: list[tuple[str, Scenario]], price: Price | None) -> list[Outcome]:
    from trainshed.cli.progressbar import ProgressBar
    from trainshed.cli.tables_simulation import Cost, Outcome
    from trainshed.simulation.measuring import measure
    from trainshed.simulation.playing import play

    outcomes = []
    with ProgressBar(in_bytes=False) as bar:
        for number, (name, scenario) in enumerate(scenarios):
            before, total = number * len(trace.jobs), len(trace.jobs) * len(scenarios)

            def told(done: int, name: str = name, before: int = before, total: int = total) -> None:
                bar.show(name, before + done, total)

            played = play(trace, scenario, told)
            figures = measure(played)
            cost = None if price is None else Cost(price.node_hour * figures.node_hours, price.currency)
            outcomes.append(Outcome(name, played, figures, cost))
    return outcomes


def _show(session: Session, trace: Trace, outcomes: list[Outcome]) -> None:
    from trainshed.cli.output import Format, structured
    from trainshed.cli.tables_simulation import as_json, report

    if session.form is Format.TABLE:
        click.echo(report(outcomes))
    elif session.form is Format.QUIET:
        for outcome in outcomes:
            click.echo(f"{outcome.figures.wait.mean / 1000:.1f}")
    else:
        click.echo(structured(as_json(trace, outcomes), session.form))


def _price(text: str, vm_priority: str) -> Price:
    try:
        price = float(text)
    except ValueError:
        return _price_of_size(text, vm_priority)
    if not 0 <= price < 1e9:
        raise click.BadParameter(f"{text!r} is no price of a node-hour", param_hint="--price")
    return Price(price, "")


def _price_of_size(size: str, vm_priority: str) -> Price:
    from trainshed.cli.errors import CommandError
    from trainshed.client.connection import home_directory
    from trainshed.resources.prices import FILE_NAME, InvalidPrices, read_prices

    path = home_directory() / FILE_NAME
    example = '{"sizes": {"' + size.upper() + '": 0.9}}'
    try:
        prices = read_prices(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CommandError("NoPrice", f"there is no {path}", f"--price 0.9, or write {example} to it") from None
    except (InvalidPrices, UnicodeDecodeError) as error:
        raise CommandError("NoPrice", f"the prices in {path} cannot be used: {error}") from None
    if not (price := prices.of(size, vm_priority)):
        raise CommandError(
            "NoPrice", f"{path} has no {vm_priority} price of {size}", f"--price 0.9, or have it say {example}"
        )
    return Price(price, prices.currency)
