"""Traces with the statistical shape of real ones, made up.

Sizes and runtimes follow Lublin and Feitelson, "The workload on parallel supercomputers" (2003), with its constants for
batch jobs: many serial jobs, powers of two favoured, two-stage uniform logarithms of sizes; hyper-gamma logarithms of
runtimes, longer for wider jobs. Arrivals are a Poisson process under a daily cycle. Limits are runtimes divided by an
accuracy that is spread evenly, rounded up to times that people write (Tsafrir, Etsion and Feitelson, 2005). Users are
as busy as in Zipf's law.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from trainshed.simulation.trace import DAY_MS, Trace, TraceJob

HOUR_S = 3600
#: Limits that people write, in seconds.
_ROUND_LIMITS = (
    300, 600, 900, 1800,
    *(hours * HOUR_S for hours in (1, 2, 3, 4, 6, 8, 12, 18, 24, 36, 48, 72, 96, 120, 168)),
)  # fmt: skip
_SERIAL, _POWER_OF_TWO = 0.244, 0.576
#: Logarithms of sizes: evenly between LOW and MIDDLE with this probability, else between MIDDLE and the largest.
_LOW, _MIDDLE_BELOW_LARGEST, _BELOW_MIDDLE = 0.8, 2.5, 0.86
#: Logarithms of runtimes in seconds: two gamma distributions (shape, scale), and the line that mixes them by size.
_SHORT, _LONG, _SLOPE, _INTERCEPT = (4.2, 0.94), (312.0, 0.03), -0.0054, 0.78
#: No runtime is longer (2 days, as in the model).
_LONGEST = 12.0
#: Jobs of a slow hour to those of a busy one.
_NIGHT = 0.25
_BUSIEST_HOUR = 14


@dataclass(frozen=True, slots=True)
class Shape:
    """What is to be generated."""

    jobs: int = 1000
    #: Nodes of the cluster that the jobs are meant for; none is wider than ``widest``, or this.
    nodes: int = 128
    days: float = 1.0
    #: The work that is submitted as a share of what the nodes could do in the time.
    load: float = 0.9
    users: int = 20
    experiments: int = 3
    #: The share of jobs with the priority high.
    urgent: float = 0.0
    widest: int | None = None


def generate(shape: Shape, seed: int = 0) -> Trace:
    """Make up a trace. The same shape and seed give the same one."""
    random = Random(seed)
    largest = min(shape.widest or shape.nodes, shape.nodes)
    sizes = [_size(random, largest) for _ in range(shape.jobs)]
    raw = [_runtime(random, size) for size in sizes]
    wanted = shape.load * shape.nodes * shape.days * DAY_MS / 1000
    factor = wanted / max(1.0, sum(size * runtime for size, runtime in zip(sizes, raw, strict=True)))
    arrivals = sorted(_arrival(random, shape.days) for _ in range(shape.jobs))
    weights = list(accumulate(1 / rank for rank in range(1, shape.users + 1)))
    jobs = []
    for number, (at, size, runtime) in enumerate(zip(arrivals, sizes, raw, strict=True), 1):
        seconds = max(1.0, runtime * factor)
        user = bisect_left(weights, random.random() * weights[-1]) + 1
        jobs.append(
            TraceJob(
                submitted=round(1000 * at),
                runtime=round(1000 * seconds),
                nodes=size,
                limit=round(1000 * _limit(random, seconds)),
                user=f"user{user}",
                experiment=f"user{user}-{random.randint(1, shape.experiments)}",
                priority=1000 if random.random() < shape.urgent else 0,
                name=f"job{number}",
            )
        )
    return Trace.of(jobs, shape.nodes)


def _size(random: Random, largest: int) -> int:
    if largest == 1 or random.random() < _SERIAL:
        return 1
    high = math.log2(largest)
    middle = max(_LOW, high - _MIDDLE_BELOW_LARGEST)
    if high <= _LOW:
        exponent = high
    elif random.random() < _BELOW_MIDDLE:
        exponent = random.uniform(_LOW, middle)
    else:
        exponent = random.uniform(middle, high)
    if random.random() < _POWER_OF_TWO:
        exponent = round(exponent)
    return max(1, min(largest, round(2**exponent)))


def _runtime(random: Random, size: int) -> float:
    share = min(0.95, max(0.05, _SLOPE * size + _INTERCEPT))
    shape, scale = _SHORT if random.random() < share else _LONG
    return math.exp(min(_LONGEST, random.gammavariate(shape, scale)))


def _arrival(random: Random, days: float) -> float:
    """A moment in seconds, more likely by day."""
    while True:
        at = random.random() * days * DAY_MS / 1000
        from_noon = abs(at / HOUR_S % 24 - _BUSIEST_HOUR)
        cycle = (1 + math.cos(2 * math.pi * from_noon / 24)) / 2
        if random.random() < _NIGHT + (1 - _NIGHT) * cycle:
            return at


def _limit(random: Random, seconds: float) -> float:
    # One in ten asks for exactly what the job takes; nobody is more wrong than by a factor of 20.
    accuracy = 1.0 if random.random() < 0.1 else random.uniform(0.05, 1.0)
    asked = seconds / accuracy
    index = bisect_left(_ROUND_LIMITS, asked)
    return float(_ROUND_LIMITS[index]) if index < len(_ROUND_LIMITS) else max(asked, seconds)
