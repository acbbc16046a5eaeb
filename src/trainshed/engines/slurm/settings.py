"""What an administrator says of a Slurm site (``trainshed engine add slurm``), and users of a cluster on it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import PurePosixPath
from typing import Self


class InvalidSettings(ValueError):
    """A setting of the engine, or an option of a cluster, that cannot be; the text says which, why, and what can."""


#: Members of a cluster's ``engine.options``. All but the last two are given to ``sbatch`` under the same name.
CLUSTER_OPTIONS: Mapping[str, str] = {
    "partition": "partition that jobs go to; without one, Slurm's default partition",
    "account": "account that is charged",
    "qos": "quality of service",
    "constraint": "features that nodes must have",
    "gres": "generic resources of each node, such as gpu:a100:4; without it, gpu:N from the VM size",
    "reservation": "reservation that jobs run in",
    "exclude": "nodes that jobs never get",
    "licenses": "licences that a job needs",
    "exclusive": "yes (the default): a job has its nodes for itself; no: it has the cores and memory of the VM size",
    "mpi": "who starts ranks of MPI: runners (the default), or srun with this of its plugins: pmix, pmi2 ...",
}
#: Settings of the engine itself.
ENGINE_SETTINGS: Mapping[str, str] = {
    "directory": "directory that this machine and all nodes see under this path, and the service's user owns",
    "report_to": "without a directory: HOST:PORT of this machine, at which nodes reach it and the engine listens",
    "listen": "ADDRESS:PORT at which the engine listens instead, where report_to is not this machine's own",
    "lease": "seconds after which a node that reaches neither service nor Slurm ends its job (300)",
    "node_directory": "where nodes keep what is local to a job, each its own; %n is the node's name (/tmp)",
    "python": "Python 3.11 or later on the nodes (python3)",
    "setup": "shell commands of the job's script before it starts anything, such as: module load python/3.11",
    "ssh": "login node, as ssh knows it, on which Slurm's commands are run; without it, this machine",
    "rest_url": "slurmrestd instead of commands: http://HOST:PORT, https://HOST:PORT or unix:/PATH",
    "rest_user": "Slurm's user that the token is of; without it, as the token says",
    "token_file": "file with the JWT for slurmrestd, which somebody renews",
    "token_command": "command that prints one, such as: scontrol token lifespan=3600",
    "cluster": "options of clusters that do not say, such as: partition=gpu,account=ml",
    "sbatch": "further arguments for every sbatch",
    "srun": "further arguments for every srun",
    "ports": "ports on the nodes at which the runners of a gang find each other (12000-31999)",
    "nice": "what a step of schedulingPriority is in Slurm's --nice (1000)",
    "operator": "yes when the service is an operator of Slurm and may raise priorities (no)",
    "arrays": "no when each job is to be one of Slurm's by itself, also where many are alike (yes)",
    "map": "file that says as which account, QOS and Unix user the jobs of whom and of which workspace run",
    "share_user": "yes when jobs of all workspaces may run as the service's own Unix user (no)",
    "timeout": "seconds that one of Slurm's commands may take (30)",
}
_VALUE = re.compile(r"(?!-)[A-Za-z0-9_.,:=@&|*()\[\]/+-]{1,255}", re.ASCII)
_REST_URL = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+(/[\w./-]*)?|unix:/[\w./@+-]+", re.ASCII)
_NOT_PASSED = ("exclusive", "mpi")
_RUNNERS = "runners"
#: As ``srun --mpi=list`` has them; ``none`` starts programs that do not find each other.
_MPI = re.compile(r"pmix(_v\d+)?|pmi2|cray_shasta", re.ASCII)
_YES = {"yes": True, "true": True, "no": False, "false": False}


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """How jobs of a cluster are submitted."""

    sbatch: tuple[tuple[str, str], ...] = ()
    exclusive: bool = True
    #: Slurm's plugin of MPI by which ``srun`` starts ranks; empty: the gang's runners start them.
    mpi: str = ""

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Self:
        """Raises InvalidSettings."""
        unknown = sorted(set(given) - set(CLUSTER_OPTIONS))
        if unknown:
            raise InvalidSettings(
                f"Slurm clusters have no option '{unknown[0]}'; there are {', '.join(sorted(CLUSTER_OPTIONS))}"
            )
        for name, value in given.items():
            check_value(f"the option '{name}'", value)
        passed = tuple((name, given[name]) for name in CLUSTER_OPTIONS if name in given and name not in _NOT_PASSED)
        return cls(passed, _yes_or_no("exclusive", given.get("exclusive", "yes")), _mpi(given.get("mpi", _RUNNERS)))

    def charged_to(self, account: str, qos: str) -> Self:
        """With these instead of the cluster's, where they are given."""
        own = {name: value for name, value in (("account", account), ("qos", qos)) if value}
        return replace(self, sbatch=tuple({**dict(self.sbatch), **own}.items()))

    def of(self, name: str) -> str:
        """A value, empty when it was not given."""
        return dict(self.sbatch).get(name, "")


