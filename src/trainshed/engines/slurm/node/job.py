"""A Slurm job on its first node: which attempt this run of it carries out, on which nodes, and its start on each.

Slurm may run a job several times (a node failed, it was pre-empted). Each run belongs to the attempt that the service
gave for it, and waits until there is one; what is left of the run before has to be gone by then.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainshed.engines.slurm.node import places
from trainshed.engines.slurm.node.places import LOOK_AGAIN, Places, Ticket
from trainshed.engines.slurm.node.start import CANNOT_START, FLAGS
from trainshed.engines.slurm.node.turns import Turns

# A job that finds nothing to carry out loads no more than this: the runner comes where there is something.
if TYPE_CHECKING:
    from trainshed.engines.slurm.node.own import Own

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
            return _lead(Turns(Path(folder), slurm), slurm)
        case ["member", folder, index]:
            from trainshed.engines.slurm.node.own import Own
            from trainshed.engines.slurm.node.watch import Watch

            secret = json.loads(sys.stdin.readline() or "{}")
            order = places.read(Path(folder))
            hosts = places.read(Places(Path(order["root"])).attempt(order["spec"]["attempt_id"]).hosts)
            own = Own(order["node_directory"], slurm)
            try:
                return Watch(order, hosts, int(slurm.get("SLURM_PROCID", index)), secret, slurm, own).run()
            finally:
                own.close()
    sys.stderr.write("usage: start.py lead TICKET | member ORDER INDEX\n")
    return CANNOT_START


def _lead(turns: Turns, slurm: dict[str, str]) -> int:
    ticket, code = turns.first(), 0
    own: Own | None = None
    if ticket is None:
        print(f"trainshed: others carry out what job {turns.job} was for, so it runs nothing", flush=True)
        return 0
    from trainshed.engines.slurm.node.own import Own
    from trainshed.engines.slurm.node.watch import Watch

    try:
        while ticket is not None:
            ticket, order = _order(ticket, turns)
            if order is None:
                told = f"the service has not said within {ORDER_SECONDS:g} s what run {turns.run} is to do"
                print(f"trainshed: {told}", flush=True)
                return CANNOT_START
            turns.begins(order)
            secret = _take_secret(ticket, turns.run)
            hosts = _begin(ticket, order, turns, slurm)
            if len(hosts["hosts"]) > 1:
                return _start_members(ticket, order, secret, slurm)
            own = own or Own(order["node_directory"], slurm)
            watch = Watch(order, hosts, 0, secret, slurm, own)
            code = watch.run()
            ticket = turns.following() if watch.succeeded and not watch.asked else None
    finally:
        if own is not None:
            own.close()
    return code


def _take_secret(ticket: Ticket, run: int) -> dict[str, Any]:
    """Nobody reads it a second time."""
    secret = places.read(ticket.private(run)) or {}
    ticket.private(run).unlink(missing_ok=True)
    return dict(secret)


def _begin(ticket: Ticket, order: dict[str, Any], turns: Turns, slurm: dict[str, str]) -> dict[str, Any]:
    """Once nothing of an earlier run lives; on which nodes, which the service learns too."""
    from trainshed.engines.slurm.node import nodes

    places.write(ticket.fence, turns.run)
    if turns.run:
        _wait_for_former(Places(Path(order["root"])), order)
    found = [asdict(host) for host in nodes.hosts(slurm, order)]
    hosts = {"hosts": found, "started_at": time.time_ns() // 1_000_000, "slurm_job": turns.job}
    places.write(Places(Path(order["root"])).attempt(order["spec"]["attempt_id"]).hosts, hosts)
    return hosts


def _order(ticket: Ticket, turns: Turns) -> tuple[Ticket, dict[str, Any] | None]:
    until = time.monotonic() + ORDER_SECONDS
    while time.monotonic() < until and ticket.folder.is_dir():
        if places.is_there(ticket.order(turns.run)) and (order := places.read(ticket.order(turns.run))) is not None:
            return ticket, dict(order)
        time.sleep(LOOK_AGAIN)
        ticket = turns.still(ticket)
    return ticket, None


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
    from trainshed.engines.slurm.node.members import run_members

    run = int(slurm.get("SLURM_RESTART_COUNT") or 0)
    attempt = Places(Path(order["root"])).attempt(order["spec"]["attempt_id"])
    start = str(Path(__file__).with_name("start.py"))

    def hear(message: dict[str, Any]) -> None:
        with suppress(OSError):
            places.append(attempt.heard, message)

    program = [sys.executable, *FLAGS, start, "member", str(ticket.order(run)), "0"]
    return run_members(order, slurm, program, f"{json.dumps(secret)}\n", hear)
