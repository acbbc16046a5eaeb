"""Arguments of ``sbatch`` as what slurmrestd's ``job/submit`` of a version takes. Pure.

v0.0.38 goes through sbatch's own options; from v0.0.39 on it is the description of a job as slurmctld has it, so that
what sbatch would work out is worked out here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trainshed.engines.slurm.settings import InvalidSettings

Version = tuple[int, int, int]
_DESCRIPTIONS: Version = (0, 0, 39)
#: Versions from which gres are written ``gres/gpu:2``, and the script is a member of the job.
_SLASH: Version = (0, 0, 40)
_SCRIPT_INSIDE: Version = (0, 0, 41)

#: Under the same name everywhere.
_SAME: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "job-name": ("name", str),
    "comment": ("comment", str),
    "partition": ("partition", str),
    "account": ("account", str),
    "qos": ("qos", str),
    "constraint": ("constraints", str),
    "reservation": ("reservation", str),
    "licenses": ("licenses", str),
    "nodes": ("nodes", str),
    "output": ("standard_output", str),
    "error": ("standard_error", str),
    "chdir": ("current_working_directory", str),
    "array": ("array", str),
    "nice": ("nice", int),
    "ntasks": ("tasks", int),
    "ntasks-per-node": ("tasks_per_node", int),
    "cpus-per-task": ("cpus_per_task", int),
    "mail-user": ("mail_user", str),
    "wckey": ("wckey", str),
    "dependency": ("dependency", str),
    "prefer": ("prefer", str),
    "container": ("container", str),
}
_FLAGS: Mapping[str, dict[str, Any]] = {"requeue": {"requeue": True}, "no-requeue": {"requeue": False}, "parsable": {}}


def request(arguments: list[str], script: str, environment: Mapping[str, str], version: Version) -> dict[str, Any]:
    """The body of a submission. Raises InvalidSettings for an argument that slurmrestd has no word for."""
    newer = version >= _DESCRIPTIONS
    job: dict[str, Any] = {}
    for argument in arguments:
        name, equals, value = argument.removeprefix("--").partition("=")
        job |= _member(name, value if equals else None, version)
    job["environment"] = [f"{n}={v}" for n, v in environment.items()] if newer else dict(environment)
    if newer:
        _work_out(job)
    if version >= _SCRIPT_INSIDE:
        return {"job": {**job, "script": script}}
    return {"script": script, "job": job}


def check(arguments: list[str]) -> None:
    """Raises InvalidSettings for an argument that slurmrestd has no word for."""
    request(arguments, "", {}, _DESCRIPTIONS)


def _member(name: str, value: str | None, version: Version) -> dict[str, Any]:
    newer = version >= _DESCRIPTIONS
    if value is None and name in _FLAGS:
        return dict(_FLAGS[name])
    if value is None and name == "exclusive":
        # v0.0.38 refuses the words of its own specification (true, false) and takes sbatch's.
        return {"shared": ["none"]} if newer else {"exclusive": "exclusive"}
    if value is not None:
        try:
            if name in _SAME:
                member, make = _SAME[name]
                return {member: make(value)}
            return _OTHERS[name](value, version)
        except (KeyError, ValueError):
            pass
    said = f"--{name}" if value is None else f"--{name}={value}"
    raise InvalidSettings(f"slurmrestd cannot be told '{said}': leave it out of the engine's 'sbatch'")


def _gres(value: str, version: Version) -> dict[str, Any]:
    if version < _DESCRIPTIONS:
        return {"gres": value}
    mark = "/" if version >= _SLASH else ":"
    return {"tres_per_node": ",".join(f"gres{mark}{part}" for part in value.split(","))}


def _signal(value: str, version: Version) -> dict[str, Any]:
    if version < _DESCRIPTIONS:
        # It takes no "B:", without which the script would not get it.
        return {}
    flag, _, rest = value.rpartition(":")
    name, _, seconds = rest.partition("@")
    flags = {"kill_warning_flags": ["BATCH_JOB"]} if "B" in flag else {}
    return {**flags, "kill_warning_signal": name, "kill_warning_delay": _set(int(seconds or 60))}


def _memory(value: str, version: Version) -> dict[str, Any]:
    mib = int(value.removesuffix("M"))
    return {"memory_per_node": _set(mib) if version >= _DESCRIPTIONS else mib}


def _minutes(value: str, version: Version) -> dict[str, Any]:
    return {"time_limit": _set(int(value)) if version >= _DESCRIPTIONS else int(value)}


_OTHERS: Mapping[str, Callable[[str, Version], dict[str, Any]]] = {
    "gres": _gres,
    "signal": _signal,
    "mem": _memory,
    "time": _minutes,
    "exclude": lambda v, version: {"excluded_nodes": [v]} if version >= _DESCRIPTIONS else {"exclude_nodes": v},
    "open-mode": lambda v, version: {"open_mode": [v.upper()] if version >= _DESCRIPTIONS else v},
    "mail-type": lambda v, version: {"mail_type": v.upper().split(",") if version >= _DESCRIPTIONS else v},
}


def _set(value: int) -> dict[str, Any]:
    return {"set": True, "infinite": False, "number": value}


def _work_out(job: dict[str, Any]) -> None:
    """As sbatch does: tasks, and the processors that they need at least."""
    nodes = str(job.get("nodes", "1")).partition("-")[0]
    if "tasks_per_node" in job and nodes.isdigit():
        job.setdefault("tasks", int(nodes) * job["tasks_per_node"])
    if "tasks" in job:
        job["minimum_cpus"] = job["tasks"] * job.get("cpus_per_task", 1)
