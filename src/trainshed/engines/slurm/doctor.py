"""What a Slurm site has and lacks for the engine, and what makes it slow (``trainshed doctor``).

A few small jobs are submitted: one shows what a node sees, the others how long Slurm takes to start anything.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

from trainshed.engines.checks import Check
from trainshed.engines.protocol import EngineUnavailable, NodeCondition
from trainshed.engines.slurm.commands import Commands, Refused
from trainshed.engines.slurm.doctor_afar import what_a_node_reaches
from trainshed.engines.slurm.node.start import OLDEST
from trainshed.engines.slurm.parsing import NodeLine, parse_version
from trainshed.engines.slurm.reasons import condition_of
from trainshed.engines.slurm.settings import SlurmSettings
from trainshed.engines.slurm.site import Site

#: Oldest version whose commands are known to say what the engine reads.
_OLDEST_SLURM = (22, 5)
#: Jobs whose start is measured, and seconds that one may take.
_PROBES, _PROBE_SECONDS = 3, 30.0
#: Seconds from submission to start above which a site is slow at it.
_SLOW_SECONDS = 1.0
#: Each with Slurm's default in seconds: SchedulerParameters that delay the start of small jobs.
_DELAYS: Mapping[str, int] = {"batch_sched_delay": 3, "bf_interval": 30}
_FAST = "SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=2 and Epilog=/bin/true"
#: Seconds for which Slurm holds a requeued job by default.
_CREDENTIAL_SECONDS = 120


async def examine(
    settings: SlurmSettings, environment: Mapping[str, str] = os.environ, own: Path | None = None
) -> list[Check]:
    """Every check; the first that fails may make others pointless. ``own``: the engine's directory, where nodes share
    none with this machine.
    """
    site = Site(commands := Commands(settings.ssh, settings.seconds, environment))
    if settings.relay is not None and own is not None:
        return await _examine_from_afar(settings, site, commands, own)
    directory = _directory(settings)
    try:
        version, config, nodes = await site.version(), await site.config(), await site.nodes()
    except EngineUnavailable as error:
        mend = "scontrol ping; systemctl status slurmctld munge (on the controller and on this machine)"
        return [Check("slurm", False, error.reason.text, mend), directory]
    checks = [_version(version, config, commands), directory, _nodes(settings, nodes)]
    if directory.ok and checks[-1].ok:
        checks.append(await _what_a_node_sees(settings, commands))
        checks.append(await _speed(settings, site, config))
    return [*checks, _requeue(config)]


async def _examine_from_afar(settings: SlurmSettings, site: Site, commands: Commands, own: Path) -> list[Check]:
    try:
        version, config, nodes = await site.version(), await site.config(), await site.nodes()
    except EngineUnavailable as error:
        mend = "scontrol ping; systemctl status slurmctld munge (on the controller and on this machine)"
        return [Check("slurm", False, error.reason.text, mend)]
    checks = [_version(version, config, commands), _nodes(settings, nodes)]
    if checks[-1].ok:
        checks.append(await what_a_node_reaches(settings, commands, own, _small(settings)))
    slow = _what_delays(config)
    if slow:
        checks.append(Check("time to start", False, ", ".join(slow), f"in slurm.conf: {_FAST}", needed=False))
    return [*checks, _requeue(config)]


def _version(version: str, config: Mapping[str, str], commands: Commands) -> Check:
    detail = f"{version}, cluster {config.get('ClusterName', '?')}, commands on {commands.place}"
    known = parse_version(version)
    if known is not None and known < _OLDEST_SLURM:
        return Check("slurm", False, detail, "use Slurm 22.05 or later")
    return Check("slurm", True, detail)


def _directory(settings: SlurmSettings) -> Check:
    path = Path(settings.directory)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = path / f".doctor-{secrets.token_hex(4)}"
        probe.touch(0o600)
        probe.unlink()
    except OSError as error:
        mend = f"mount the file system that Slurm's nodes share, then: install -d -m 700 -o {os.geteuid()} {path}"
        return Check("shared directory", False, f"{path} cannot be written here: {error.strerror}", mend)
    return Check("shared directory", True, f"{path} can be written here")


def _nodes(settings: SlurmSettings, nodes: list[NodeLine]) -> Check:
    wanted = settings.defaults.get("partition", "")
    fitting = [n for n in nodes if (n.partition.rstrip("*") in wanted.split(",") if wanted else n.partition[-1] == "*")]
    names = ", ".join(sorted({node.partition.rstrip("*") for node in nodes}))
    if not fitting:
        what = f"there is no partition {wanted}" if wanted else "there is no default partition"
        return Check("partition", False, f"{what}; there are: {names}", "set the engine's cluster to partition=NAME")
    usable = sum(1 for node in fitting if (told := condition_of(node)) and told[0] is NodeCondition.READY)
    detail = f"{fitting[0].partition.rstrip('*')}: {len(fitting)} nodes, {usable} ready (partitions: {names})"
    return Check("partition", True, detail)


async def _what_a_node_sees(settings: SlurmSettings, commands: Commands) -> Check:
    """The directory, the interpreter and the node's own directory, by a job of a moment."""
    name, word = "a node", secrets.token_hex(8)
    probe = Path(settings.directory, f".doctor-{secrets.token_hex(4)}")
    _put(probe, word)
    setup = f"{settings.setup}\n" if settings.setup else ""
    own = settings.node_directory.replace("%n", "$SLURMD_NODENAME")
    script = (
        f"#!/bin/bash\n{setup}cat {probe}; echo; {settings.python} -c 'import sys; print(*sys.version_info[:2])'; "
        f"test -w {own} && echo writable; touch {probe}.back && echo back\n"
    )
    try:
        told = await commands.run("srun", *_small(settings), "--immediate=10", "--nodes=1", "bash", "-c", script)
    except (Refused, EngineUnavailable) as error:
        text = error.reason.text if isinstance(error, EngineUnavailable) else str(error)
        return Check(name, False, f"not tried, no node was free for it: {text[:200]}", "srun hostname", needed=False)
    finally:
        back = _take(Path(f"{probe}.back"))
        _take(probe)
    lines = told.split("\n")
    if word not in lines or not back:
        mend = "mount the same file system there under the same path, writable for the service's user"
        return Check(name, False, f"it does not see {settings.directory} as this machine does", mend)
    found = next((tuple(map(int, line.split())) for line in lines if re.fullmatch(r"\d+ \d+", line)), None)
    if found is None or found < OLDEST:
        what = "has none" if found is None else f"has {found[0]}.{found[1]}"
        mend = "set the engine's 'python' to one of 3.11 or later, or 'setup' to what loads it"
        return Check(name, False, f"its {settings.python} must be Python 3.11 or later; it {what}", mend)
    if "writable" not in lines:
        return Check(name, False, f"{settings.node_directory} is not writable there", "set the engine's node_directory")
    return Check(name, True, f"it sees {settings.directory}; {settings.python} is {found[0]}.{found[1]}")


