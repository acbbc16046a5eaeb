"""Taking a site away again: what was made there, and nothing else; pure."""

from __future__ import annotations

from collections.abc import Mapping

from trainshed.engines.slurm.bootstrap import layout
from trainshed.engines.slurm.bootstrap.facts import HostFacts
from trainshed.engines.slurm.bootstrap.plan import Plan
from trainshed.engines.slurm.bootstrap.problems import Problem, ProblemCode
from trainshed.engines.slurm.bootstrap.request import Mode, Request
from trainshed.engines.slurm.bootstrap.steps import Step, remove_everything


def undo(request: Request, facts: Mapping[str, HostFacts]) -> Plan:
    """Refused while the site has jobs. Packages stay: their names are told at the end."""
    first = facts[request.first.name]
    if first.site == request.site and first.jobs:
        what = f"{first.jobs} jobs are on the site"
        mend = "Wait for them, or end them: scancel --state=PENDING,RUNNING."
        return Plan(problems=(Problem(request.first.name, ProblemCode.JOBS_RUN, what, mend),))
    found: list[Step] = []
    notes: list[str] = []
    # Nodes first, so that the controller is there to hear of it.
    for stage, host in enumerate(reversed(request.hosts), 1):
        fact = facts[host.name]
        if fact.site != request.site:
            notes.append(f"{host.name}: nothing of the site {request.site!r} is there")
            continue
        mode = request.mode or (Mode.SERVICES if fact.systemd else Mode.DAEMONS)
        found.append(
            remove_everything(stage, host.name, mode, tuple(path for path in layout.FILES if path in fact.files))
        )
    return Plan(tuple(found), (), tuple(notes))
