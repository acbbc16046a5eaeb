"""Looking at hosts. Nothing is changed; of a shared directory one probe file is made and taken away."""

from __future__ import annotations

import asyncio
import shlex
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainshed.engines.slurm.bootstrap import layout
from trainshed.engines.slurm.bootstrap.facts import Daemon, HostFacts
from trainshed.engines.slurm.bootstrap.problems import Problem, ProblemCode
from trainshed.engines.slurm.bootstrap.request import Host, Request
from trainshed.engines.slurm.bootstrap.ssh import Shell, Unreached

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: Seconds that looking at one host may take.
_SECONDS = 60.0
#: Other places at which a Slurm may be configured.
_ELSEWHERE = ("/etc/slurm-llnl/slurm.conf", "/usr/local/etc/slurm.conf", "/opt/slurm/etc/slurm.conf")
#: Ids of processes by the program that they run, not by their names.
PIDS = (
    'pids() { e=$(readlink -f "/usr/sbin/$1"); find /proc/[0-9]* -maxdepth 1 -name exe '
    '\\( -lname "$e" -o -lname "$e (deleted)" \\) 2>/dev/null | cut -d/ -f3; }'
)

_SCRIPT = """\
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
say() {{ printf '%s=%s\\n' "$1" "$2"; }}
digest() {{ sha256sum <"$1" | cut -d' ' -f1; }}
{pids}
say clock "$(date +%s.%N)"
say uid0 "$(id -u)"
say system "$(. /etc/os-release; echo "$ID")"
say release "$(. /etc/os-release; echo "$VERSION_ID")"
say hostname "$(uname -n)"
say boot "$(cat /proc/sys/kernel/random/boot_id)"
[ -d /run/systemd/system ] && say systemd yes
say controllers "$(cat /sys/fs/cgroup/cgroup.controllers 2>/dev/null)"
lscpu -p=SOCKET,CORE 2>/dev/null | grep -v '^#' | while read -r one; do say cpu "$one"; done
say processors "$(nproc --all)"
say memory "$(awk '/^MemTotal:/ {{print int($2/1024)}}' /proc/meminfo)"
command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null \
| while read -r one; do say gpu "$one"; done
dpkg-query -W -f='${{Package}} ${{db:Status-Status}} ${{Version}}\\n' {packages} 2>/dev/null \
| while read -r name status version; do [ "$status" = installed ] && say package "$name $version"; done
[ -x /usr/sbin/slurmd ] \\
|| say candidate "$(apt-cache policy slurmd 2>/dev/null | sed -n 's/^ *Candidate: //p')"
for f in {files}; do [ -e "$f" ] && say file "$f $(digest "$f")"; done
[ -e {conf} ] && say mark "$(sed -n '1s/^{mark}//p' {conf})"
[ -e {conf} ] && sed -n 's/^NodeName=\\([^ ]*\\).*/node=\\1/p' {conf}
for f in {elsewhere}; do [ -e "$f" ] && say strange "$f"; done
[ -e {key} ] && say key "$(digest {key})"
for d in {daemons}; do
  [ -n "$(pids "$d")" ] || continue
  state=running
  [ -e {own}/$d.started ] || state=stale
  case "$d" in munged) of={key};; *) of={files_q};; esac
  for f in $of; do [ "$f" -nt {own}/$d.started ] && state=stale; done
  say daemon "$d $state"
done
for a in {addresses}; do say address "$a $(getent ahostsv4 "$a" | awk 'NR==1 {{print $1}}')"; done
say uid "$(id -u {user} 2>/dev/null)"
[ -d {directory} ] && runuser -u {user} -- test -w {directory} 2>/dev/null && say writable yes
say python "$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)"
if [ -n "$(pids slurmctld)" ]; then
  timeout 10 sinfo -h -N -o '%N %T' 2>/dev/null | sort -u | while read -r one; do say state "$one"; done
  say jobs "$(timeout 10 squeue -h -o %i 2>/dev/null | wc -l)"
fi
exit 0
"""


@dataclass(frozen=True, slots=True)
class Survey:
    """What was seen, and why some host was not."""

    facts: dict[str, HostFacts]
    problems: tuple[Problem, ...]
    #: The first host is the machine that looks.
    first_is_here: bool = False


async def survey(shell: Shell, request: Request) -> Survey:
    """Look at all hosts at once."""
    script = script_for(request)
    looked = await asyncio.gather(*(_look(shell, host, script) for host in request.hosts))
    facts = {host.name: one for host, one in zip(request.hosts, looked, strict=True) if isinstance(one, HostFacts)}
    problems = [one for one in looked if isinstance(one, Problem)]
    if not problems:
        facts, problems = await _directory(shell, request, facts)
    first = facts.get(request.first.name)
    return Survey(facts, tuple(problems), first is not None and _is_here(first))


def script_for(request: Request) -> str:
    """What is carried out on each host."""
    return _SCRIPT.format(
        pids=PIDS,
        packages=" ".join((*layout.NODE_PACKAGES, *layout.CONTROLLER_PACKAGES)),
        files=" ".join(layout.FILES),
        files_q=f'"{" ".join(layout.FILES)}"',
        conf=layout.CONF,
        mark=layout.MARK,
        elsewhere=" ".join(_ELSEWHERE),
        key=layout.KEY,
        own=layout.OWN,
        daemons=" ".join(layout.DAEMONS),
        addresses=" ".join(shlex.quote(host.address) for host in request.hosts),
        user=shlex.quote(request.job_user),
        directory=shlex.quote(request.directory),
    )


