"""A Slurm job whose nodes share no file system with the service: started by ``boot``, it calls the service (``line``).

What the shared directory would hold is kept on each node, in a folder of this run, and told to the service: so the
process that watches the runner (``watch``) is the same. The process here outlives it, to report.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from trainshed.engines.slurm.node import nodes
from trainshed.engines.slurm.node.line import LATER, Away, Gone, Line, Relay, Wrong
from trainshed.engines.slurm.node.members import run_members
from trainshed.engines.slurm.node.own import Own, own_directory, take_own
from trainshed.engines.slurm.node.places import Places
from trainshed.engines.slurm.node.reporting import Reporter
from trainshed.engines.slurm.node.runners import drop_unused
from trainshed.engines.slurm.node.start import CANNOT_START
from trainshed.engines.slurm.node.watch import Watch
from trainshed.runner import linux
from trainshed.runner.code import blob_path

#: Seconds for which a run waits for the service; nothing runs yet meanwhile.
ORDER_SECONDS = 600.0
_PAUSE = 0.5


def main(role: str, arguments: Sequence[str], token: str) -> int:
    """Exit code of the job, or of one task of it. ``arguments``: those of ``boot``."""
    _, host, port, fingerprint, ticket, _, _ = arguments
    slurm = {name: value for name, value in os.environ.items() if name.startswith(("SLURM", "SRUN", "PMI", "SBATCH"))}
    for name in (*slurm, "ENVIRONMENT"):
        os.environ.pop(name, None)
    relay = Relay(host, int(port), fingerprint, ticket, token)
    try:
        if role == "lead":
            return _lead(relay, arguments, slurm)
        told = json.loads(sys.stdin.readline())
        index = int(slurm["SLURM_PROCID"])
        return carry_out(relay, told["order"], told["hosts"], index, told["secret"], slurm)
    except (Gone, Away, Wrong, OSError) as error:
        text = f"trainshed: {type(error).__name__}: {error}\n"
        sys.stderr.write(text)
        with suppress(Gone, Away, Wrong):
            Line(relay).tell("said", {"text": text})
        return 0 if isinstance(error, Gone) else CANNOT_START


def _lead(relay: Relay, arguments: Sequence[str], slurm: dict[str, str]) -> int:
    line = Line(relay)
    run, job = int(slurm.get("SLURM_RESTART_COUNT") or 0), slurm["SLURM_JOB_ID"]
    begun = _begin(line, job, run)
    order, secret = begun["order"], begun["secret"]
    found = [asdict(host) for host in nodes.hosts(slurm, order)]
    hosts = {"hosts": found, "started_at": time.time_ns() // 1_000_000, "slurm_job": job}
    line.insist("hosts", {"run": run, "hosts": hosts}, time.monotonic() + ORDER_SECONDS)
    if len(found) == 1:
        line.close()
        return carry_out(relay, order, hosts, 0, secret, slurm)
    return _start_members(line, relay, arguments, {"order": order, "hosts": hosts, "secret": secret}, slurm)


def _begin(line: Line, job: str, run: int) -> dict[str, Any]:
    """Once the service has said what to do, and the run before is dead. Raises Gone, Away, Wrong."""
    until = time.monotonic() + ORDER_SECONDS
    while True:
        try:
            status, answer = line.tell("begin", {"job": job, "run": run})
            if status != LATER:
                return answer
            if "not said" not in answer["wait"]:
                until = time.monotonic() + ORDER_SECONDS
            elif time.monotonic() > until:
                raise Wrong(f"the service has not said within {ORDER_SECONDS:g} s what run {run} is to do")
        except Away:
            if time.monotonic() > until:
                raise
        time.sleep(_PAUSE)


def _start_members(
    line: Line, relay: Relay, arguments: Sequence[str], told: dict[str, Any], slurm: dict[str, str]
) -> int:
    run, order = int(slurm.get("SLURM_RESTART_COUNT") or 0), told["order"]
    boot = Path(__file__).with_name("boot.py").read_text()

    def hear(message: dict[str, Any]) -> None:
        with suppress(Gone, Away, Wrong):
            line.insist("heard", {"run": run, "message": message}, time.monotonic() + order["ending"]["grace"])

    program = [sys.executable, "-c", boot, "member", *arguments[1:]]
    return run_members(order, slurm, program, f"{relay.token}\n{json.dumps(told)}\n", hear)


def carry_out(
    relay: Relay,
    order: dict[str, Any],
    hosts: dict[str, Any],
    index: int,
    secret: dict[str, Any],
    slurm: dict[str, str],
) -> int:
    """One node's part, to the moment at which the service has all of it. Raises OSError, Gone, Away, Wrong."""
    run = int(slurm.get("SLURM_RESTART_COUNT") or 0)
    name = f"{slurm['SLURM_JOB_ID']}-{run}-afar"
    folder = own_directory(order["node_directory"], slurm) / name
    lock, own = take_own(folder), None
    try:
        drop_unused(folder.parent / "runner")
        order = _localised(order, folder)
        _fetch_code(relay, order, run)
        root = Places(Path(order["root"]))
        attempt = root.attempt(order["spec"]["attempt_id"])
        own = Own(order["node_directory"], slurm)
        watch = Watch(order, hosts, index, secret, slurm, own)
        reporter = Reporter(relay, order, attempt, Path(order["ticket"], "fence"), watch.spec, run, slurm)
        if order["spec"]["attempt_number"] > 1:
            reporter.seed_logs()
        reporter.begin(time.monotonic() + ORDER_SECONDS)
        linux.become_subreaper()
        child = os.fork()
        if child == 0:
            try:
                linux.set_parent_death_signal(signal.SIGKILL)
                code = watch.run()
                own.close()
                os._exit(code)
            finally:
                os._exit(CANNOT_START)
        secret.clear()
        return reporter.run(child)
    finally:
        if own is not None:
            own.close()
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _localised(order: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The order with the paths of this node. Raises OSError."""
    root = Places(folder / "kept")
    root.make()
    ticket, attempt = root.ticket("job"), root.attempt(order["spec"]["attempt_id"])
    mounts = folder / "mounts"
    for made in (ticket.folder, attempt.folder, attempt.shared, mounts):
        made.mkdir(mode=0o700, parents=True, exist_ok=True)
    attempt.told.touch(0o600)
    spec = {**order["spec"], "shared_apart": True}
    spec["directories"] = {**spec["directories"], "mount_root": str(mounts)}
    if spec["code_store"] is not None:
        spec["code_store"] = str(attempt.code)
    return {**order, "root": str(root.root), "ticket": str(ticket.folder), "spec": spec}


def _fetch_code(relay: Relay, order: dict[str, Any], run: int) -> None:
    store = order["spec"]["code_store"]
    line, until = Line(relay), time.monotonic() + ORDER_SECONDS
    wanted = {entry["sha256"] for entry in (order["spec"]["code_manifest"] or {}).values()}
    for digest in sorted(wanted) if store is not None else ():
        target = Path(blob_path(store, digest))
        line.again(partial(line.fetch, f"code/{digest}?run={run}", digest, target), until)
    line.close()
