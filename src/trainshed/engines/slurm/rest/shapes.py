"""What slurmrestd answers, as values. Pure, and tolerant: the same thing has another shape in other versions.

Numbers are plain up to v0.0.38, and ``{"set", "infinite", "number"}`` later; states are a word, or a list of a state
and its flags; fields move (``max_time_limit`` to ``maximums.time``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from trainshed.engines.slurm.parsing import NodeLine, QueueLine, state_of

#: Flags of a job's state that say more than the state itself, in the order in which squeue shows one of them.
_TELLING = (
    "COMPLETING",
    "STAGE_OUT",
    "CONFIGURING",
    "RESIZING",
    "REQUEUED",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "SPECIAL_EXIT",
    "STOPPED",
    "REVOKED",
    "RESV_DEL_HOLD",
    "SIGNALING",
)
#: Flags of a node's state as the marks that sinfo puts after it; of these one is enough.
_MARKS = (
    ("POWERED_DOWN", "~"),
    ("POWERING_DOWN", "%"),
    ("POWER_DOWN", "%"),
    ("POWERING_UP", "#"),
    ("POWER_UP", "#"),
    ("REBOOT", "@"),
    ("NOT_RESPONDING", "*"),
)
#: Flags that are a state of their own to sinfo.
_STATES = (
    ("INVALID", "inval"),
    ("FAIL", "fail"),
    ("MAINTENANCE", "maint"),
    ("BLOCKED", "blocked"),
    ("COMPLETING", "completing"),
)


def number(value: Any) -> int | None:
    """None for what is not set, is infinite, or is no number."""
    if isinstance(value, dict):
        if value.get("infinite") or not value.get("set", True):
            return None
        value = value.get("number")
    if isinstance(value, bool) or value is None:
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def words(value: Any) -> list[str]:
    """A list of words, or one word, in capitals."""
    given = value if isinstance(value, list) else [value]
    return [str(one).upper() for one in given if one not in (None, "")]


def errors(answer: Any) -> list[tuple[int | None, str]]:
    """Numbers of Slurm's errors, and what it says."""
    found: list[tuple[int | None, str]] = []
    for one in (answer.get("errors") or []) if isinstance(answer, dict) else []:
        if not isinstance(one, dict):
            found.append((None, str(one)))
            continue
        code = number(one.get("error_number", one.get("error_code", one.get("errno"))))
        said = ": ".join(str(one[name]) for name in ("description", "error") if one.get(name))
        found.append((code, said or f"error {code}"))
    return found


def submitted(answer: Any) -> str:
    """The number of the job that was taken; empty for none."""
    if not isinstance(answer, dict):
        return ""
    result = answer.get("result")
    job = number(answer.get("job_id")) or (number(result.get("job_id")) if isinstance(result, dict) else None)
    return str(job) if job else ""


def queue_lines(answer: Any) -> list[tuple[str, QueueLine]]:
    """Of ``jobs``: users' names with their jobs; elements of an array are jobs of their own."""
    found = []
    for job in _objects(answer, "jobs"):
        for name in _names(job):
            start, uid = number(job.get("start_time")), number(job.get("user_id"))
            line = QueueLine(
                name,
                job_state(job.get("job_state")),
                number(job.get("restart_cnt")) or 0,
                start * 1000 if start else None,
                _text(job.get("comment")),
                _given(_text(job.get("state_description")) or _text(job.get("state_reason"))),
                -1 if uid is None else uid,
            )
            found.append((_text(job.get("user_name")), line))
    return found


def job_state(value: Any) -> str:
    """As squeue has it: one word."""
    given = [state_of(word) for word in words(value)]
    return next((word for word in _TELLING if word in given), given[0] if given else "UNKNOWN")


