"""What has to be done for the site that was asked for, from what was seen; pure, and nothing when nothing differs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from trainshed.engines.slurm.bootstrap import configuration, layout, steps
from trainshed.engines.slurm.bootstrap.conditions import mode_of, problems_of
from trainshed.engines.slurm.bootstrap.facts import Daemon, HostFacts
from trainshed.engines.slurm.bootstrap.problems import Problem
from trainshed.engines.slurm.bootstrap.request import Host, Mode, Request
from trainshed.engines.slurm.bootstrap.steps import Step

#: What a node's runner needs.
_OLDEST_PYTHON = (3, 11)
#: Seconds of skew that are told, but not refused.
_SKEW_TOLD = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order, or what stands in the way."""

    steps: tuple[Step, ...] = ()
    problems: tuple[Problem, ...] = ()
    #: What people should know.
    notes: tuple[str, ...] = ()

    @property
    def json(self) -> dict[str, object]:
        """For ``-o json``."""
        return {
            "problems": [problem.json for problem in self.problems],
            "notes": list(self.notes),
            "steps": [step.json for step in self.steps],
        }


def plan(request: Request, facts: Mapping[str, HostFacts]) -> Plan:
    """From the facts of every host, by its name."""
    if problems := problems_of(request, facts):
        return Plan(problems=tuple(problems))
    mode = mode_of(request, facts)
    wanted = configuration.files(request, facts, mode)
    found: list[Step] = []
    for host in request.hosts:
        found += _of_host(request, host, facts, mode, wanted)
    first = facts[request.first.name]
    nodes = [facts[host.name].short for host in request.hosts]
    lost = [name for name in nodes if first.states.get(name, "idle").rstrip("*") in ("down", "unknown")]
    if found or lost:
        found += [steps.settle(request, nodes, lost if not found else []), steps.prove(request)]
    return Plan(tuple(sorted(found, key=lambda step: step.stage)), (), tuple(_notes(request, facts, mode)))


def _of_host(
    request: Request, host: Host, facts: Mapping[str, HostFacts], mode: Mode, wanted: Mapping[str, str]
) -> list[Step]:
    fact, first, is_first = facts[host.name], facts[request.first.name], host is request.first
    found: list[Step] = []
    packages = [*layout.NODE_PACKAGES, *(layout.CONTROLLER_PACKAGES if is_first else ())]
    if missing := [name for name in packages if name not in fact.packages]:
        found.append(steps.install_packages(host.name, missing))
    if is_first and not fact.key:
        found.append(steps.make_key(host.name))
    elif not is_first and (not first.key or fact.key != first.key):
        found.append(steps.copy_key(host.name, request.first.name, keep=bool(fact.key)))
    new_key = any(step.stage in (steps.MAKE_KEY, steps.COPY_KEY) for step in found)
    for path, content in wanted.items():
        if fact.files.get(path) != hashlib.sha256(content.encode()).hexdigest():
            found.append(steps.write_file(host.name, path, content))
    found += [steps.remove_file(host.name, path) for path in fact.files if path not in wanted]
    new_files = any(step.stage == steps.FILES for step in found)
    for daemon in ("munged", *(("slurmctld",) if is_first else ()), "slurmd"):
        runs = fact.daemons.get(daemon, Daemon())
        if not runs.running or runs.stale or (new_key if daemon == "munged" else new_files):
            found.append(steps.start(host.name, daemon, mode, again=runs.running))
    return found


def _notes(request: Request, facts: Mapping[str, HostFacts], mode: Mode) -> list[str]:
    first = facts[request.first.name]
    found = []
    names = {facts[host.name].short for host in request.hosts}
    if gone := [name for name in first.nodes if name not in names]:
        found.append(
            f"{', '.join(gone)}: no longer of the site, and its slurmd goes on. Take it away there with --undo, "
            f"naming {request.first.name} and these hosts, or: systemctl disable --now slurmd"
        )
    for host in request.hosts:
        fact = facts[host.name]
        if abs(fact.ahead) > _SKEW_TOLD:
            found.append(f"{host.name}: its clock is {fact.ahead:+.0f} s off; let NTP set it (apt-get install chrony)")
        version = tuple(int(part) for part in fact.python.split(".")) if fact.python else ()
        if version and version < _OLDEST_PYTHON:
            found.append(f"{host.name}: python3 is {fact.python}; jobs need 3.11 or later, see the engine's 'python'")
        if fact.states.get(fact.short, "").startswith("drain"):
            found.append(
                f"{host.name}: the node is drained, and stays so: scontrol update NodeName={fact.short} State=RESUME"
            )
    if request.job_uid == 0:
        found.append(
            "the service runs as root: jobs of all workspaces are root's on Slurm, which it refuses while it isolates "
            "jobs, unless the engine's 'share_user' is yes. Better run it, and this, as a user of its own"
        )
    if mode is Mode.DAEMONS:
        found.append("daemons are not started again after a reboot: run this once more then")
    elif not all(fact.cgroups for fact in facts.values()):
        found.append("not every host has cgroup v2 with cpuset and memory: jobs are not confined to their cores")
    return found
