"""What must hold of the hosts before anything is done to them; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trainshed.engines.slurm.bootstrap.facts import HostFacts
from trainshed.engines.slurm.bootstrap.problems import Problem, ProblemCode
from trainshed.engines.slurm.bootstrap.request import Host, Mode, Request

#: Oldest releases whose own Slurm the engine reads (22.05).
_SYSTEMS = {"debian": (12,), "ubuntu": (24, 4)}
#: Seconds that clocks may differ: munge's credentials live for 300.
_SKEW = 60.0


def mode_of(request: Request, facts: Mapping[str, HostFacts]) -> Mode:
    """As asked for, or systemd where every host has it."""
    return request.mode or (Mode.SERVICES if all(fact.systemd for fact in facts.values()) else Mode.DAEMONS)


def problems_of(request: Request, facts: Mapping[str, HostFacts]) -> list[Problem]:
    """All of them."""
    return [
        problem
        for host in request.hosts
        for look in (_system, _slurm, _user, _directory, _systemd, _clock)
        for problem in look(request, host, facts[host.name])
    ] + list(_together(request, facts))


def _is_supported(fact: HostFacts) -> bool:
    try:
        return tuple(int(part) for part in fact.release.split(".")) >= _SYSTEMS[fact.system]
    except (KeyError, ValueError):
        return False


def _system(request: Request, host: Host, fact: HostFacts) -> Iterator[Problem]:
    if not _is_supported(fact):
        what = f"it has {fact.system} {fact.release}".rstrip()
        mend = "Use Debian 12 or Ubuntu 24.04 or later, or set Slurm up by hand and: trainshed engine add slurm."
        yield Problem(host.name, ProblemCode.UNSUPPORTED_SYSTEM, what, mend)
    elif fact.slurm_version is None:
        mend = "Let apt see Debian's main or Ubuntu's universe archive: apt-get update; apt-cache policy slurmd."
        yield Problem(host.name, ProblemCode.NO_PACKAGES, "apt knows no package slurmd", mend)


def _slurm(request: Request, host: Host, fact: HostFacts) -> Iterator[Problem]:
    mend = "Use that one: trainshed engine add slurm; or name other hosts, or take that Slurm away first."
    if fact.strange:
        what = f"there is a Slurm that was not set up by this ({', '.join(fact.strange)})"
        yield Problem(host.name, ProblemCode.OTHER_SLURM, what, mend)
    elif fact.site and fact.site != request.site:
        what = f"it belongs to the site {fact.site!r}"
        yield Problem(host.name, ProblemCode.OTHER_SLURM, what, "Name it as that one, or take it away there: --undo.")
    elif not fact.site and (running := [one for one in ("slurmctld", "slurmd") if one in fact.daemons]):
        what = f"{' and '.join(running)} runs there, not set up by this"
        yield Problem(host.name, ProblemCode.OTHER_SLURM, what, mend)


def _user(request: Request, host: Host, fact: HostFacts) -> Iterator[Problem]:
    if fact.uid != request.job_uid:
        there = "is not there" if fact.uid is None else f"has the number {fact.uid} there"
        what = f"the user {request.job_user}, {request.job_uid} on the service's machine, {there}"
        mend = f"Make it there: useradd -m -u {request.job_uid} {request.job_user}; or let all hosts share their users."
        yield Problem(host.name, ProblemCode.USER_DIFFERS, what, mend)


def _directory(request: Request, host: Host, fact: HostFacts) -> Iterator[Problem]:
    if not fact.directory_seen:
        where = "there, or not on this machine" if host is request.first else f"there as {request.first.name} has it"
        what = f"{request.directory} is not {where}"
        mend = "Mount one file system (NFS, for instance) at that path on all hosts and on the service's machine."
        yield Problem(host.name, ProblemCode.DIRECTORY_NOT_SHARED, what, mend)
    elif fact.uid is not None and not fact.directory_writable:
        what = f"{request.job_user} cannot write into {request.directory}"
        mend = f"Give it to the service's user: install -d -m 700 -o {request.job_user} {request.directory}."
        yield Problem(host.name, ProblemCode.DIRECTORY_NOT_WRITABLE, what, mend)


def _systemd(request: Request, host: Host, fact: HostFacts) -> Iterator[Problem]:
    if request.mode is Mode.SERVICES and not fact.systemd:
        yield Problem(host.name, ProblemCode.NO_SYSTEMD, "systemd does not run there", "Use --mode daemons.")


def _clock(request: Request, host: Host, fact: HostFacts) -> Iterator[Problem]:
    if abs(fact.ahead) > _SKEW:
        what = f"its clock is {fact.ahead:+.0f} s off this machine's"
        yield Problem(host.name, ProblemCode.CLOCK_SKEW, what, "Let NTP set it: apt-get install chrony.")


def _together(request: Request, facts: Mapping[str, HostFacts]) -> Iterator[Problem]:
    first = facts[request.first.name]
    nodes: dict[str, Host] = {}
    for host in request.hosts:
        fact = facts[host.name]
        if (other := nodes.setdefault(fact.short, host)) is not host:
            what = f"it has the host name {fact.short!r}, as {other.name} has"
            mend = "Name each machine once, and give each a host name of its own (hostnamectl set-hostname)."
            yield Problem(host.name, ProblemCode.SAME_HOST, what, mend)
        if _is_supported(fact) and (fact.system, fact.release.split(".")[0]) != (
            first.system,
            first.release.split(".")[0],
        ):
            what = f"it has {fact.system} {fact.release}, {request.first.name} has {first.system} {first.release}"
            yield Problem(
                host.name, ProblemCode.DIFFERENT_SYSTEMS, what, "Use one release on all hosts: Slurms must agree."
            )
        for wanted in request.hosts:
            address = fact.addresses.get(wanted.address, "")
            if wanted is host or (address and not address.startswith("127.")):
                continue
            what = f"it cannot tell the address of {wanted.address!r}"
            if address:
                what = f"{wanted.address!r} is itself for it ({address})"
            mend = f"Add a line to its /etc/hosts, or name the address: --hosts {wanted.name}=ADDRESS."
            yield Problem(host.name, ProblemCode.NAME_NOT_RESOLVED, what, mend)
