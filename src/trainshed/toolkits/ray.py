"""Ray: a cluster over the gang. The head and the driver script run on the first node, workers join from the others.

The script connects by itself (``ray.init()`` reads RAY_ADDRESS). The job ends with the script, and the cluster with it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from trainshed.resources.directories import rank_logs
from trainshed.toolkits.launch import Gang, Host, LaunchPlan, PlanError, Process
from trainshed.toolkits.python import interpreter, python_command
from trainshed.toolkits.today import gang_variables, rendezvous_port

_MEMBER = "raySettings"
#: Seconds in which the whole cluster must stand.
_PATIENCE = 120
#: Ends with 0 as soon as all nodes have joined.
_ALL_JOINED = """import sys, time, ray
ray.init(log_to_driver=False, logging_level="ERROR")
end = time.monotonic() + {patience}
while (joined := sum(node["Alive"] for node in ray.nodes())) < {nodes}:
    if time.monotonic() > end:
        sys.exit(f"{{joined}} of {nodes} nodes joined the Ray cluster within {patience} s: see the other nodes' stderr")
    time.sleep(0.1)
"""


def plan(settings: Mapping[str, Any], gang: Gang) -> LaunchPlan:
    """Head and script on host 0, ``ray start`` on the others. Raises PlanError without a script."""
    if not settings.get("pythonScriptFilePath"):
        raise PlanError(f"{_MEMBER}.pythonScriptFilePath is missing: give the script to run")
    port = rendezvous_port(gang.attempt_id)
    address = f"{gang.hosts[0].address}:{port}"
    ray = f"{interpreter(settings)} -m ray.scripts.scripts start"
    head = Process(host=0, role="head", index=0, command_line=_head(settings, gang, ray, port))
    workers = []
    for index, host in enumerate(gang.hosts[1:], start=1):
        stdout, stderr = rank_logs(index)
        line = f"{_wait_for(gang.hosts[0].address, port)} && exec {ray} --address={address} {_resources(host)} --block"
        workers.append(Process(index, "worker", index, line, {}, stdout, stderr, essential=False))
    common = {
        **gang_variables(gang),
        "RAY_ADDRESS": address,
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    return LaunchPlan(processes=(head, *workers), environment=common, slots=(1,) * len(gang.hosts))


def _head(settings: Mapping[str, Any], gang: Gang, ray: str, port: int) -> str:
    """Start the head, wait for the others, run the script; its exit code is the job's.

    Ray makes sockets below its directory, whose paths may have 107 characters: a short one, removed at the end.
    """
    joined = _ALL_JOINED.format(patience=_PATIENCE, nodes=len(gang.hosts))
    return "\n".join(
        (
            "ray_directory=$(mktemp -d /tmp/ray.XXXXXX) || exit 1",
            "trap 'rm -rf \"$ray_directory\"' EXIT",
            f"env -u RAY_ADDRESS {ray} --head --port={port} {_resources(gang.hosts[0])} --include-dashboard=false"
            ' --temp-dir="$ray_directory" >&2 || exit 1',
            f"{interpreter(settings)} -c {shlex.quote(joined)} || exit 1",
            python_command(settings),
        )
    )


def _resources(host: Host) -> str:
    return f"--node-ip-address={host.address} --num-cpus={host.cpus} --num-gpus={host.gpus}"


def _wait_for(address: str, port: int) -> str:
    """Until the head listens; Ray itself gives up after a few seconds."""
    return (
        f"for try in {{1..{_PATIENCE * 5}}}; do (exec 3<>/dev/tcp/{address}/{port}) 2>/dev/null && break; "
        f"[ $try -lt {_PATIENCE * 5} ] || {{ echo 'the Ray head at {address}:{port} does not answer' >&2; exit 1; }}; "
        "sleep 0.2; done"
    )
