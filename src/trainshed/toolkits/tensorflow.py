"""TensorFlow: one script as master, workers and parameter servers, each a process (behaviour 7 and 8).

Scripts of the original read AZ_BATCHAI_PS_HOSTS, AZ_BATCHAI_WORKER_HOSTS and AZ_BATCHAI_TASK_INDEX; today's strategies
read TF_CONFIG. Ports count from 2222 on each node, parameter servers first (behaviour 7). TensorFlow listens on all
addresses of its machine: nodes that share one, with loopback addresses, share its ports too, and so do other jobs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainshed.resources.directories import task_logs
from trainshed.toolkits.launch import Gang, LaunchPlan, PlanError, Process
from trainshed.toolkits.placing import Place
from trainshed.toolkits.python import python_command
from trainshed.toolkits.today import gang_variables, process_variables, rendezvous_port

_MEMBER = "tensorFlowSettings"
_FIRST_PORT = 2222
_LOOPBACK = "127."


@dataclass(frozen=True, slots=True)
class _Task:
    """One process of the cluster: ``ps`` or ``worker``, its index in that role, where it runs and listens."""

    role: str
    index: int
    host: int
    port: int


def plan(settings: Mapping[str, Any], gang: Gang) -> LaunchPlan:
    """Worker i and parameter server i on node i mod N. The job ends with its workers, or with its chief where the
    master is one (masterRole, as ParameterServerStrategy wants); the others are then stopped.

    Raises PlanError for counts that the nodes do not allow.
    """
    nodes = len(gang.hosts)
    tasks = _tasks(*_counts(settings, gang), gang)
    addresses = {
        role: [f"{gang.hosts[task.host].address}:{task.port}" for task in tasks if task.role == role]
        for role in ("ps", "worker")
    }
    workers = [task for task in tasks if task.role == "worker"]
    chief = settings.get("masterRole") == "Chief"
    slots = tuple(sum(1 for task in workers if task.host == host) for host in range(nodes))
    common = {
        "AZ_BATCHAI_PS_HOSTS": ",".join(addresses["ps"]),
        "AZ_BATCHAI_WORKER_HOSTS": ",".join(addresses["worker"]),
        **gang_variables(gang, len(workers)),
    }
    processes = tuple(_process(task, settings, addresses, workers, chief) for task in tasks)
    return LaunchPlan(processes=processes, environment=common, slots=slots)


def _counts(settings: Mapping[str, Any], gang: Gang) -> tuple[int, int]:
    """Workers and parameter servers."""
    nodes = len(gang.hosts)
    given = settings.get("workerCount")
    workers = nodes if given is None else int(given)
    wanted = settings.get("parameterServerCount")
    # A single worker on a single node needs none; a distributed job has one unless it says otherwise.
    servers = (1 if nodes > 1 or workers > 1 else 0) if wanted is None else int(wanted)
    if workers < 1:
        raise PlanError(f"{_MEMBER}.workerCount is {workers}: a job needs at least one worker")
    if servers > nodes:
        raise PlanError(
            f"{_MEMBER}.parameterServerCount is {servers}: at most one a node, and the job has {nodes} nodes"
        )
    gpus = min(host.gpus for host in gang.hosts)
    if gpus and workers > nodes * gpus:
        raise PlanError(
            f"{_MEMBER}.workerCount is {workers}: at most nodeCount x GPUs of a node, which is {nodes * gpus}"
        )
    return workers, servers


def _tasks(workers: int, servers: int, gang: Gang) -> list[_Task]:
    nodes = len(gang.hosts)
    shared = gang.hosts[0].address.startswith(_LOOPBACK)
    # Ports of the attempt's own then, after the one that is its MASTER_PORT.
    ports = [rendezvous_port(gang.attempt_id) + 1 if shared else _FIRST_PORT] * nodes
    tasks = []
    for role, count in (("ps", servers), ("worker", workers)):
        for index in range(count):
            host = index % nodes
            tasks.append(_Task(role, index, host, ports[host]))
            if shared:
                ports = [ports[host] + 1] * nodes
            else:
                ports[host] += 1
    return tasks


def _process(
    task: _Task,
    settings: Mapping[str, Any],
    addresses: Mapping[str, Sequence[str]],
    workers: Sequence[_Task],
    chief: bool,
) -> Process:
    is_server = task.role == "ps"
    member = (
        "parameterServerCommandLineArgs"
        if is_server
        else "masterCommandLineArgs"
        if task.index == 0
        else "workerCommandLineArgs"
    )
    environment = {"AZ_BATCHAI_TASK_INDEX": str(task.index), "TF_CONFIG": _tf_config(task, addresses, chief)}
    if not is_server:
        beside = [other for other in workers if other.host == task.host]
        environment |= process_variables(Place(task.index, task.host, beside.index(task), len(beside)))
    stdout, stderr = task_logs("ps" if is_server else "wk", task.index)
    return Process(
        host=task.host,
        role="ps" if is_server else "master" if task.index == 0 else "worker",
        index=task.index,
        command_line=python_command(settings, settings.get(member) or ""),
        environment=environment,
        stdout=stdout,
        stderr=stderr,
        # Workers of a chief serve it, as parameter servers do, and never end by themselves.
        essential=not is_server and (task.index == 0 or not chief),
    )


def _tf_config(task: _Task, addresses: Mapping[str, Sequence[str]], chief: bool) -> str:
    """TF_CONFIG. With a chief, worker 0 is it, and the other workers count from 0 again: TensorFlow's own numbering."""
    import json  # loaded for TensorFlow only: what runs on nodes stays light

    role, index = task.role, task.index
    cluster = {name: list(found) for name, found in addresses.items()}
    if chief:
        cluster = {"chief": cluster["worker"][:1], **cluster, "worker": cluster["worker"][1:]}
        if role == "worker":
            role, index = ("chief", 0) if index == 0 else ("worker", index - 1)
    config = {
        "cluster": {name: found for name, found in cluster.items() if found},
        "task": {"type": role, "index": index},
        "environment": "cloud",
    }
    return json.dumps(config, separators=(",", ":"))
