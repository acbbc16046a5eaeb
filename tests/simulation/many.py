"""Many seeds, on several processes if wanted, and what they reached together."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.simulation.chance import RECURRING, SINGLE
from tests.simulation.world import World
from trainshed.resources.lifecycle import ALLOCATION, ATTEMPT, JOB, NODE, PROVISIONING, Lifecycle, ProvisioningState
from trainshed.resources.reasons import ReasonCode

#: Seeds that a process takes at once.
CHUNK = 50


@dataclass
class Results:
    """What came of some seeds."""

    seeds: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    #: Seed, invariant, what was wrong.
    failures: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, other: Results) -> None:
        """Take the others' too."""
        self.seeds += other.seeds
        self.counts += other.counts
        self.failures += other.failures

    @property
    def not_reached(self) -> list[str]:
        """Steps of lifecycles, faults and places of kills that none of the seeds came to."""
        return sorted(name for name in expected() if not self.counts[name])


def run(seeds: range) -> Results:
    """One after the other, in this process."""
    results = Results()
    for seed in seeds:
        story = World(seed).run()
        results.seeds += 1
        results.counts += story.counts
        if story.violation is not None:
            results.failures.append((seed, story.violation.invariant, str(story.violation)))
    return results


def run_parallel(seeds: range, workers: int) -> Iterator[Results]:
    """In chunks, as they are done."""
    chunks = [seeds[first : first + CHUNK] for first in range(0, len(seeds), CHUNK)]
    if workers == 1:
        yield from map(run, chunks)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(run, chunks)


def expected() -> set[str]:
    """What enough seeds must reach: every step of every lifecycle that the control loops take, and every fault."""
    names = {f"fault: {name}" for name in (*SINGLE, *RECURRING)}
    names |= {f"reason {code.value}" for code in _OF_THE_QUEUE}
    names |= {"refused: DependencyNotFound", "failed for another job"}
    names |= {"killed before a write", "killed after a write", "killed at any time", "service restarted"}
    for kind, table in (("job", JOB), ("attempt", ATTEMPT), ("node", NODE), ("cluster", ALLOCATION)):
        names |= set(_steps(kind, table))
    # Making a cluster cannot fail; its nodes can.
    names |= {step for step in _steps("cluster", PROVISIONING) if ProvisioningState.FAILED.value not in step}
    return names


_OF_THE_QUEUE = (
    ReasonCode.WAITING_FOR_DEPENDENCIES,
    ReasonCode.WAITING_FOR_ARRAY,
    ReasonCode.LIMIT_REACHED,
    ReasonCode.BUDGET_SPENT,
    ReasonCode.WAITING_FOR_RESERVATION,
)


def _steps(kind: str, table: Lifecycle) -> Iterator[str]:  # type: ignore[type-arg]
    for (before, event), after in table.table.items():
        yield f"{kind} {before.value} --{event.value}-> {after.value}"


def report(results: Results, seconds: float) -> str:
    """For a person."""
    lines = [f"{results.seeds} seeds in {seconds:.0f} s: {results.seeds / seconds:.1f} a second"]
    lines += [f"  {number:9} {name}" for name, number in sorted(results.counts.items())]
    lines += [f"  never: {name}" for name in results.not_reached]
    lines.append(f"{len(results.failures)} seeds violate an invariant")
    lines += [f"  seed {seed}: {text}" for seed, _, text in sorted(results.failures)]
    return "\n".join(lines)


def timed(seeds: range, workers: int, *, progress: bool = False) -> tuple[Results, float]:
    """All of them, and the seconds that they took."""
    results, begin, said = Results(), time.monotonic(), 0.0
    for part in run_parallel(seeds, workers):
        results.add(part)
        passed = time.monotonic() - begin
        if progress and passed - said > 30:
            said = passed
            print(f"{results.seeds} seeds in {passed:.0f} s, {len(results.failures)} violate an invariant", flush=True)
        for seed, _, text in part.failures:
            print(f"seed {seed}: {text}", flush=True)
    return results, time.monotonic() - begin
