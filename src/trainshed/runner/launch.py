"""From a prepared gang to running processes: gather the facts, ask the toolkit for its plan, start this node's part."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainshed import toolkits
from trainshed.resources import directories
from trainshed.resources.preemption import StopWarning
from trainshed.resources.reasons import ReasonCode
from trainshed.resources.times import format_time
from trainshed.runner import mpi, ranklogs, ranks, warned
from trainshed.runner.crew import Coordinator, Crew
from trainshed.runner.environment import LOOPBACK_INTERFACE, on_loopback
from trainshed.runner.failure import directory_error, failed
from trainshed.runner.joining import Joining, numbers
from trainshed.runner.launching import Launching
from trainshed.runner.node import Node
from trainshed.runner.switchboard import Switchboard, agent_token
from trainshed.toolkits.launch import Gang, Host, LaunchPlan, MpiFlavor, PlanError, Process

_AGENT = Path(__file__).with_name("agent.py")


def tools_directory(node: Node) -> str:
    """Where launch agent and rank wrapper lie: one path for all nodes, since ``mpirun`` names it to all of them."""
    return directories.join(node.spec.directories.shared_job_temp, ".trainshed")


def gang_of(node: Node, facts: Mapping[str, Any]) -> Gang:
    """The gang as the toolkits see it, from the facts that all its nodes share."""
    spec = node.spec
    tools = tools_directory(node)
    devices = spec.gpu_devices or ("",) * len(spec.hosts)
    return Gang(
        hosts=tuple(
            Host(host.name, host.address, host.gpus, host.cpus, tuple(filter(None, given.split(","))))
            for host, given in zip(spec.hosts, devices, strict=True)
        ),
        shared_job_temp=spec.directories.shared_job_temp,
        attempt_id=spec.attempt_id,
        mpi=MpiFlavor(facts["mpi"]) if facts["mpi"] else None,
        launch_agent=f"{tools}/agent",
        rank_wrapper=f"{tools}/rank.sh",
        # In a container there is no launcher but its own.
        rank_launcher="" if node.container is not None else shlex.join(spec.rank_launcher),
        interface=facts["interface"],
        root=node.root,
    )


def gather_facts(node: Node) -> dict[str, Any]:
    """The coordinator's knowledge that the plan depends on: which MPI there is, and the nodes' network interface.

    The interface is named only where the nodes' host names do not resolve to their addresses (no hosts file of ours).
    """
    assert node.isolation is not None
    flavor: MpiFlavor | None = None
    try:
        wanted = toolkits.needs_mpi(node.spec.properties)
    except PlanError as error:
        raise failed(ReasonCode.JOB_LAUNCH_FAILED, str(error)) from error
    # A custom job that starts mpirun itself hands it the host file, which must be in that mpirun's form.
    if wanted or (node.several and "customToolkitSettings" in node.spec.properties):
        flavor = mpi.probe(node)
    if wanted:
        node.log.write(f"mpirun is {flavor.value if flavor else 'not there'}")
        if node.spec.rank_launcher:
            why = "mpirun of the container starts the ranks" if node.container else "the engine starts the ranks"
            node.log.write(why)
    named = on_loopback(node.spec) and not node.isolation.own_mounts
    return {"mpi": flavor.value if flavor else None, "interface": LOOPBACK_INTERFACE if named else ""}


def plan_with(node: Node, facts: Mapping[str, Any]) -> LaunchPlan:
    """The plan, the same on all nodes. Raises AttemptEnded (JobLaunchFailed) with the toolkit's own words."""
    try:
        return toolkits.plan(node.spec.properties, gang_of(node, facts))
    except PlanError as error:
        raise failed(ReasonCode.JOB_LAUNCH_FAILED, str(error)) from error


def start(node: Node, crew: Crew, switchboard: Switchboard | None) -> None:
    """Wait for the gang, plan, and start this node's processes. Raises AttemptEnded."""
    if node.spec.shared_apart:
        # Before the others know that this node is prepared, and whether ranks will need them or not.
        _write_tools(node, {"rank.sh": ranks.WRAPPER_TEXT, **_agents(node)})
    facts = crew.gather()
    if node.spec.node_index == 0:
        facts = gather_facts(node)
    plan = plan_with(node, facts)
    if node.spec.node_index == 0 and not node.spec.shared_apart:
        _install_tools(node, plan)
    _write_host_file(node, plan, facts)
    environment = {**node.environment, **plan.environment}
    node.rank_logs = logs = ranklogs.RankLogs(node, plan)
    if plan.wrapped_ranks:
        environment[ranklogs.VARIABLE] = logs.directory
        environment[ranks.VARIABLE] = _hear_ranks(node, crew, logs)
        environment[ranks.DIRECTORY_VARIABLE] = node.folder or str(Path.cwd())
    if plan.mpi_ranks:
        # The node's MPI daemon gets it, and its ranks from that.
        environment.setdefault("NODE_RANK", str(node.spec.node_index))
        if node.spec.port:
            environment["TRAINSHED_AGENT_TOKEN"] = agent_token(node.spec.token)
            environment["TRAINSHED_AGENT_HOSTS"] = ";".join(
                f"{name}={host.address}:{node.spec.port}"
                for host in node.spec.hosts
                for name in (host.name, host.address)
            )
            if switchboard is None:
                switchboard = Switchboard(node.host.address, node.spec.port, node.spec.token, node.loop)
            if plan.launched_by_engine:
                flavor = MpiFlavor(facts["mpi"]) if facts["mpi"] else None
                Joining(node, switchboard, environment, numbers(plan, node.spec.node_index, flavor), crew.rank_ended)
            else:
                Launching(node, switchboard, environment, crew.daemon_ended)
    crew.begin(plan)
    node.launched = plan
    if isinstance(crew, Coordinator):
        crew.start_members(facts)
    for process in plan.on(node.spec.node_index):
        pid = _start_process(node, crew, process, environment)
        if plan.launched_by_engine:
            node.launcher = pid


