"""A step that changes something on one host, and the shell scripts of all of them; pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from trainshed.engines.slurm.bootstrap import layout
from trainshed.engines.slurm.bootstrap.request import Mode, Request
from trainshed.engines.slurm.bootstrap.survey import PIDS


@dataclass(frozen=True, slots=True)
class Step:
    """One. Steps of a stage run at once; the next stage begins when all of them are done."""

    stage: int
    host: str
    #: What is done, in one line.
    what: str
    #: For ``sh``, as root.
    script: str
    #: What it gets: the content of a file, which people may see.
    content: str = ""
    #: It gets munge's key from this host instead.
    key_from: str = ""
    #: Seconds that it may take.
    seconds: float = 120.0

    @property
    def json(self) -> dict[str, object]:
        """For ``-o json``."""
        return {"stage": self.stage, "host": self.host, "what": self.what} | (
            {"content": self.content} if self.content else {}
        )


PACKAGES, MAKE_KEY, COPY_KEY, FILES, MUNGE, CONTROLLER, NODES, SETTLE, PROOF = range(1, 10)

_PATH = "export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nset -e\n"
#: States of nodes that the controller hears of; one that was drained by somebody stays so.
_GOOD = " (idle|mixed|allocated|completing|drained|draining|planned|reserved|maint)$"
_OWN = f"install -d -m 755 {layout.OWN}\n"
_STOP = """\
stop() {
  for p in $(pids "$1"); do kill "$p"; done
  n=0; while [ -n "$(pids "$1")" ]; do
    n=$((n+1)); [ $n -le 300 ] || { echo "$1 does not end" >&2; return 1; }
    sleep 0.1
  done
}
"""


def install_packages(host: str, names: list[str]) -> Step:
    """With apt; which of them were not there is written down for ``--undo``."""
    listed = " ".join(names)
    script = (
        f"{_PATH}{_OWN}export DEBIAN_FRONTEND=noninteractive\napt-get -qq -o DPkg::Lock::Timeout=300 update >&2\n"
        f"apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends {listed} >&2\n"
        f"printf '%s\\n' {listed} >>{layout.OWN}/packages\n"
    )
    return Step(PACKAGES, host, f"install {', '.join(names)}", script, seconds=1800.0)


def make_key(host: str) -> Step:
    """On the first host, where there is none."""
    script = (
        f"{_PATH}umask 077\ninstall -d -m 700 -o munge -g munge /etc/munge\n"
        f"head -c 1024 /dev/urandom >{layout.KEY}.new\nchown munge:munge {layout.KEY}.new\nchmod 400 {layout.KEY}.new\n"
        f"mv {layout.KEY}.new {layout.KEY}\n"
    )
    return Step(MAKE_KEY, host, "make munge's key", script)


def copy_key(host: str, first: str, *, keep: bool) -> Step:
    """From the first host; ``keep``: the one that is there is put aside, for ``--undo``."""
    script = (
        f"{_PATH}umask 077\ninstall -d -m 700 -o munge -g munge /etc/munge\n"
        f"base64 -d >{layout.KEY}.new\n[ -s {layout.KEY}.new ]\n"
        f"[ ! -e {layout.KEY} ] || [ -e {layout.FORMER_KEY} ] || cp -p {layout.KEY} {layout.FORMER_KEY}\n"
        f"chown munge:munge {layout.KEY}.new\nchmod 400 {layout.KEY}.new\nmv {layout.KEY}.new {layout.KEY}\n"
    )
    aside = f" (the one that is there is kept as {layout.FORMER_KEY})" if keep else ""
    return Step(COPY_KEY, host, f"put munge's key of {first} there{aside}", script, key_from=first)


def write_file(host: str, path: str, content: str) -> Step:
    """Whole or not at all."""
    script = f"{_PATH}install -d -m 755 /etc/slurm\ncat >{path}.new\nchmod 644 {path}.new\nmv {path}.new {path}\n"
    return Step(FILES, host, f"write {path}", script, content=content)


def remove_file(host: str, path: str) -> Step:
    """One that the site no longer has."""
    return Step(FILES, host, f"remove {path}", f"{_PATH}rm -f {path}\n")


def start(host: str, daemon: str, mode: Mode, *, again: bool) -> Step:
    """Start a daemon, or let it read its files again by a restart; jobs go on meanwhile."""
    stage = {"munged": MUNGE, "slurmctld": CONTROLLER, "slurmd": NODES}[daemon]
    unit = layout.UNITS[daemon]
    if mode is Mode.SERVICES:
        carry_out = f"systemctl enable {unit} >&2\nsystemctl restart {unit}\n"
        what = f"{'restart' if again else 'start'} the service {unit}, now and after each boot"
    else:
        carry_out = f"{_STOP}stop {daemon}\n{_STARTS[daemon]}"
        what = f"{'restart' if again else 'start'} {daemon} (as a plain daemon: a reboot ends it)"
    script = (
        f"{_PATH}{PIDS}\n{_OWN}{_FOLDERS[daemon]}{carry_out}{_ANSWERS[daemon]}touch {layout.OWN}/{daemon}.started\n"
    )
    return Step(stage, host, what, script)


def settle(request: Request, nodes: list[str], resume: list[str]) -> Step:
    """Wait until the controller has every node; those that were down are taken back first."""
    back = f"scontrol update NodeName={','.join(resume)} State=RESUME\n" if resume else ""
    script = (
        f"{_PATH}{back}n=0; while :; do\n"
        f"  states=$(sinfo -h -N -p {request.partition} -o '%N %T' || true)\n"
        f"  good=$(printf '%s\\n' \"$states\" | grep -cE '{_GOOD}' || true)\n"
        f'  [ "$good" = {len(nodes)} ] && exit 0\n  n=$((n+1)); [ $n -le 180 ] || break; sleep 0.5\ndone\n'
        "printf '%s\\n' \"$states\" >&2; sinfo -h -R -o '%n: %E' >&2\n"
        f"echo 'do firewalls let hosts reach one another at ports {layout.PORTS[0]}, {layout.PORTS[1]} and "
        f"{layout.SRUN_PORTS}?' >&2; tail -n 3 {layout.LOGS}/slurmctld.log >&2; exit 1\n"
    )
    return Step(SETTLE, request.first.name, f"wait until the controller has {_count(nodes)}", script, seconds=200.0)


def prove(request: Request) -> Step:
    """A job of a moment over all nodes that are idle, as the user of jobs."""
    directory, user = shlex.quote(request.directory), shlex.quote(request.job_user)
    script = (
        f"{_PATH}idle=$(sinfo -h -N -p {request.partition} -t idle -o %N | sort -u)\n"
        '[ -n "$idle" ] || { echo "all nodes are busy: not tried"; exit 0; }\n'
        'count=$(echo "$idle" | wc -l); list=$(echo "$idle" | paste -sd,)\n'
        f"got=$(runuser -u {user} -- srun --partition={request.partition} --nodes=$count --nodelist=$list "
        "--ntasks-per-node=1 --immediate=30 --time=1 --chdir=/ --job-name=trainshed-bootstrap "
        f"sh -c 'test -w \"$0\" && echo $SLURMD_NODENAME' {directory} | sort -u)\n"
        '[ "$got" = "$idle" ] || { echo "a job over $list answered from: $got" >&2; exit 1; }\n'
        'echo "a job ran on $list"\n'
    )
    what = f"run a job of a moment as {request.job_user} on all nodes"
    return Step(PROOF, request.first.name, what, script)


def _count(nodes: list[str]) -> str:
    return f"{len(nodes)} node{'' if len(nodes) == 1 else 's'} ({', '.join(nodes)})"


_FOLDERS = {
    "munged": "",
    "slurmctld": (
        f"install -d -m 755 -o slurm -g slurm {layout.LOGS}\n"
        f"install -d -m 700 -o slurm -g slurm {layout.OWN}/slurmctld\n"
    ),
    "slurmd": (f"install -d -m 755 -o slurm -g slurm {layout.LOGS}\ninstall -d -m 755 {layout.OWN}/slurmd\n"),
}
_STARTS = {
    "munged": (
        "install -d -m 755 -o munge -g munge /run/munge\ninstall -d -m 711 -o munge -g munge /var/lib/munge\n"
        "install -d -m 700 -o munge -g munge /var/log/munge\n"
        "runuser -u munge -- /usr/sbin/munged </dev/null >/run/munge/said 2>&1 "
        "|| { cat /run/munge/said >&2; exit 1; }\n"
    ),
    **{
        daemon: (
            f"/usr/sbin/{daemon} </dev/null >{layout.OWN}/{daemon}.said 2>&1 || "
            f"{{ cat {layout.OWN}/{daemon}.said >&2; exit 1; }}\n"
        )
        for daemon in ("slurmctld", "slurmd")
    },
}


def _until(holds: str, otherwise: str) -> str:
    return f"n=0; until {holds}; do n=$((n+1)); [ $n -le 300 ] || {{ {otherwise}; exit 1; }}; sleep 0.1; done\n"


_ANSWERS = {
    "munged": _until(
        "munge -n 2>/dev/null | unmunge >/dev/null 2>&1",
        "munge -n 2>&1 | unmunge >&2; tail -n 3 /var/log/munge/munged.log >&2",
    ),
    "slurmctld": _until(
        "scontrol ping 2>/dev/null | grep -q UP", f"scontrol ping >&2; tail -n 3 {layout.LOGS}/slurmctld.log >&2"
    ),
    "slurmd": _until(
        '[ -n "$(pids slurmd)" ]',
        f"tail -n 3 {layout.LOGS}/slurmd.log >&2",
    ),
}


def remove_everything(stage: int, host: str, mode: Mode, files: tuple[str, ...]) -> Step:
    """Daemons, files and state; munge stays with the key that it had before, or goes on with this one."""
    if mode is Mode.SERVICES:
        end = "for u in slurmd slurmctld; do systemctl disable --now $u >&2 || true; done\n"
        munge = "systemctl restart munge"
    else:
        end = f"{PIDS}\n{_STOP}stop slurmd\nstop slurmctld\nstop munged\n"
        munge = ":"
    script = (
        f"{_PATH}{end}rm -f {' '.join(files)}\n"
        f"if [ -e {layout.FORMER_KEY} ]; then mv {layout.FORMER_KEY} {layout.KEY}; {munge}; fi\n"
        f'if [ -s {layout.OWN}/packages ]; then echo "packages stay; to remove them: apt-get purge '
        f"$(sort -u {layout.OWN}/packages | grep -v '^python3$' | paste -sd' ')\"; fi\n"
        f"rm -rf {layout.OWN}\n"
    )
    what = f"stop Slurm, remove {', '.join(files)} and {layout.OWN}"
    return Step(stage, host, what, script)
