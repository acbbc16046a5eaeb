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
from contextlib import suppress
from functools import partial
from pathlib import Path

from trainshed.engines.checks import Check
from trainshed.engines.protocol import EngineUnavailable, NodeCondition
from trainshed.engines.slurm.commands import Commands, Refused
from trainshed.engines.slurm.doctor_afar import what_a_node_reaches
from trainshed.engines.slurm.doctor_mpi import whether_srun_starts_ranks
from trainshed.engines.slurm.doctor_users import examine_users
from trainshed.engines.slurm.node.places import Places
from trainshed.engines.slurm.node.start import OLDEST
from trainshed.engines.slurm.parsing import NodeLine, parse_version
from trainshed.engines.slurm.reasons import condition_of
from trainshed.engines.slurm.settings import SlurmSettings
from trainshed.engines.slurm.site import Site, site_of

#: Oldest version whose commands are known to say what the engine reads.
_OLDEST_SLURM = (22, 5)
#: Jobs whose start is measured, and seconds that one may take.
_PROBES, _PROBE_SECONDS = 3, 30.0
#: Seconds for the job that shows what a node sees.
_NODE_SECONDS = 15.0
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
    site = site_of(settings, environment)
    try:
        if settings.relay is not None and own is not None:
            commands = Commands(settings.ssh, settings.seconds, environment)
            return await _examine_from_afar(settings, site, commands, own)
        return await _examine(settings, site)
    finally:
        await site.close()


async def _examine(settings: SlurmSettings, site: Site) -> list[Check]:
    directory = _directory(settings)
    try:
        version, config, nodes = await site.version(), await site.config(), await site.nodes()
    except EngineUnavailable as error:
        mend = "scontrol ping; systemctl status slurmctld munge (on the controller and on this machine)"
        if settings.rest_url:
            mend = "systemctl status slurmrestd; look at its log, and at the token: scontrol token"
        return [Check("slurm", False, error.reason.text, mend), directory]
    checks = [_version(version, config, site), directory, _nodes(settings, nodes)]
    if directory.ok and checks[-1].ok:
        checks.append(await _what_a_node_sees(settings, site))
        checks.append(await _speed(settings, site, config))
        if kind := settings.options({}).mpi:
            checks.append(await whether_srun_starts_ranks(kind, partial(_printed, settings, site)))
    checks += await examine_users(settings, site)
    return [*checks, _requeue(config)] if config else checks


async def _examine_from_afar(settings: SlurmSettings, site: Site, commands: Commands, own: Path) -> list[Check]:
    try:
        version, config, nodes = await site.version(), await site.config(), await site.nodes()
    except EngineUnavailable as error:
        mend = "scontrol ping; systemctl status slurmctld munge (on the controller and on this machine)"
        return [Check("slurm", False, error.reason.text, mend)]
    checks = [_version(version, config, site), _nodes(settings, nodes)]
    small = [argument for argument in _small(settings) if argument != "--parsable"]
    if checks[-1].ok:
        checks.append(await what_a_node_reaches(settings, commands, own, small))
        if kind := settings.options({}).mpi:
            checks.append(await whether_srun_starts_ranks(kind, partial(_printed_afar, settings, commands, small)))
    slow = _what_delays(config)
    if slow:
        checks.append(Check("time to start", False, ", ".join(slow), f"in slurm.conf: {_FAST}", needed=False))
    return [*checks, _requeue(config)]


def _version(version: str, config: Mapping[str, str], site: Site) -> Check:
    cluster = f", cluster {config['ClusterName']}" if "ClusterName" in config else ""
    detail = f"{version}{cluster}, {site.place}"
    known = parse_version(version)
    if known is not None and known < _OLDEST_SLURM:
        return Check("slurm", False, detail, "use Slurm 22.05 or later")
    return Check("slurm", True, detail)


def _directory(settings: SlurmSettings) -> Check:
    path = Path(settings.directory)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if settings.map:
            Places(path).make(passable=True)
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