def warn(node: Node, reason: Mapping[str, Any], warning: StopWarning) -> None:
    """Tell the job's processes on this node that they are to leave: the notice first, then the signal."""
    assert node.launched is not None
    assert node.isolation is not None
    deadline = time.time_ns() // 1_000_000 + round(warning.seconds * 1000)
    notice = {
        "deadline": format_time(deadline),
        "deadlineUnixSeconds": deadline / 1000,
        "signal": warning.signal,
        "reason": {"code": reason["code"], "message": reason["text"]},
    }
    path = f"{node.job_temp}/{warned.NOTICE_NAME}"
    try:
        node.inside.publish(path, json.dumps(notice, indent=2).encode() + b"\n")
    except OSError as error:
        node.log.write(f"the notice {path} cannot be written: {error}")
    wrapper = f"{tools_directory(node)}/rank.sh" if node.launched.wrapped_ranks else ""
    sent = node.isolation.warn(warning.number, [pid for pid in node.started if pid in node.loop.living], wrapper)
    who = f"{warning.signal} sent to {sent} process{'' if sent == 1 else 'es'}"
    node.log.write(
        f"{reason['text']} {who if sent else f'No process here takes {warning.signal}'}; "
        f"SIGTERM follows in {warning.seconds:g} s"
    )


def _hear_ranks(node: Node, crew: Crew, logs: ranklogs.RankLogs) -> str:
    """The path of the FIFO that this node's ranks tell their beginnings and ends to."""
    path = f"{node.job_temp}/{ranks.FIFO_NAME}"

    def began(rank: int) -> None:
        logs.rank_began(rank)
        crew.rank_began(rank)

    def ended(rank: int, code: int, asked: bool) -> None:
        node.spoken.add(rank)
        crew.rank_ended(rank, code, asked)

    try:
        ranks.RankWords(node.inside.make_fifo(path), node.loop, began, ended)
    except OSError as error:
        raise directory_error("AZ_BATCHAI_JOB_TEMP", path, error) from error
    return path


def _start_process(node: Node, crew: Crew, process: Process, environment: dict[str, str]) -> int:
    name = f"{process.role} {process.index}"

    def ended(code: int) -> None:
        node.log.write(f"{name} ended with exit code {code}")
        crew.process_ended(process.role, process.index, code)

    pid = node.start_logged(
        process.command_line, {**environment, **process.environment}, process.stdout, process.stderr, ended
    )
    node.started.append(pid)
    node.log.write(f"{name} started; its output is in {process.stdout} and {process.stderr}")
    return pid


def _write_host_file(node: Node, plan: LaunchPlan, facts: Mapping[str, Any]) -> None:
    slots = plan.slots or (1,) * len(node.spec.hosts)
    used = list(zip(node.spec.hosts, slots, strict=True))
    if facts["mpi"] in (MpiFlavor.MPICH, MpiFlavor.INTEL):
        text = directories.machine_file_text((host.address, count) for host, count in used)
    else:
        text = directories.host_file_text((host.address, count, max(count, host.cpus)) for host, count in used)
    path = node.environment["AZ_BATCHAI_MPI_HOST_FILE"]
    try:
        _write(node, path, text, 0o644)
    except OSError as error:
        raise directory_error("AZ_BATCHAI_MPI_HOST_FILE", path, error) from error


def _install_tools(node: Node, plan: LaunchPlan) -> None:
    """Write the rank wrapper where all nodes see it, and the launch agent, which only MPI's launchers need."""
    if not plan.wrapped_ranks:
        return
    _write_tools(node, {"rank.sh": ranks.WRAPPER_TEXT, **(_agents(node) if plan.mpi_ranks else {})})


def _agents(node: Node) -> dict[str, str]:
    tools = tools_directory(node)
    # The service's interpreter may lie where the job's user may not go.
    agent = f'#!/bin/sh\nexe="{sys.executable}"; [ -x "$exe" ] || exe=$(command -v python3) || '
    agent += f'exec bash "{tools}/agent.sh" "$@"\nexec "$exe" -I -S -E "{tools}/agent.py" "$@"\n'
    return {"agent": agent, "agent.py": AGENT_TEXT, "agent.sh": SHELL_AGENT_TEXT}


def _write_tools(node: Node, texts: Mapping[str, str]) -> None:
    tools = tools_directory(node)
    try:
        node.inside.make_directory(tools)
        for name, text in texts.items():
            _write(node, f"{tools}/{name}", text, 0o755)
    except OSError as error:
        raise directory_error("AZ_BATCHAI_SHARED_JOB_TEMP", tools, error) from error


def _write(node: Node, path: str, text: str, mode: int) -> None:
    with open(node.inside.create(path, mode), "w") as file:
        file.write(text)


AGENT_TEXT = _AGENT.read_text()
SHELL_AGENT_TEXT = _AGENT.with_suffix(".sh").read_text()