@dataclass(frozen=True, slots=True)
class SlurmSettings:
    """One site, as one service uses it. All values are text as it is given on a command line."""

    #: A directory that the service and all nodes see under this path; the service's user owns it. Empty: there is none.
    directory: str = ""
    #: Where nodes reach the service when there is none, as HOST:PORT; and where it listens, if elsewhere.
    report_to: str = ""
    listen: str = ""
    #: Seconds after which a node that can ask neither the service nor Slurm ends its job.
    lease: str = "300"
    #: Where nodes keep what is local to a job; removed with it. ``%n`` in it is the node's name.
    node_directory: str = "/tmp"
    #: Python (3.11 or later) on the nodes.
    python: str = "python3"
    #: Shell commands of the job's script before it starts anything, such as ``module load python/3.11``.
    setup: str = ""
    #: A login node, as ``ssh`` knows it, on which Slurm's commands are run; empty: on this machine.
    ssh: str = ""
    #: slurmrestd; with it no command of Slurm's is needed here. And whose token it gets, from where.
    rest_url: str = ""
    rest_user: str = ""
    token_file: str = ""
    token_command: str = ""
    #: Options of clusters that do not say, as ``partition=gpu,account=ml``.
    cluster: str = ""
    #: Further arguments for every ``sbatch`` and ``srun``.
    sbatch: str = ""
    srun: str = ""
    #: Ports on the nodes at which the runners of a gang find each other; a job takes one by its number.
    ports: str = "12000-31999"
    #: What one step of schedulingPriority is in Slurm's ``--nice``.
    nice: str = "1000"
    #: Whether the service may raise priorities (it is an operator of Slurm): a high one is a negative nice then.
    operator: str = "no"
    #: Whether jobs that are alike are handed over together, as job arrays, whose elements may take turns with several.
    arrays: str = "yes"
    #: A file on the service's machine: who jobs are to Slurm (``mapping``). Empty: all are the service's own user.
    map: str = ""
    #: Whether workspaces of users who must not see each other's files may share the Unix user that jobs run as.
    share_user: str = "no"
    #: Seconds that one of Slurm's commands may take.
    timeout: str = "30"

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Self:
        """Raises InvalidSettings."""
        known = [part.name for part in fields(cls)]
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise InvalidSettings(f"Slurm engines have no setting '{unknown[0]}'; there are {', '.join(known)}")
        found = cls(**given)
        if bool(found.directory) == bool(found.report_to):
            raise InvalidSettings(
                "a Slurm engine needs 'directory', which this machine and all nodes see, or else 'report_to': "
                "HOST:PORT at which nodes reach this machine"
            )
        needed = ("directory", "map", "token_file")
        for name in ("node_directory", *(one for one in needed if getattr(found, one))):
            path = PurePosixPath(getattr(found, name))
            plain = str(path).replace("%n", "n") if name == "node_directory" else str(path)
            if not path.is_absolute() or ".." in path.parts or not re.fullmatch(r"[\w./@+-]+", plain, re.ASCII):
                raise InvalidSettings(
                    f"'{name}' must be an absolute path of letters, digits and . _ - @ +, not '{path}'"
                )
        if (found.ssh and not re.fullmatch(r"[\w.@:\[\]-]+", found.ssh, re.ASCII)) or found.ssh.startswith("-"):
            raise InvalidSettings(f"'ssh' must be a host, or user@host, not '{found.ssh}'")
        if found.rest_url and not _REST_URL.fullmatch(found.rest_url):
            raise InvalidSettings(
                f"'rest_url' must be http://HOST:PORT, https://HOST:PORT or unix:/PATH, not '{found.rest_url}'"
            )
        if found.rest_user and not re.fullmatch(r"[\w.@-]+", found.rest_user, re.ASCII):
            raise InvalidSettings(f"'rest_user' must be a user's name, not '{found.rest_user}'")
        if not re.fullmatch(r"[\w./+-]+", found.python, re.ASCII):
            raise InvalidSettings(f"'python' must be the name or path of an interpreter, not '{found.python}'")
        # Each of these raises for what cannot be.
        _ = (found.port_range, found.nice_step, found.is_operator, found.shares_user, found.seconds, found.uses_arrays)
        _ = (found.relay, found.listens, found.lease_seconds)
        _ = (found.sbatch_arguments, found.srun_arguments, found.token_arguments, found.defaults)
        ClusterOptions.parse(found.defaults)
        return found

    def check_together(self) -> None:
        """Raises InvalidSettings where one contradicts another."""
        if self.report_to and (self.map or self.rest_url):
            other = "map" if self.map else "rest_url"
            raise InvalidSettings(f"'{other}' needs a 'directory' that all nodes see, and does not go with 'report_to'")
        tokens = [name for name in ("token_file", "token_command") if getattr(self, name)]
        if not self.rest_url:
            if idle := [name for name in ("rest_user", *tokens) if getattr(self, name)]:
                raise InvalidSettings(f"'{idle[0]}' is for slurmrestd: give 'rest_url' too, or leave it out")
            return
        if self.ssh:
            raise InvalidSettings("'rest_url' and 'ssh' are two ways to Slurm: give one of them")
        if len(tokens) != 1:
            raise InvalidSettings("'rest_url' needs one of 'token_file' and 'token_command', where the JWT is from")

    @property
    def relay(self) -> tuple[str, int] | None:
        """Where nodes reach the service; None with a shared directory. Raises InvalidSettings."""
        return _host_and_port("report_to", self.report_to) if self.report_to else None

    @property
    def listens(self) -> tuple[str, int] | None:
        """Where the engine listens for nodes. Raises InvalidSettings."""
        return _host_and_port("listen", self.listen) if self.listen else self.relay

    @property
    def lease_seconds(self) -> float:
        """Raises InvalidSettings."""
        if not re.fullmatch(r"\d{1,5}(\.\d+)?", self.lease, re.ASCII) or float(self.lease) < 1:
            raise InvalidSettings(f"'lease' must be a number of seconds, not '{self.lease}'")
        return float(self.lease)

    @property
    def port_range(self) -> tuple[int, int]:
        """First port, and how many. Raises InvalidSettings."""
        found = re.fullmatch(r"(\d+)-(\d+)", self.ports, re.ASCII)
        if found is None or not 1024 <= int(found[1]) <= int(found[2]) <= 65535:
            raise InvalidSettings(f"'ports' must be FIRST-LAST between 1024 and 65535, not '{self.ports}'")
        return int(found[1]), int(found[2]) - int(found[1]) + 1

    @property
    def nice_step(self) -> int:
        """Raises InvalidSettings."""
        if not re.fullmatch(r"\d{1,7}", self.nice, re.ASCII):
            raise InvalidSettings(f"'nice' must be a number from 0 to 9999999, not '{self.nice}'")
        return int(self.nice)

    @property
    def is_operator(self) -> bool:
        """Raises InvalidSettings."""
        return _yes_or_no("operator", self.operator)

    @property
    def uses_arrays(self) -> bool:
        """Raises InvalidSettings."""
        # Elements of an array find each other's work in the shared directory.
        return _yes_or_no("arrays", self.arrays) and not self.report_to

    @property
    def shares_user(self) -> bool:
        """Raises InvalidSettings."""
        return _yes_or_no("share_user", self.share_user)

    @property
    def seconds(self) -> float:
        """Raises InvalidSettings."""
        if not re.fullmatch(r"\d{1,4}(\.\d+)?", self.timeout, re.ASCII) or not float(self.timeout):
            raise InvalidSettings(f"'timeout' must be a number of seconds, not '{self.timeout}'")
        return float(self.timeout)

    @property
    def sbatch_arguments(self) -> list[str]:
        """Raises InvalidSettings."""
        return _arguments("sbatch", self.sbatch)

    @property
    def srun_arguments(self) -> list[str]:
        """Raises InvalidSettings."""
        return _arguments("srun", self.srun)

    @property
    def token_arguments(self) -> list[str]:
        """Words of the command. Raises InvalidSettings."""
        try:
            return shlex.split(self.token_command)
        except ValueError as error:
            raise InvalidSettings(f"'token_command' is no command: {error}") from error

    @property
    def defaults(self) -> dict[str, str]:
        """Options of clusters that do not say. Raises InvalidSettings."""
        found = {}
        for part in filter(None, self.cluster.split(";" if ";" in self.cluster else ",")):
            name, equals, value = part.partition("=")
            if not equals:
                raise InvalidSettings(f"'cluster' must be NAME=VALUE pairs with ',' (or ';') between, not '{part}'")
            found[name.strip()] = value.strip()
        return found

    def options(self, given: Mapping[str, str]) -> ClusterOptions:
        """Of a cluster with these options. Raises InvalidSettings."""
        return ClusterOptions.parse({**self.defaults, **given})


