"""Carrying a plan out: stage after stage, each stage on all hosts at once, and every step says how it ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby

from trainshed.engines.slurm.bootstrap import layout
from trainshed.engines.slurm.bootstrap.problems import Problem, ProblemCode
from trainshed.engines.slurm.bootstrap.ssh import Shell, Unreached
from trainshed.engines.slurm.bootstrap.steps import Step

_AGAIN = "See what it says, then run the same command again: what is done is not done twice."


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended."""

    step: Step
    seconds: float
    #: What it printed for people.
    said: str = ""
    #: Why it failed; None when it is done.
    problem: Problem | None = None

    @property
    def json(self) -> dict[str, object]:
        """For ``-o json``."""
        return {
            "host": self.step.host,
            "what": self.step.what,
            "done": self.problem is None,
            "seconds": round(self.seconds, 2),
            "said": self.said,
        } | ({"problem": self.problem.json} if self.problem else {})


async def carry_out(shell: Shell, steps: Iterable[Step], tell: Callable[[Outcome], None]) -> list[Outcome]:
    """All steps, or those up to the first stage that failed on some host. ``tell`` hears of each as it ends."""
    found: list[Outcome] = []
    for _, stage in groupby(steps, key=lambda step: step.stage):
        by_host = groupby(sorted(stage, key=lambda step: step.host), key=lambda step: step.host)
        done = await asyncio.gather(*(_one_host(shell, list(of_host), tell) for _, of_host in by_host))
        found += [outcome for of_host in done for outcome in of_host]
        if any(outcome.problem for outcome in found):
            break
    return found


async def _one_host(shell: Shell, steps: list[Step], tell: Callable[[Outcome], None]) -> list[Outcome]:
    found: list[Outcome] = []
    for step in steps:
        found.append(await _one(shell, step))
        tell(found[-1])
        if found[-1].problem:
            break
    return found


async def _one(shell: Shell, step: Step) -> Outcome:
    begin = time.monotonic()
    try:
        stdin = await _key(shell, step.key_from) if step.key_from else step.content.encode()
        said = await shell.run(step.host, step.script, stdin, seconds=step.seconds)
    except Unreached as error:
        return Outcome(step, time.monotonic() - begin, problem=error.problem)
    seconds = time.monotonic() - begin
    if said.code == 0:
        return Outcome(step, seconds, said.out.strip())
    text = " / ".join(line.strip() for line in said.error.splitlines() if line.strip())[-800:]
    what = f"{step.what}: {text or f'it ended with {said.code}'}"
    return Outcome(step, seconds, problem=Problem(step.host, ProblemCode.STEP_FAILED, what, _AGAIN))


async def _key(shell: Shell, host: str) -> bytes:
    """Munge's key of a host. It goes from one ssh's output to another's input, and nowhere else."""
    said = await shell.run(host, f"base64 -w0 {layout.KEY}")
    if said.code or not said.out:
        what = f"munge's key cannot be read: {said.error.strip()[-200:]}"
        raise Unreached(Problem(host, ProblemCode.STEP_FAILED, what, _AGAIN))
    return said.out.encode()
