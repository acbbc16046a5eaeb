"""A page of plots as SVG: nodes with work and waiting jobs over time, and how long jobs waited."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from trainshed.simulation.playing import Played

WIDTH, PANEL, LEFT, RIGHT, TOP, GAP = 900, 200, 70, 35, 50, 60
#: Distinct also without colours seen (Okabe and Ito, 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_TICKS = 5
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a panel; a dashed one is a capacity."""

    points: Sequence[Point]
    colour: str
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot."""

    title: str
    across: str
    lines: Sequence[Line]
    #: Powers of ten across.
    logarithmic: bool = False
    percent: bool = False


def svg(runs: Sequence[tuple[str, Played]], title: str) -> str:
    """The page for runs by their names."""
    panels = list(_panels(runs))
    height = TOP + 24 + len(panels) * (PANEL + GAP) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="DejaVu Sans, Liberation Sans, Arial, Helvetica, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(LEFT, 22, title, size=15),
        *_legend([name for name, _ in runs]),
    ]
    for number, panel in enumerate(panels):
        parts += _draw(panel, TOP + 24 + number * (PANEL + GAP))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panels(runs: Sequence[tuple[str, Played]]) -> Iterator[Panel]:
    colours = [COLOURS[number % len(COLOURS)] for number in range(len(runs))]
    longest = max((played.timeline[-1].at for _, played in runs if played.timeline), default=0)
    unit, name = (3_600_000, "hours") if longest < 4 * 86_400_000 else (86_400_000, "days")
    busy, queued, waits = [], [], []
    for colour, (_, played) in zip(colours, runs, strict=True):
        moments = [(moment.at / unit, moment) for moment in played.timeline]
        busy.append(Line([(at, moment.nodes) for at, moment in moments], colour, dashed=True))
        busy.append(Line([(at, moment.busy) for at, moment in moments], colour))
        queued.append(Line([(at, float(moment.queued)) for at, moment in moments], colour))
        waits.append(Line(list(_shares(played)), colour))
    yield Panel("Nodes with work (dashed: nodes)", name, busy)
    yield Panel("Waiting jobs", name, queued)
    yield Panel("Jobs that waited no longer than", "seconds", waits, logarithmic=True, percent=True)


def _shares(played: Played) -> Iterator[Point]:
    """The distribution of waits, in seconds, of all jobs; from one second on."""
    waits = sorted((c.started - c.work.at) / 1000 for c in played.courses if c.started is not None)
    steps = max(1, len(waits) // 400)
    for index in range(0, len(waits), steps):
        yield max(1.0, waits[index]), 100 * (index + 1) / len(played.courses)
    if waits:
        yield max(1.0, waits[-1]), 100 * len(waits) / len(played.courses)


def _draw(panel: Panel, top: float) -> Iterator[str]:
    points = [point for line in panel.lines for point in line.points]
    most = 100.0 if panel.percent else _rounded_up(max((y for _, y in points), default=1.0))
    right = max((x for x, _ in points), default=1.0)
    low, high = (0.0, max(1.0, math.ceil(math.log10(max(right, 10.0))))) if panel.logarithmic else (0.0, right or 1.0)
    width, bottom = WIDTH - LEFT - RIGHT, top + PANEL

    def place(point: Point) -> str:
        across = math.log10(point[0]) if panel.logarithmic else point[0]
        x = LEFT + width * (across - low) / (high - low)
        return f"{x:.1f},{bottom - PANEL * point[1] / most:.1f}"

    yield _text(LEFT, top - 8, panel.title, size=13)
    for step in range(_TICKS + 1):
        value = most * step / _TICKS
        y = bottom - PANEL * step / _TICKS
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>'
        yield _text(LEFT - 6, y + 4, f"{value:g}{' %' if panel.percent else ''}", anchor="end")
    every = 1.0 if panel.logarithmic else _rounded_up((high - low) / 8)
    ticks = [every * number for number in range(int((high - low) / every) + 1)]
    for tick in ticks:
        x = LEFT + width * (tick - low) / (high - low)
        yield _text(x, bottom + 16, f"{10**tick:,.0f}" if panel.logarithmic else f"{tick:g}", anchor="middle")
    yield _text(LEFT + width / 2, bottom + 32, panel.across, anchor="middle")
    for line in panel.lines:
        dashes = ' stroke-dasharray="4 3" opacity="0.6"' if line.dashed else ""
        path = " ".join(place(point) for point in line.points)
        yield f'<polyline points="{path}" fill="none" stroke="{line.colour}" stroke-width="1.5"{dashes}/>'


def _legend(names: Sequence[str]) -> Iterator[str]:
    x = float(LEFT)
    for number, name in enumerate(names):
        yield f'<rect x="{x:.0f}" y="34" width="12" height="12" fill="{COLOURS[number % len(COLOURS)]}"/>'
        yield _text(x + 17, 44, name)
        x += 40 + 7 * len(name)


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'


def _rounded_up(value: float) -> float:
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1.0, 2.0, 2.5, 5.0, 10.0) if step * power >= value * (1 - 1e-9))