async def _what_a_node_sees(settings: SlurmSettings, site: Site) -> Check:
    """The directory, the interpreter and the node's own directory, by a job of a moment."""
    name, word = "a node", secrets.token_hex(8)
    probe = Path(settings.directory, f".doctor-{secrets.token_hex(4)}")
    said, back = Path(f"{probe}.said"), Path(f"{probe}.back")
    _put(probe, word)
    own = settings.node_directory.replace("%n", "$SLURMD_NODENAME")
    setup = f"{settings.setup}\n" if settings.setup else ""
    script = (
        f"#!/bin/bash\n{setup}cat {probe}; echo; {settings.python} -c 'import sys; print(*sys.version_info[:2])'; "
        f"test -w {own} && echo writable; touch {back}\n"
    )
    try:
        job = await site.submit([*_small(settings), "--nodes=1", f"--output={said}"], script)
        seen = await _comes(back, _NODE_SECONDS)
        waits = not seen and any(line.job == job and line.queued for line in await site.queue())
        if not seen:
            await site.cancel([job])
        lines = _lines(said)
    except (Refused, EngineUnavailable) as error:
        text = error.reason.text if isinstance(error, EngineUnavailable) else str(error)
        return Check(name, False, f"not tried, Slurm did not take a job: {text[:200]}", "srun hostname", needed=False)
    finally:
        for path in (probe, said, back):
            _take(path)
    if waits:
        return Check(name, False, "not tried, no node was free for it", "srun hostname", needed=False)
    if word not in lines or not seen:
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


async def _printed(settings: SlurmSettings, site: Site, script: str) -> list[str] | None:
    """By a script on a node; None when it did not start or end in time."""
    probe = Path(settings.directory, f".doctor-{secrets.token_hex(4)}")
    said, back = Path(f"{probe}.said"), Path(f"{probe}.back")
    setup = f"{settings.setup}\n" if settings.setup else ""
    try:
        wanted = [*_small(settings), "--nodes=1", f"--output={said}"]
        job = await site.submit(wanted, f"#!/bin/bash\n{setup}{script}\ntouch {back}\n")
        if await _comes(back, _PROBE_SECONDS):
            return _lines(said)
        await site.cancel([job])
        return None
    finally:
        for path in (said, back):
            _take(path)


async def _printed_afar(settings: SlurmSettings, commands: Commands, small: list[str], script: str) -> list[str]:
    setup = f"{settings.setup}\n" if settings.setup else ""
    wanted = [*small, "--immediate=10", "--nodes=1"]
    return (await commands.run("srun", *wanted, "bash", "-c", f"{setup}{script}; true")).splitlines()


async def _speed(settings: SlurmSettings, site: Site, config: Mapping[str, str]) -> Check:
    """From ``sbatch`` to the first line of a job that nothing keeps from starting."""
    name = "time to start"
    slow = _what_delays(config) if config else []
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
        [*_small(settings), "--nodes=1", "--output=/dev/null"],
        f"#!/bin/sh\ntouch {mark}\n",
    )
    if await _comes(mark, _PROBE_SECONDS):
        return time.monotonic() - begin
    await site.cancel([job])
    _take(mark)
    return None


async def _comes(path: Path, seconds: float) -> bool:
    """Wait for a file of another machine, of which nobody tells, and remove it; whether it came in time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not _take(path):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return True
    return False


def _lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").split("\n") if path.exists() else []


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
    return [
        "--parsable",
        "--job-name=trainshed-doctor",
        "--ntasks=1",
        "--time=1",
        "--chdir=/",
        *(f"--{n}={v}" for n, v in options),
    ]


def _requeue(config: Mapping[str, str]) -> Check:
    """How long a job that lost a node waits before Slurm starts it again."""
    found = re.search(r"cred_expire=(\d+)", config.get("AuthInfo", ""))
    seconds = int(found[1]) if found else _CREDENTIAL_SECONDS
    detail = f"after a lost node or pre-emption a job waits {seconds} s (cred_expire) before Slurm starts it again"
    if seconds < _CREDENTIAL_SECONDS:
        return Check("requeue", True, detail)
    return Check("requeue", False, detail, "in slurm.conf: AuthInfo=cred_expire=30", needed=False)
