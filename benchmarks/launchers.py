"""What starting an MPI or torchrun job through Trainshed costs beside the same launcher by hand on the same addresses.

Both sides run one script: it says when its first collective operation was done, and how many allreduces a second it
makes in the seconds after that. By hand the launch agent is a line of shell, as quick as ssh can be.

The sides take turns at being first, and are compared pair by pair: a machine that is busy for a while slows both of a
pair. While a job runs nobody asks the service anything: its log is followed, on one connection.
"""

from __future__ import annotations

import importlib.util
import json
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.jobs import cluster_id
from benchmarks.service import PATIENCE, Bench, environment
from trainshed.resources.toolsettings import TOOL_TYPES

#: Pairs of runs, after one that fills the caches.
RUNS = 7
#: Aims: seconds of start-up, and the part of the throughput.
START_AIM, PACE_AIM = 1.0, 0.98
#: For so many seconds allreduces are counted.
SECONDS = 3.0
_LOOP = """
import json, sys, time
import numpy as np
{set_up}
reduce(np.ones(20_000))
first = time.time()
started, rounds, over = time.perf_counter(), 0, False
while not over:
    for _ in range(100):
        reduce(np.ones(20_000))
    rounds += 100
    # All stop after the same round.
    over = reduce(np.full(20_000, float(time.perf_counter() - started > {seconds})))[0] > 0
if rank == 0:
    print("measured", json.dumps([first, rounds / (time.perf_counter() - started)]), flush=True)
{end}
"""
_MPI = _LOOP.format(
    set_up="from mpi4py import MPI; rank = MPI.COMM_WORLD.rank; total = np.empty(20_000)\n"
    "def reduce(part): MPI.COMM_WORLD.Allreduce(part, total); return total",
    end="",
    seconds=SECONDS,
)
# Gloo may abort in the interpreter's own end; leaving at once avoids it.
_TORCH = _LOOP.format(
    set_up="import os, torch, torch.distributed as dist; dist.init_process_group('gloo'); rank = dist.get_rank()\n"
    "def reduce(part): dist.all_reduce(torch.from_numpy(part)); return part",
    seconds=SECONDS,
    end="dist.barrier(); sys.stdout.flush(); os._exit(0)",
)
#: What MPI and gloo need to stay on loopback addresses; Trainshed sets the same for its jobs.
_NETWORK = {
    "MPIR_CVAR_CH4_NETMOD": "ofi",
    "FI_PROVIDER": "tcp",
    "FI_TCP_IFACE": "lo",
    "GLOO_SOCKET_IFNAME": "lo",
    "UCX_TLS": "tcp,self",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds until the first collective operation was done, and allreduces a second."""

    start: float
    pace: float


def report(bench: Bench) -> None:
    """Print the figures of this module."""
    with tempfile.TemporaryDirectory(prefix="trainshed-bench-") as name:
        folder = Path(name)
        agent = folder / "agent"
        agent.write_text('#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift; done\nshift\nexec sh -c "$*"\n')
        agent.chmod(0o755)
        hosts = _addresses(bench)
        print(f"launchers (2 nodes, one rank each; median of {RUNS} pairs with the same by hand)")
        if (Path(sys.executable).parent / "mpiexec.hydra").exists():
            script = _write(folder / "reduce_mpi.py", _MPI)
            settings = {"customMpiSettings": {"commandLine": f"{sys.executable} {script}"}}
            command = ["mpiexec", "-launcher", "ssh", "-launcher-exec", str(agent), "-iface", "lo"]
            command += ["-hosts", ",".join(hosts), "-n", "2", sys.executable, script]
            _compare("mpirun (MPICH)", lambda tag: _job(bench, tag, settings), lambda: _by_hand([command]))
        else:
            print("  mpirun: not measured, since there is no MPICH (pip install mpich)")
        if "torchrunSettings" in TOOL_TYPES and importlib.util.find_spec("torch"):
            script = _write(folder / "reduce_torch.py", _TORCH)
            torch_settings = {
                "torchrunSettings": {"pythonScriptFilePath": script, "pythonInterpreterPath": sys.executable}
            }
            _compare("torchrun", lambda tag: _job(bench, tag, torch_settings), lambda: _by_hand(_agents(hosts, script)))
        else:
            print("  torchrun: not measured, since there is no PyTorch or this version has no such toolkit")


def _compare(title: str, through: Callable[[str], Measured], by_hand: Callable[[], Measured]) -> None:
    tag = title.split()[0]
    pairs: list[tuple[Measured, Measured]] = []
    for index in range(RUNS + 1):
        first = by_hand() if index % 2 else None
        ours = through(f"{tag}-{index}")
        pairs.append((ours, first or by_hand()))
    del pairs[0]
    starts = [statistics.median(side.start for side in sides) for sides in zip(*pairs, strict=True)]
    paces = [statistics.median(side.pace for side in sides) for sides in zip(*pairs, strict=True)]
    later = sorted(ours.start - theirs.start for ours, theirs in pairs)
    ratios = sorted(ours.pace / theirs.pace for ours, theirs in pairs)
    print(
        f"  {title}: first collective after {starts[0]:.2f} beside {starts[1]:.2f} s, difference "
        f"{statistics.median(later):+.2f} s ({later[0]:+.2f} to {later[-1]:+.2f}; aim {START_AIM:g})"
    )
    print(
        f"    {paces[0]:.0f} beside {paces[1]:.0f} allreduces/s, ratio {statistics.median(ratios):.3f} "
        f"({ratios[0]:.3f} to {ratios[-1]:.3f}; aim {PACE_AIM:g})"
    )


def _job(bench: Bench, tag: str, settings: dict[str, Any]) -> Measured:
    name = f"launched-{tag}".lower()
    properties = {
        "nodeCount": 2,
        "cluster": {"id": cluster_id(bench.client)},
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
        **settings,
    }
    submitted = time.time()
    bench.client.jobs.create(name, properties, wait=False)
    for _ in bench.client.jobs.stream_log(name, "execution.log"):
        pass  # until the job has ended
    job = bench.client.jobs.wait(name, interval=0.1, timeout=PATIENCE)
    assert job.execution_state.value == "succeeded", job
    segment = job.properties["jobOutputDirectoryPathSegment"]
    logs = next((bench.home / "clusters").glob(f"*/mounts/logs/{segment}/stdouterr"))
    return _read("".join(file.read_text() for file in logs.glob("stdout*.txt")), submitted)


def _by_hand(commands: list[list[str]]) -> Measured:
    started = time.time()
    variables = {**environment(), **_NETWORK}
    running = [
        subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for command in commands
    ]
    told = "".join(process.communicate(timeout=PATIENCE)[0] for process in running)
    failed = [shlex.join(process.args) for process in running if process.returncode]  # type: ignore[arg-type]
    assert not failed, f"failed by hand: {failed}"
    return _read(told, started)


def _agents(hosts: list[str], script: str) -> list[list[str]]:
    with socket.socket() as probe:
        probe.bind((hosts[0], 0))
        port = probe.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-id=bench"]
    launcher += ["--rdzv-backend=c10d", f"--rdzv-endpoint={hosts[0]}:{port}"]
    return [
        [*launcher, f"--rdzv-conf=is_host={int(node == 0)}", f"--local-addr={host}", script]
        for node, host in enumerate(hosts)
    ]


def _addresses(bench: Bench) -> list[str]:
    """Those of the cluster's two nodes, as a job sees them."""
    client = bench.client
    client.jobs.create(
        "addresses",
        {
            "nodeCount": 2,
            "cluster": {"id": cluster_id(client)},
            "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
            "customToolkitSettings": {"commandLine": "echo $AZ_BATCH_HOST_LIST"},
        },
    )
    client.jobs.wait("addresses", interval=0.1, timeout=PATIENCE)
    return b"".join(client.jobs.stream_log("addresses")).decode().strip().split(",")


def _read(output: str, since: float) -> Measured:
    line = next(line for line in output.splitlines() if line.startswith("measured "))
    first, pace = json.loads(line.removeprefix("measured "))
    return Measured(first - since, pace)


def _write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)
