"""The report of ``trainshed simulate``: a row a measure, a column a scenario; and the same as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trainshed.cli.output import Column, table
from trainshed.cli.times import duration
from trainshed.simulation.measuring import Figures, Spread
from trainshed.simulation.playing import Played
from trainshed.simulation.trace import Trace


@dataclass(frozen=True, slots=True)
class Cost:
    """Money."""

    amount: float
    currency: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """One scenario, played."""

    name: str
    played: Played
    figures: Figures
    cost: Cost | None


def _time(ms: float) -> str:
    """As elsewhere, but so that scenarios which differ by a few percent do not read the same."""
    seconds = ms / 1000
    if 120 <= seconds < 1200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 86_400:.1f} d" if seconds >= 172_800 else duration(seconds)


_ROWS: list[tuple[str, Callable[[Figures], str]]] = [
    ("Jobs", lambda f: str(f.jobs)),
    ("  succeeded", lambda f: str(f.endings["succeeded"])),
    ("  ended by their limits", lambda f: str(f.endings["time-limit"])),
    ("  lost too many nodes", lambda f: str(f.endings["lost"])),
    ("  wider than the cluster", lambda f: str(f.never_started)),
    ("Waiting, mean", lambda f: _time(f.wait.mean)),
    ("  median", lambda f: _time(f.wait.median)),
    ("  90 %", lambda f: _time(f.wait.p90)),
    ("  99 %", lambda f: _time(f.wait.p99)),
    ("  longest", lambda f: _time(f.wait.longest)),
    ("Slowdown, mean", lambda f: f"{f.slowdown.mean:.2f}"),
    ("  median", lambda f: f"{f.slowdown.median:.2f}"),
    ("  90 %", lambda f: f"{f.slowdown.p90:.2f}"),
    ("  99 %", lambda f: f"{f.slowdown.p99:.2f}"),
    ("Completion, mean", lambda f: _time(f.completion.mean)),
    ("  median", lambda f: _time(f.completion.median)),
    ("  90 %", lambda f: _time(f.completion.p90)),
    ("Utilisation", lambda f: f"{100 * f.utilisation:.1f} %"),
    ("Makespan", lambda f: _time(f.makespan)),
    ("Node-hours", lambda f: f"{f.node_hours:.1f}"),
    ("  with work", lambda f: f"{f.used_hours:.1f}"),
    ("  in vain", lambda f: f"{f.wasted_hours:.1f}"),
    ("Backfilled", lambda f: str(f.backfilled)),
    ("Pre-empted", lambda f: str(f.preemptions)),
    ("Lost to failures", lambda f: str(f.lost_attempts)),
    ("Fairness of waiting", lambda f: f"{f.fair_waits:.3f}"),
    ("  of slowdowns", lambda f: f"{f.fair_slowdowns:.3f}"),
]


def report(outcomes: Sequence[Outcome]) -> str:
    """The table. Rows of what did not happen in any scenario are left out."""
    rows: list[tuple[str, list[str]]] = []
    for label, value in _ROWS:
        cells = [value(outcome.figures) for outcome in outcomes]
        if not (label in _RARE and all(cell in ("0", "0.0") for cell in cells)):
            rows.append((label, cells))
    costs = [outcome.cost for outcome in outcomes if outcome.cost is not None]
    if costs:
        currency = costs[0].currency
        rows.append((f"Cost, {currency}" if currency else "Cost", [f"{cost.amount:.2f}" for cost in costs]))
    columns: list[Column[tuple[str, list[str]]]] = [Column("", lambda row: row[0])]
    for number, outcome in enumerate(outcomes):
        columns.append(Column(outcome.name, lambda row, number=number: row[1][number], number=True))  # type: ignore[misc]
    return table(rows, columns)


_RARE = {
    "  ended by their limits", "  lost too many nodes", "  wider than the cluster", "  in vain", "Backfilled",
    "Pre-empted", "Lost to failures",
}  # fmt: skip


def as_json(trace: Trace, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """All figures; durations in seconds."""
    return {
        "trace": {
            "jobs": len(trace.jobs),
            "widest": trace.widest,
            "seconds": trace.span / 1000,
            "skipped": dict(trace.skipped),
        },
        "scenarios": [_outcome(outcome) for outcome in outcomes],
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    figures = outcome.figures
    settings = asdict(outcome.played.scenario)
    for name in ("boot", "idle", "grace", "fair_share", "repair", "faults", "checkpoint", "limit"):
        settings[name] = None if settings[name] is None else settings[name] / 1000
    if settings["autoscale"] is not None:
        settings["autoscale"] = list(settings["autoscale"])
    found = {
        "name": outcome.name,
        "settings": {_camel(name): value for name, value in settings.items()},
        "jobs": figures.jobs,
        "endings": dict(figures.endings),
        "neverStarted": figures.never_started,
        "waitSeconds": _spread(figures.wait, 1000),
        "completionSeconds": _spread(figures.completion, 1000),
        "boundedSlowdown": _spread(figures.slowdown, 1),
        "utilisation": figures.utilisation,
        "makespanSeconds": figures.makespan / 1000,
        "nodeHours": figures.node_hours,
        "usedNodeHours": figures.used_hours,
        "wastedNodeHours": figures.wasted_hours,
        "attempts": figures.attempts,
        "backfilled": figures.backfilled,
        "preemptions": figures.preemptions,
        "lostAttempts": figures.lost_attempts,
        "laterThanReserved": figures.late,
        "fairness": {"waits": figures.fair_waits, "slowdowns": figures.fair_slowdowns},
    }
    return found if outcome.cost is None else {**found, "cost": outcome.cost.amount, "currency": outcome.cost.currency}


def _spread(spread: Spread, unit: int) -> dict[str, float]:
    return {name: value / unit for name, value in asdict(spread).items()}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
