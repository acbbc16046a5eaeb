"""A Slurm job on its first node: which attempt this run of it carries out, on which nodes, and its start on each.

Slurm may run a job several times (a node failed, it was pre-empted). Each run belongs to the attempt that the service
gave for it, and waits until there is one; what is left of the run before has to be gone by then.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainshed.engines.slurm.node import nodes, places
from trainshed.engines.slurm.node.places import Places, Ticket
from trainshed.engines.slurm.node.start import CANNOT_START
from trainshed.engines.slurm.node.watch import LOOK_AGAIN, Watch, warning

#: Seconds for which a run waits for the service to say what it is to carry out.
ORDER_SECONDS = 600.0


def main(arguments: list[str]) -> int:
    """Exit code of the job, or of one task of it."""
    # Programs that find themselves in a Slurm job use Slurm to start their ranks; the job's are the runners' to start.
    slurm = {name: value for name, value in os.environ.items() if name.startswith(("SLURM", "SRUN", "PMI", "SBATCH"))}
    for name in (*slurm, "ENVIRONMENT"):
        os.environ.pop(name, None)
    match arguments:
        case ["lead", folder]:
            return _lead(Ticket(Path(folder)), slurm)
        case ["member", folder, index]:
            secret = json.loads(sys.stdin.readline() or "{}")
            order = places.read(Path(folder))
            hosts = places.read(Places(Path(order["root"])).attempt(order["spec"]["attempt_id"]).hosts)
            return Watch(order, hosts, int(slurm.get("SLURM_PROCID", index)), secret, slurm).run()
    sys.stderr.write("usage: start.py lead TICKET | member ORDER INDEX\n")
    return CANNOT_START


def _lead(ticket: Ticket, slurm: dict[str, str]) -> int:
    run, job = int(slurm.get("SLURM_RESTART_COUNT") or 0), slurm["SLURM_JOB_ID"]
    if not _claim(ticket, job):
        print(f"trainshed: job {places.read(ticket.claim)} has this ticket, so job {job} runs nothing", flush=True)
        return 0
    order = _order(ticket, run)
    if order is None:
        print(f"trainshed: the service has not said within {ORDER_SECONDS:g} s what run {run} is to do", flush=True)
        return CANNOT_START
    secret = places.read(ticket.private(run)) or {}
    ticket.private(run).unlink(missing_ok=True)
    places.write(ticket.fence, run)
    if run:
        _wait_for_former(Places(Path(order["root"])), order)
    attempt = Places(Path(order["root"])).attempt(order["spec"]["attempt_id"])
    found = [asdict(host) for host in nodes.hosts(slurm, order)]
    hosts = {"hosts": found, "started_at": time.time_ns() // 1_000_000, "slurm_job": job}
    places.write(attempt.hosts, hosts)
    if len(found) == 1:
        return Watch(order, hosts, 0, secret, slurm).run()
    return _start_members(ticket, order, secret, slurm)


def _claim(ticket: Ticket, job: str) -> bool:
    """Whether the ticket is this job's. Two jobs have one ticket when a submission was taken for lost and was not."""
    try:
        descriptor = os.open(ticket.claim, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return str(places.read(ticket.claim)) == job
    except FileNotFoundError:
        return False  # The engine has given the ticket up.
    with os.fdopen(descriptor, "w") as out:
        json.dump(job, out)
    return True


def _order(ticket: Ticket, run: int) -> dict[str, Any] | None:
    until = time.monotonic() + ORDER_SECONDS
    while time.monotonic() < until and ticket.folder.is_dir():
        if places.is_there(ticket.order(run)) and (order := places.read(ticket.order(run))) is not None:
            return dict(order)
        time.sleep(LOOK_AGAIN)
    return None


def _wait_for_former(root: Places, order: dict[str, Any]) -> None:
    """Until each node of the run before has its outcome, or has not moved for a while: then it is dead.

    However long that takes: two at once are worse than none.
    """
    former = order.get("former")
    if former is None:
        return
    attempt = root.attempt(former["attempt_id"])
    patience = 4 * order["look_again"]
    seen: dict[int, tuple[float, float]] = {}
    while True:
        left = 0
        for index in range(former["nodes"]):
            if places.is_there(attempt.state(index) / "outcome.json"):
                continue
            with suppress(OSError):
                moved = attempt.alive(index).stat().st_mtime
                last, since = seen.get(index, (0.0, 0.0))
                if moved != last:
                    seen[index] = (moved, time.monotonic())
                left += moved != last or time.monotonic() - since < patience
        if not left:
            return
        time.sleep(LOOK_AGAIN)


def _start_members(ticket: Ticket, order: dict[str, Any], secret: dict[str, Any], slurm: dict[str, str]) -> int:
    """srun passes its standard input on to each task: so secrets are on no command line and in no file."""
    count, run = slurm["SLURM_JOB_NUM_NODES"], int(slurm.get("SLURM_RESTART_COUNT") or 0)
    started = subprocess.Popen(
        [
            "srun",
            f"--nodes={count}",
            f"--ntasks={count}",
            "--ntasks-per-node=1",
            "--kill-on-bad-exit=0",
            "--wait=0",
            "--mpi=none",
            "--cpu-bind=none",
            "--unbuffered",
            *order["srun"],
            sys.executable,
            str(Path(__file__).with_name("start.py")),
            "member",
            str(ticket.order(run)),
            "0",
        ],
        stdin=subprocess.PIPE,
        env={**os.environ, **slurm},
    )
    attempt = Places(Path(order["root"])).attempt(order["spec"]["attempt_id"])
    begun = time.monotonic()

    def warned(_number: int, _frame: object) -> None:
        # srun's tasks do not get what Slurm sends to the script alone.
        with suppress(OSError):
            places.append(attempt.heard, warning(order, time.monotonic() - begun))

    signal.signal(signal.SIGUSR2, warned)
    # Slurm sends it to srun and to the tasks too, which end as they should.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert started.stdin is not None
    with suppress(BrokenPipeError), started.stdin:
        started.stdin.write(json.dumps(secret).encode() + b"\n")
    code = started.wait()
    return code if code >= 0 else 128 - code