async def _speed(settings: SlurmSettings, site: Site, config: Mapping[str, str]) -> Check:
    """From ``sbatch`` to the first line of a job that nothing keeps from starting."""
    name = "time to start"
    slow = _what_delays(config)
    try:
        seconds = [await _start_seconds(settings, site) for _ in range(_PROBES)]
    except (Refused, EngineUnavailable) as error:
        return Check(name, False, f"not measured: {error}", "sbatch --wrap=true", needed=False)
    known = [one for one in seconds if one is not None]
    if not known:
        return Check(name, True, "not measured: no node was free at once")
    median = statistics.median(known)
    detail = f"{median:.1f} s from sbatch to the first line (median of {len(known)})"
    if median <= _SLOW_SECONDS and not slow:
        return Check(name, True, detail)
    why = f"; {', '.join(slow)}" if slow else ""
    return Check(name, median <= _SLOW_SECONDS, detail + why, f"in slurm.conf: {_FAST}", needed=False)


def _what_delays(config: Mapping[str, str]) -> list[str]:
    parameters = dict(part.partition("=")[::2] for part in config.get("SchedulerParameters", "").split(","))
    found = []
    for name, usual in _DELAYS.items():
        value = parameters.get(name, str(usual))
        if value.isdigit() and int(value) >= usual:
            found.append(f"{name} is {value} s")
    if "(null)" in config.get("Epilog", "(null)") and "Epilog[0]" not in config:
        found.append("without an Epilog a job that ended is noticed at the controller's next tick only")
    return found


async def _start_seconds(settings: SlurmSettings, site: Site) -> float | None:
    """None when it did not start in time."""
    mark = Path(settings.directory, f".doctor-{secrets.token_hex(4)}")
    begin = time.monotonic()
    job = await site.submit(
        ["--parsable", *_small(settings), "--nodes=1", "--output=/dev/null"],
        f"#!/bin/sh\ntouch {mark}\n",
    )
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            while not _take(mark):  # noqa: ASYNC110 - a file of another machine: nobody tells
                await asyncio.sleep(0.02)
        return time.monotonic() - begin
    except TimeoutError:
        await site.cancel([job])
        _take(mark)
        return None


def _put(path: Path, text: str) -> None:
    path.write_text(text)


def _take(path: Path) -> bool:
    """Remove the file; whether it was there."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _small(settings: SlurmSettings) -> list[str]:
    options = settings.options({}).sbatch
    return ["--job-name=trainshed-doctor", "--ntasks=1", "--time=1", "--chdir=/", *(f"--{n}={v}" for n, v in options)]


def _requeue(config: Mapping[str, str]) -> Check:
    """How long a job that lost a node waits before Slurm starts it again."""
    found = re.search(r"cred_expire=(\d+)", config.get("AuthInfo", ""))
    seconds = int(found[1]) if found else _CREDENTIAL_SECONDS
    detail = f"after a lost node or pre-emption a job waits {seconds} s (cred_expire) before Slurm starts it again"
    if seconds < _CREDENTIAL_SECONDS:
        return Check("requeue", True, detail)
    return Check("requeue", False, detail, "in slurm.conf: AuthInfo=cred_expire=30", needed=False)