def parse(text: str, *, now: float) -> HostFacts:
    """Facts from what the script printed; ``now`` is this machine's time at which it began. Raises KeyError."""
    said: dict[str, list[str]] = {}
    for name, equals, value in (line.partition("=") for line in text.splitlines()):
        if equals:
            said.setdefault(name, []).append(value)
    one = {name: values[-1] for name, values in said.items()}
    sockets, cores, threads = _topology(said.get("cpu", []), int(one.get("processors") or 1))
    packages = dict(value.partition(" ")[::2] for value in said.get("package", []))
    candidate = one.get("candidate", "").replace("(none)", "")
    mark = one.get("mark", "")
    files = dict(value.split(" ") for value in said.get("file", []))
    return HostFacts(
        system=one["system"],
        release=one["release"],
        hostname=one["hostname"],
        boot=one["boot"],
        systemd="systemd" in one,
        cgroups={"cpuset", "memory"} <= set(one.get("controllers", "").split()),
        sockets=sockets,
        cores=cores,
        threads=threads,
        memory=int(one["memory"]),
        gpus=tuple(said.get("gpu", [])),
        ahead=float(one["clock"]) - now,
        packages=frozenset(packages),
        slurm=packages.get("slurmd", candidate),
        files=files,
        site=mark,
        nodes=tuple(said.get("node", [])),
        strange=(*(() if mark else files), *said.get("strange", [])),
        key=one.get("key", ""),
        daemons={
            name: Daemon(running=True, stale=state == "stale")
            for name, state in (value.split(" ") for value in said.get("daemon", []))
        },
        addresses=dict(value.partition(" ")[::2] for value in said.get("address", [])),
        uid=int(one["uid"]) if one.get("uid") else None,
        directory_writable="writable" in one,
        python=one.get("python", ""),
        states=dict(value.partition(" ")[::2] for value in said.get("state", [])),
        jobs=int(one.get("jobs") or 0),
    )


def _topology(lines: list[str], processors: int) -> tuple[int, int, int]:
    """Sockets, cores of each and threads of each; a machine that is not regular is so many single cores."""
    pairs = [tuple(line.split(",")) for line in lines]
    sockets, cores = len({pair[0] for pair in pairs}), len(set(pairs))
    if not sockets or cores % sockets or len(pairs) % cores:
        return 1, max(processors, 1), 1
    return sockets, cores // sockets, len(pairs) // cores


async def _look(shell: Shell, host: Host, script: str) -> HostFacts | Problem:
    begin = time.time()
    try:
        said = await shell.run(host.name, script, seconds=_SECONDS)
    except Unreached as error:
        return error.problem
    # The clock is read when the login is done, most of the time that all took: what is within that is no skew.
    took = time.time() - begin
    if "uid0=0" not in said.out.splitlines():
        what = "the login has no rights of root there"
        return Problem(host.name, ProblemCode.NO_ROOT, what, "Use --user root, or a user who may use sudo.")
    try:
        found = parse(said.out, now=begin)
    except (KeyError, ValueError) as error:
        said_text = " ".join((said.error or said.out).split())[-300:]
        what = f"what it says of itself cannot be read ({error!r}): {said_text}"
        return Problem(host.name, ProblemCode.SURVEY_FAILED, what, "It must be Debian or Ubuntu, with its basic tools.")
    within = 0.0 if 0 <= found.ahead <= took else found.ahead - (took if found.ahead > 0 else 0)
    return replace(found, ahead=within)


def _is_here(first: HostFacts) -> bool:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        here = Path("/proc/sys/kernel/hostname").read_text().strip()
    except OSError:
        return False
    return (first.boot, first.hostname) == (boot, here)


def _is_seen_here(path: str) -> bool:
    return Path(path).exists()


async def _directory(
    shell: Shell, request: Request, facts: dict[str, HostFacts]
) -> tuple[dict[str, HostFacts], list[Problem]]:
    """Whether all hosts, and this machine, see the same directory."""
    try:
        async with _probe(shell, request) as probe:
            if probe is None:
                return {name: replace(fact, directory_seen=False) for name, fact in facts.items()}, []
            look = f"test -e {shlex.quote(probe)} && echo seen"
            others = request.hosts[1:]
            said = await asyncio.gather(*(shell.run(host.name, look) for host in others))
            seen = {request.first.name: _is_seen_here(probe)}
            seen |= {host.name: "seen" in one.out for host, one in zip(others, said, strict=True)}
    except Unreached as error:
        return facts, [error.problem]
    return {name: replace(fact, directory_seen=seen[name]) for name, fact in facts.items()}, []


@asynccontextmanager
async def _probe(shell: Shell, request: Request) -> AsyncIterator[str | None]:
    """A file of a moment in the directory on the first host; None where none can be made."""
    # As the jobs' user: an NFS server makes nobody of root.
    as_user = f"runuser -u {shlex.quote(request.job_user)} --"
    make = f"{as_user} mktemp {shlex.quote(request.directory)}/.trainshed-probe-XXXXXXXX"
    said = await shell.run(request.first.name, make)
    path = said.out.strip()
    if not path:
        yield None
        return
    try:
        yield path
    finally:
        await shell.run(request.first.name, f"{as_user} rm -f {shlex.quote(path)}")