def _host_and_port(name: str, text: str) -> tuple[str, int]:
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+):(\d{1,5})", text, re.ASCII)
    if found is None or not 0 < int(found[2]) < 1 << 16:
        raise InvalidSettings(f"'{name}' must be HOST:PORT, not '{text}'")
    return found[1].strip("[]"), int(found[2])


def check_value(what: str, value: str) -> None:
    """Raises InvalidSettings for what cannot be the value of an argument of Slurm's."""
    if not _VALUE.fullmatch(value):
        raise InvalidSettings(f"{what} cannot be '{value}': letters, digits and . , : = @ & | * ( ) [ ] / + - _ only")


def _arguments(name: str, text: str) -> list[str]:
    try:
        found = shlex.split(text)
    except ValueError as error:
        raise InvalidSettings(f"'{name}' is not a list of arguments: {error}") from error
    if any(not argument.startswith("--") for argument in found):
        raise InvalidSettings(f"'{name}' must be arguments of the form --name or --name=value, not '{text}'")
    return found


def _mpi(text: str) -> str:
    if text == _RUNNERS:
        return ""
    if not _MPI.fullmatch(text):
        raise InvalidSettings(
            f"the option 'mpi' must be {_RUNNERS}, or what 'srun --mpi=list' names on the nodes (pmix, pmix_v4, pmi2, "
            f"cray_shasta), not '{text}'"
        )
    return text


def _yes_or_no(name: str, text: str) -> bool:
    if text.lower() not in _YES:
        raise InvalidSettings(f"'{name}' must be yes or no, not '{text}'")
    return _YES[text.lower()]