def node_lines(nodes: Any, partitions: Any) -> list[NodeLine]:
    """Of ``nodes`` and ``partitions``: each node once for each of its partitions."""
    limits = {_text(one.get("name")): _minutes(one) for one in _objects(partitions, "partitions")}
    known = _objects(partitions, "partitions")
    default = next((_text(one.get("name")) for one in known if "DEFAULT" in words(one.get("flags"))), "")
    if not default and len(known) == 1:
        # Later versions do not say which it is.
        default = _text(known[0].get("name"))
    found = []
    for node in _objects(nodes, "nodes"):
        state, marks = node_state(words(node.get("state")) + words(node.get("state_flags")))
        for partition in node.get("partitions") or [""]:
            found.append(
                NodeLine(
                    _text(node.get("name")),
                    f"{partition}*" if partition == default else str(partition),
                    limits.get(str(partition)),
                    state,
                    marks,
                    _text(node.get("address")),
                    number(node.get("cpus")) or 0,
                    number(node.get("real_memory")) or 0,
                    _text(node.get("gres")),
                    _given(_text(node.get("reason"))),
                )
            )
    return found


def node_state(given: Iterable[str]) -> tuple[str, str]:
    """State in small letters and marks, as sinfo has them, from a state and its flags."""
    state, *flags = [*given] or ["UNKNOWN"]
    marks = "".join(dict.fromkeys(mark for flag, mark in _MARKS if any(one.startswith(flag) for one in flags)))
    own = state.lower()
    if "DRAIN" in flags and own != "down":
        return ("drained" if own == "idle" else "draining"), marks
    if own in ("idle", "unknown", "down"):
        own = next((name for flag, name in _STATES if any(one.startswith(flag) for one in flags)), own)
    return own, marks


def final_states(answer: Any) -> dict[str, str]:
    """Of accounting's ``jobs``: states of jobs by number."""
    found = {}
    for job in _objects(answer, "jobs"):
        state = job.get("state")
        current = state.get("current") if isinstance(state, dict) else state
        if current:
            found[_text(job.get("job_id"))] = job_state(current)
    return found


def associations(answer: Any) -> set[tuple[str, str]]:
    """Accounts with their users."""
    pairs = ((_text(one.get("account")), _text(one.get("user"))) for one in _objects(answer, "associations"))
    return {(account, user) for account, user in pairs if account}


def release(answer: Any) -> str:
    """Slurm's version out of ``meta``, whose member has had two names."""
    meta = answer.get("meta") if isinstance(answer, dict) else None
    slurm = (meta or {}).get("slurm") or (meta or {}).get("Slurm") or {}
    return _text(slurm.get("release"))


def cluster(answer: Any) -> str:
    """Name of the cluster, where ``meta`` says it."""
    return _text((((answer or {}).get("meta") or {}).get("slurm") or {}).get("cluster"))


def _names(job: dict[str, Any]) -> list[str]:
    array, task = number(job.get("array_job_id")), number(job.get("array_task_id"))
    if not array:
        return [_text(job.get("job_id"))]
    if task is not None:
        return [f"{array}_{task}"]
    return [f"{array}_{index}" for index in indices(_text(job.get("array_task_string")))] or [str(array)]


def indices(text: str) -> list[int]:
    """``0-3,7,10-20:5%2`` as numbers: what is left of a job array that waits."""
    found: list[int] = []
    for part in text.partition("%")[0].strip("[]").split(","):
        if one := re.fullmatch(r"(\d+)(?:-(\d+))?(?::(\d+))?", part.strip()):
            found += range(int(one[1]), int(one[2] or one[1]) + 1, int(one[3] or 1))
    return found


def _minutes(partition: dict[str, Any]) -> int | None:
    most = number((partition.get("maximums") or {}).get("time", partition.get("max_time_limit")))
    return most if most is not None and 0 < most < 2**31 else None


def _objects(answer: Any, name: str) -> list[dict[str, Any]]:
    found = answer.get(name) if isinstance(answer, dict) else None
    return [one for one in found or [] if isinstance(one, dict)]


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _given(text: str) -> str:
    return "" if text in ("None", "none", "(null)", "N/A") else text
