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


#: Members of a cluster's ``engine.options``. All but ``exclusive`` are given to ``sbatch`` under the same name.
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
}
#: Settings of the engine itself.
ENGINE_SETTINGS: Mapping[str, str] = {
    "directory": "directory that this machine and all nodes see under this path, and the service's user owns",
    "node_directory": "where nodes keep what is local to a job (/tmp)",
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
_YES = {"yes": True, "true": True, "no": False, "false": False}


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """How jobs of a cluster are submitted."""

    sbatch: tuple[tuple[str, str], ...] = ()
    exclusive: bool = True

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
        passed = tuple((name, given[name]) for name in CLUSTER_OPTIONS if name in given and name != "exclusive")
        return cls(passed, _yes_or_no("exclusive", given.get("exclusive", "yes")))

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

    #: A directory that the service and all nodes see under this path; the service's user owns it.
    directory: str
    #: Where nodes keep what is local to a job; removed with it.
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
        if not given.get("directory"):
            raise InvalidSettings("a Slurm engine needs 'directory': a directory that this machine and all nodes see")
        found = cls(**given)
        for name in ("directory", "node_directory", *(one for one in ("map", "token_file") if getattr(found, one))):
            path = PurePosixPath(getattr(found, name))
            if not path.is_absolute() or ".." in path.parts or not re.fullmatch(r"[\w./@+-]+", str(path), re.ASCII):
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
        _ = (found.sbatch_arguments, found.srun_arguments, found.token_arguments, found.defaults)
        ClusterOptions.parse(found.defaults)
        return found

    def check_together(self) -> None:
        """Raises InvalidSettings where one contradicts another."""
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
        return _yes_or_no("arrays", self.arrays)

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


def _yes_or_no(name: str, text: str) -> bool:
    if text.lower() not in _YES:
        raise InvalidSettings(f"'{name}' must be yes or no, not '{text}'")
    return _YES[text.lower()]
